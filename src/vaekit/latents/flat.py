"""One stochastic layer: any posterior with any prior."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vaekit.errors import UserError
from vaekit.latents.base import DensityPrior, Features, Latent, Posterior
from vaekit.output import LatentTerm


class Flat(Latent):
    """z ~ q(z|x), p(z): the code is a vector (or one map), and the decoder takes it as it is.

    References: Auto-Encoding Variational Bayes (Kingma, Welling, 2013), https://arxiv.org/abs/1312.6114
    """

    def __init__(self, posterior: Posterior, prior: DensityPrior) -> None:
        super().__init__()
        self.posterior = posterior
        self.prior = prior

    def infer(self, h: Features, *, anchors: Any = None, c: Tensor | None = None, mean: bool = False) -> tuple[Tensor, tuple[LatentTerm, ...]]:
        q = self.posterior(h)
        z = q.mean if mean else q.rsample()
        return z, (LatentTerm(z, q, self.prior(c)),)

    def generate(self, n: int, *, code: tuple[Tensor, ...] = (), anchors: Any = None, temperature: float = 1.0, c: Tensor | None = None) -> Tensor:
        if len(code) > 1:
            raise UserError(f"This model has one stochastic layer, and {len(code)} codes were given.")
        return code[0] if code else self.prior.sample(n, c=c, temperature=temperature)

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        """A flat latent has no state."""
