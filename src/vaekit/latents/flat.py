"""One stochastic layer: any posterior with any prior."""

from collections.abc import Mapping

from torch import Tensor
from torch.distributions import Distribution

from vaekit.compatibility import require
from vaekit.distributions.point import Point
from vaekit.errors import UserError
from vaekit.latents.base import AnchoredPrior, Anchors, DensityPrior, Features, Posterior
from vaekit.latents.single import SingleLayer
from vaekit.output import LatentTerm


class Flat(SingleLayer):
    """z ~ q(z|x), p(z): the code is a vector (or one map), and the decoder takes it as it is.

    Raises `UserError` for a posterior and a prior that do not go together.

    References: Auto-Encoding Variational Bayes (Kingma, Welling, 2013), https://arxiv.org/abs/1312.6114
    """

    def __init__(self, posterior: Posterior, prior: DensityPrior | AnchoredPrior) -> None:
        super().__init__()
        names = type(prior).__name__, type(posterior).__name__
        if posterior.support != prior.support:
            raise UserError(f"{names[0]} does not go with {names[1]}: its codes are {prior.support}, and the posterior's are {posterior.support}.")
        require(names[0], prior.needs, names[1], posterior.gives)
        self.posterior = posterior
        self.prior = prior

    @property
    def gives(self) -> frozenset[str]:
        return self.posterior.gives | {"single"}

    @property
    def anchored(self) -> AnchoredPrior | None:
        return self.prior if isinstance(self.prior, AnchoredPrior) else None

    def infer(
        self,
        h: Features,
        *,
        anchors: Anchors | None = None,
        c: Tensor | None = None,
        label: Tensor | None = None,
        mean: bool = False,
    ) -> tuple[Tensor, tuple[LatentTerm, ...]]:
        q = self.posterior(h)
        z = q.mean if mean else q.rsample()
        return z, (LatentTerm(z, None if isinstance(q, Point) else q, self._p(c, anchors)),)

    def _p(self, c: Tensor | None, anchors: Anchors | None) -> Distribution:
        if not isinstance(self.prior, AnchoredPrior):
            return self.prior(c)
        if anchors is None:
            raise UserError(f"{type(self.prior).__name__} is made of posteriors of images: ask the model, which has the encoder, and not the latent.")
        return self.prior(self.posterior(anchors.h), anchors.same)

    def draw(self, n: int, c: Tensor | None, anchors: Anchors | None, temperature: float) -> Tensor:
        if not isinstance(self.prior, AnchoredPrior):
            return self.prior.sample(n, c=c, temperature=temperature)
        if anchors is None:
            raise UserError(f"{type(self.prior).__name__} is made of posteriors of images: sample from the model, which has the encoder.")
        return self.prior.sample(n, self.posterior(anchors.h), temperature=temperature)

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        """A flat latent has no state."""
