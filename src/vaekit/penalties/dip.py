"""The covariance of the aggregate posterior: DIP-VAE."""

from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.precision import full_precision
from vaekit.errors import UserError
from vaekit.objectives.schedules import Schedule
from vaekit.output import VAEOutput
from vaekit.part import Part
from vaekit.penalties.base import Penalty


def covariance(x: Float[Tensor, "B D"]) -> Float[Tensor, "D D"]:
    """The covariance over the batch, unbiased."""
    with full_precision(x):
        centred = x.float() - x.float().mean(0)
        return centred.T @ centred / (len(x) - 1)


def of_means(q: Distribution, size: int) -> Float[Tensor, "D D"]:
    """Cov[mu(x)]."""
    return covariance(q.mean[:size].flatten(1))


def of_codes(q: Distribution, size: int) -> Float[Tensor, "D D"]:
    """Cov[z] = Cov[mu(x)] + E[diag sigma^2(x)], by the law of total covariance."""
    return of_means(q, size) + q.variance[:size].flatten(1).mean(0).diag()


KINDS: dict[str, Callable[[Distribution, int], Tensor]] = {"I": of_means, "II": of_codes}


class DIP(Penalty):
    """off_diagonal sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2, with C the covariance of the means (I) or of the codes (II) over the batch.

    It is a figure of the batch, a scalar. C is estimated without bias; its square is too large by about C_ii C_jj / B on average.

    References: Variational Inference of Disentangled Latent Concepts (Kumar et al., 2017), Eq. 6 and 7, https://arxiv.org/abs/1711.00848

    Args:
        kind: "I" or "II".
        off_diagonal, diagonal: the weights of the two sums, in nats.

    Raises:
        UserError: for an unknown kind.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"moments"})

    def __init__(self, kind: str = "I", off_diagonal: float = 10.0, diagonal: float = 100.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        if kind not in KINDS:
            raise UserError(f"There are DIP-VAEs of the kinds {' and '.join(KINDS)}, and not '{kind}'.")
        self.covariance_of, self.off_diagonal, self.diagonal = KINDS[kind], off_diagonal, diagonal

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, ""]:
        q, size = out.terms[0].q, len(out.batch)
        if q is None or size < 2:
            return 0 * out.terms[0].z.sum()
        c = self.covariance_of(q, size)
        own = c.diagonal()
        return self.off_diagonal * (c.square().sum() - own.square().sum()) + self.diagonal * (own - 1).square().sum()
