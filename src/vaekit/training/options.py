"""How a model is trained: the options of a run, with a recipe's defaults."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from vaekit.errors import UserError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
SCHEDULES = ("constant", "cosine", "linear")
OPTIMIZERS = ("adam", "adamw", "adamax", "muon", "muon-kernels")


@dataclass(frozen=True)
class Training:
    """Everything that decides how weights move.

    Limits on gradients are in nats per image, whose gradient grows with the number of its values. `epochs` counts passes over the training split;
    with `minutes` the number of images is measured at the start instead.
    """

    epochs: float = 10
    minutes: float | None = None
    batch_size: int = 64
    optimizer: str = "adam"
    """muon: a step of the same size in every direction of a hidden layer's matrix, AdamW for all else; muon-kernels: those of convolutions alone,
    where it costs next to nothing, while a dense layer's takes longer than the layer itself."""
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    """On matrices and kernels alone: decoupled (adamw, muon), or added to the gradient (adam, adamax)."""
    schedule: str = "constant"
    """After the warm-up: constant; cosine to 0; or flat to `lr_hold` and then linear to 0."""
    lr_warmup: float = 0.0
    """Fraction of the run over which the rate rises from 0."""
    lr_hold: float = 0.4
    """Fraction of the run up to which the linear schedule is flat."""
    ema: float = 0.0
    """Decay of the averaged weights per step, 0 for none: validation, samples and the saved model use the average."""
    clip: float | None = None
    """Gradient norm in nats above which the gradient is scaled down."""
    skip: float | None = None
    """Gradient norm in nats above which the step is skipped."""
    precision: str = "auto"
    """fp32, bf16, fp16, or auto: whichever of fp32 and bf16 is measured to be faster here."""
    compile: bool = False
    augment: str | None = None
    augment_until: float = 1.0
    """Fraction of the run after which training images are left as they are, so that what the model learns at last is their own distribution."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("precision", PRECISIONS), ("schedule", SCHEDULES), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} is one of {', '.join(allowed)}, and not '{getattr(self, name)}'.")
        for name in ("epochs", "batch_size", "lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name.replace('_', '-')} must be a number above 0, and it is {getattr(self, name)}.")
        for name in ("clip", "skip"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise UserError(f"{name} is a limit on the gradient's norm in nats, above 0, and it is {getattr(self, name)}.")
        if not 0 <= self.weight_decay < math.inf:
            raise UserError(f"weight-decay is a number of at least 0, and it is {self.weight_decay}.")
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"minutes must be above 0, and it is {self.minutes}.")
        if not 0 < self.augment_until <= 1:
            raise UserError(f"augment-until is a fraction of the run, above 0 and at most 1, and it is {self.augment_until}.")
        if self.augment_until < 1 and not self.augment:
            raise UserError("augment-until is of an augmentation, and there is none: name some with --augment.")
        if not 0 <= self.ema < 1:
            raise UserError(f"ema is the decay of an average, at least 0 and below 1, and it is {self.ema}.")

    def with_options(self, **options: Any) -> "Training":
        """The same with each option that is not None replaced."""
        return replace(self, **{k: v for k, v in options.items() if v is not None})

    @classmethod
    def names(cls) -> set[str]:
        return {f.name for f in fields(cls)}

    @classmethod
    def complete(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a run; one that the run is older than had its default."""
        return {f.name: f.default for f in fields(cls)} | dict(options)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"betas": list(self.betas)}

    def rate(self, fraction: float) -> float:
        """The learning rate at this fraction of the run."""
        if fraction < self.lr_warmup:
            return self.lr * fraction / self.lr_warmup
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * min((fraction - self.lr_warmup) / (1 - self.lr_warmup), 1)))
        if self.schedule == "linear" and fraction > self.lr_hold:
            return self.lr * max(1 - (fraction - self.lr_hold) / (1 - self.lr_hold), 0.0)
        return self.lr
