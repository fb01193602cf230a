"""Categorical codes, learned by a continuous relaxation."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaekit.distributions.relaxed_categorical import Categories, OneHots, RelaxedOneHots
from vaekit.errors import UserError
from vaekit.latents.base import Posterior


class RelaxedCategorical(Posterior):
    """q(z|x) = prod over V variables of Categorical(K), the code a vector of V one-hot vectors, with one dense layer to the logits.

    In training the samples are relaxed (Gumbel-softmax) at a temperature that falls from `start` to `end` over the run, by the same factor in
    each equal part of it. In eval mode they are exact one-hot draws, so that the ELBO is a bound; the divergence is that of the categorical
    variables always.

    Raises `UserError` for less than two classes, and for temperatures that are not above 0.

    References:
        Categorical Reparameterization with Gumbel-Softmax (Jang et al., 2016), https://arxiv.org/abs/1611.01144
        The Concrete Distribution (Maddison et al., 2016), https://arxiv.org/abs/1611.00712

    Args:
        features: F, the width of the encoder's output [N, F].
        variables: V.
        classes: K.
        start, end: the temperature at the beginning and at the end of the run.
    """

    support: ClassVar[str] = "categories"
    temperature: Tensor

    def __init__(self, features: int, variables: int, classes: int, start: float = 1.0, end: float = 0.5) -> None:
        super().__init__()
        if variables < 1 or classes < 2:
            raise UserError(f"A categorical code has at least one variable of two classes, and this has {variables} of {classes}.")
        if not (start > 0 and end > 0):
            raise UserError(f"A temperature is above 0, and it was to go from {start} to {end}.")
        self.variables, self.classes, self.start, self.end = variables, classes, start, end
        self.head = nn.Linear(features, variables * classes)
        self.register_buffer("temperature", torch.tensor(float(start)), persistent=False)

    @property
    def gives(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"divergence", "classes"} if self.variables == 1 else {"divergence"})

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.variables * self.classes,)

    def forward(self, h: Float[Tensor, "N F"]) -> Categories:  # type: ignore[override]
        logits = self.head(h).float().unflatten(-1, (self.variables, self.classes))
        return RelaxedOneHots(logits, self.temperature) if self.training else OneHots(logits)

    def progress(self, fraction: float) -> dict[str, float]:
        value = self.start * (self.end / self.start) ** min(max(fraction, 0.0), 1.0)
        self.temperature.fill_(value)
        return {"temperature": value}
