"""What latents with one stochastic layer have in common: how new codes reach the decoder."""

import abc

from torch import Tensor

from vaekit.errors import UserError
from vaekit.latents.base import Anchors, Latent


class SingleLayer(Latent):
    """One code, which the decoder takes as it is."""

    @abc.abstractmethod
    def draw(self, n: int, c: Tensor | None, anchors: Anchors | None, temperature: float) -> Tensor:
        """n codes [n, *E] of the prior."""

    def generate(
        self, n: int, *, code: tuple[Tensor, ...] = (), anchors: Anchors | None = None, temperature: float = 1.0, c: Tensor | None = None
    ) -> Tensor:
        if len(code) > 1:
            raise UserError(f"This model has one stochastic layer, and {len(code)} codes were given.")
        return code[0] if code else self.draw(n, c, anchors, temperature)

    def prior_codes(self, n: int, *, anchors: Anchors | None = None, c: Tensor | None = None) -> Tensor:
        return self.draw(n, c, anchors, 1.0)
