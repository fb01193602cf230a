"""How likely a model finds images: the ELBO with its parts, and the importance-weighted bound."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.evaluation.passes import Batches, Progress, passes
from vaekit.model import VAE
from vaekit.output import Batch, VAEOutput


@dataclass(frozen=True)
class Bound:
    """The ELBO of each image and its parts, in nats per image (float64, on the CPU)."""

    rate: Float[Tensor, "n"]
    """KL(q(z|x) || p(z)): in closed form where there is one, else by the posterior sample."""
    distortion: Float[Tensor, "n"]
    """-log p(x|z) of one posterior sample."""
    entropy: Float[Tensor, "n"]
    """H(q(z|x))."""
    bounded: bool = True
    """Whether -(rate + distortion) bounds log p(x); an autoencoder's points among the reals have no bound."""

    @property
    def elbo(self) -> Float[Tensor, "n"]:
        """-(rate + distortion)."""
        return -(self.rate + self.distortion)

    @property
    def cross_entropy(self) -> Float[Tensor, "n"]:
        """E_q[-log p(z)] = rate + entropy."""
        return self.rate + self.entropy

    def __len__(self) -> int:
        return self.rate.shape[0]

    def means(self) -> dict[str, float | None]:
        """The mean of each over the images, with `elbo_nats` = -(`rate_nats` + `distortion_nats`); only the distortion where there is no bound."""
        rate, distortion, entropy = self.rate.mean().item(), self.distortion.mean().item(), self.entropy.mean().item()
        return {
            "elbo_nats": -(rate + distortion) if self.bounded else None,
            "rate_nats": rate if self.bounded else None,
            "distortion_nats": distortion,
            "cross_entropy_nats": rate + entropy if self.bounded else None,
            "entropy_nats": entropy if self.bounded else None,
        }


class Parts:
    """Collects a `Bound` from forward passes with one posterior sample."""

    def __init__(self) -> None:
        self._parts: list[Float[Tensor, "3 B"]] = []
        self._bounded = True

    @torch.no_grad()
    def add(self, out: VAEOutput) -> None:
        self._bounded &= out.bounded
        # Moved to the CPU at the end, so that the device is never waited for.
        self._parts.append(torch.stack([out.rate()[0].float(), out.distortion[0].float(), out.entropy()[0].float()]))

    def bound(self) -> Bound:
        rate, distortion, entropy = torch.cat(self._parts, dim=1).cpu().double()
        return Bound(rate, distortion, entropy, self._bounded)


def elbo(
    model: VAE,
    batches: Batches,
    *,
    seed: int = 0,
    precision: str = "fp32",
    progress: Progress | None = None,
    total: int | None = None,
) -> Bound:
    """The ELBO of each image with one posterior sample, the divergence in closed form where there is one; deterministic in `seed`.

    Args:
        batches, seed, precision, progress, total: see `passes`.
    """
    parts = Parts()
    for out in passes(model, batches, model, seed=seed, precision=precision, progress=progress, total=total):
        parts.add(out)
    return parts.bound()


def iw_bound(
    model: VAE,
    batches: Batches,
    k: int = 64,
    chunk: int | None = None,
    *,
    seed: int = 0,
    start: int = 0,
    precision: str = "fp32",
    progress: Progress | None = None,
    total: int | None = None,
) -> Float[Tensor, "n"]:
    """The importance-weighted bound on log p(x) with k posterior samples, [n] nats per image (float64, on the CPU).

    log (1/k) sum_i p(x, z_i) / q(z_i|x), z_i ~ q(z|x): between the ELBO and log p(x), and closer to log p(x) as k grows.

    Args:
        chunk: how many of the k samples are in memory at once (see `VAE.score`); another number is another draw of the noise.
        batches, seed, start, precision, progress, total: see `passes`.

    References: Importance Weighted Autoencoders (Burda et al., 2015), Eq. 8, https://arxiv.org/abs/1509.00519
    """

    def compute(batch: Batch) -> Tensor:
        return model.score(batch, k=k, chunk=chunk)

    scores = passes(model, batches, compute, seed=seed, start=start, precision=precision, progress=progress, total=total)
    return torch.cat(list(scores)).cpu().double()


def mean_and_se(values: Float[Tensor, "n"]) -> tuple[float, float | None]:
    """The mean and its standard error, std / sqrt(n); one value has no standard error."""
    n = values.shape[0]
    return values.mean().item(), values.std().item() / math.sqrt(n) if n > 1 else None
