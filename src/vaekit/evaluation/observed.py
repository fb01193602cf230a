"""How much of the images there is to score."""

from vaekit.evaluation.passes import Batches
from vaekit.output import Batch


def observed_fraction(batches: Batches) -> float | None:
    """The share of values that are observed; None where nothing is said to be missing (then only the first batch is looked at)."""
    seen = total = 0
    for item in batches:
        mask = Batch.of(item).mask
        if mask is None:
            return None
        seen, total = seen + int(mask.sum()), total + mask.numel()
    return seen / total if total else None
