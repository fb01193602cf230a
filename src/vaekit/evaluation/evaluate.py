"""The pass that validation and reports share: the parts of the ELBO and the use of the latent, at the cost of one forward pass."""

from dataclasses import dataclass

from vaekit.evaluation.latent import LatentStatistics
from vaekit.evaluation.likelihood import Bound, Parts
from vaekit.evaluation.passes import Batches, Progress, passes
from vaekit.latents.fitted import Fitted
from vaekit.model import VAE


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split tells."""

    bound: Bound
    latent: LatentStatistics

    def means(self) -> dict[str, float | int | None]:
        """One row for the log: the means of the bound's parts, `active_units`, and `codebook_perplexity` where there is a codebook."""
        codes = self.latent.codebook_perplexity
        return self.bound.means() | {"active_units": self.latent.active_units} | ({} if codes is None else {"codebook_perplexity": codes})


def evaluate_batches(
    model: VAE | Fitted,
    batches: Batches,
    seed: int = 0,
    *,
    precision: str = "fp32",
    progress: Progress | None = None,
    total: int | None = None,
) -> Evaluation:
    """The ELBO of each image and the statistics of its latents, from one posterior sample; deterministic in `seed`.

    Args:
        batches, seed, precision, progress, total: see `passes`.
    """
    parts, latent = Parts(), LatentStatistics()
    for out in passes(model, batches, model, seed=seed, precision=precision, progress=progress, total=total):
        parts.add(out)
        latent.update(out.terms)
    return Evaluation(parts.bound(), latent)
