"""How much of the images there is to score."""

from vaekit.evaluation.passes import Batches
from vaekit.output import Batch


def observed_fraction(batches: Batches, joint: bool = False) -> float | None:
    """The share of values that are scored; None where nothing is said to be missing (then only the first batch is looked at).

    Args:
        joint: a pixel is scored only where all its channels are observed (`Likelihood.joint`).
    """
    seen = total = 0
    for item in batches:
        mask = Batch.of(item).mask
        if mask is None:
            return None
        scored = mask.all(1, keepdim=True).expand_as(mask) if joint else mask
        seen, total = seen + int(scored.sum()), total + mask.numel()
    return seen / total if total else None
