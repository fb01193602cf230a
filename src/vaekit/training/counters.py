"""Where a run stands."""

from dataclasses import dataclass, field


@dataclass
class Counters:
    """Where a run stands: all that a checkpoint keeps beside tensors."""

    images: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Of loss, distortion and rate over the images since the last validation."""
    summed: int = 0
    skipped: int = 0
    in_a_row: int = 0
    rollbacks: int = 0
    rate_scale: float = 1.0
    averaged: int = 0
    best: float | None = None
    plain: bool = False
    """Whether augmentation has ended: a run of so many minutes can grow longer, and does not begin again with it."""
    seconds: float = 0.0
    """Of the steps, validation not counted."""
    validating: float = 0.0
    """Seconds of validation."""
    start: float = 0.0
    """Seconds of what the data fill at the start: most of a mixture's fit."""
    scaler: dict[str, float] = field(default_factory=dict)
    """How far the loss is scaled in fp16."""
