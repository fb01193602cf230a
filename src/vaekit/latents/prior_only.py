"""The latent of a model that only generates."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.errors import UserError
from vaekit.latents.base import Anchors, DensityPrior, Features
from vaekit.latents.single import SingleLayer
from vaekit.output import LatentTerm


class PriorOnly(SingleLayer):
    """q(z|x) = p(z): no encoder says which code belongs to an image, so that each gets a draw of the prior, as in a GAN.

    The rate is log q - log p = 0, and E_p(z)[log p(x|z)] <= log p(x) is a bound by Jensen's inequality: a valid one, and as loose as can be, since
    the code knows nothing of the image.

    Raises `UserError` for a prior whose distribution cannot be repeated for each image: N(0, I) is the one that GANs have.

    References: Generative Adversarial Nets (Goodfellow et al., 2014), section 3 (the prior on input noise), https://arxiv.org/abs/1406.2661
    """

    blind: ClassVar[bool] = True

    def __init__(self, prior: DensityPrior) -> None:
        super().__init__()
        self.prior = prior
        try:
            self._each(1, None)
        except (NotImplementedError, AttributeError) as error:
            raise UserError(f"{type(prior).__name__} cannot stand without a posterior: give the generator a StandardNormal.") from error

    def _each(self, n: int, c: Tensor | None) -> Distribution:
        """p(z) or p(z|c), one for each of n images."""
        p = self.prior(c)
        return p if p.batch_shape else p.expand(torch.Size([n]))

    @property
    def gives(self) -> frozenset[str]:
        return frozenset({"density", "vector", "single"} if self.prior.support == "reals" else {"density", "single"})

    def infer(
        self,
        h: Features,
        *,
        anchors: Anchors | None = None,
        c: Tensor | None = None,
        label: Tensor | None = None,
        mean: bool = False,
    ) -> tuple[Tensor, tuple[LatentTerm, ...]]:
        """Of `h` only the number of its rows counts."""
        n = len(next(iter(h.values()))) if isinstance(h, dict) else len(h)
        q = self._each(n, c)
        z = q.mean if mean else self.prior.sample(n, c=c)
        return z, (LatentTerm(z, q, q),)

    def draw(self, n: int, c: Tensor | None, anchors: Anchors | None, temperature: float) -> Tensor:
        return self.prior.sample(n, c=c, temperature=temperature)
