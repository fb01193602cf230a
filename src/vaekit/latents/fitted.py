"""A prior that is fitted to the codes of a trained model, as a model of its own."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaekit.distributions.point import Point
from vaekit.errors import UserError
from vaekit.latents.base import Prior
from vaekit.networks.condition import AttributeCondition, Condition
from vaekit.output import Batch, VAEOutput
from vaekit.part import Part


class Fitted(Part):
    """Codes are its data: it has no latents, and its -ELBO is the prior's own loss. The loop of VAEs trains it; then it is a VAE's `sampler`.

    Real codes are standardized by the mean and standard deviation of each dimension, or of each channel of a map (a position that hardly varies, at
    the border say, is not blown up), so that the scale of a latent lives here and nowhere else; the log of it is in the loss, which for a prior with
    a density is thus -log p(code) in nats. A code [*E] comes as an image [C,H,W] of as many values.

    Args:
        prior: what is fitted: to vectors [D] or maps [D,h,w] if the codes are real, to indices [Q,h,w] if they are not.
        shape: *E, the shape of one code.
        discrete: whether codes are indices.
        condition: embeds what the prior is told; None for an unconditional one.
        dropped: the share of training codes that come without their condition, as the zero vector: what guidance needs.
    """

    mean: Tensor
    std: Tensor
    latent = None

    def __init__(self, prior: Prior, shape: list[int], discrete: bool = False, condition: Condition | None = None, dropped: float = 0.1) -> None:
        super().__init__()
        self.prior, self.shape, self.discrete = prior, tuple(shape), discrete
        self.condition, self.dropped = condition, dropped
        self.register_buffer("mean", torch.zeros(*shape))
        self.register_buffer("std", torch.ones(*shape))

    def forward(self, batch: Batch | Tensor, k: int = 1) -> VAEOutput:
        """The loss of each code as the distortion of a model without latents."""
        batch = Batch.of(batch)
        c = None
        if self.condition is not None:
            if batch.condition is None:
                raise UserError("This prior is conditional: give each code its class or attributes (Batch.condition).")
            c = self.condition(batch.condition)
            if self.training and self.dropped > 0:
                c = c * (torch.rand(len(c), 1, device=c.device) >= self.dropped)
        return VAEOutput(batch, Point(batch.x), -self._loss(batch.x, c).unsqueeze(0), ())

    def _loss(self, x: Shaped[Tensor, "B *X"], c: Float[Tensor, "B G"] | None) -> Float[Tensor, "B"]:
        """The prior's own, in the units of the codes as they come."""
        loss = self.prior.loss(self._coded(x), c)
        return loss if self.discrete else loss + self.std.log().sum()

    def _coded(self, x: Shaped[Tensor, "B *X"]) -> Shaped[Tensor, "B *E"]:
        code = x.reshape(len(x), *self.shape)
        return code.long() if self.discrete else (code.float() - self.mean) / self.std

    @property
    def weighs(self) -> bool:
        """Whether it says how likely a code of real numbers is, so that codes can be weighed by it and followed along its density."""
        return self.prior.exact and not self.discrete

    def log_prob(self, code: Shaped[Tensor, "N *E"], condition: Tensor | None = None) -> Float[Tensor, "N"]:
        """log p(code|condition) in nats; without one log p(code), which a conditional prior has learnt from the codes that came without theirs.

        Raises `UserError` for a prior without a density.
        """
        if not self.prior.exact:
            raise UserError(f"{type(self.prior).__name__} draws codes and has no density of them.")
        c = None
        if self.condition is not None:
            c = self.mean.new_zeros(len(code), self.condition.features) if condition is None else self.condition(condition)
        return -self._loss(code, c)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        condition: Tensor | None = None,
        temperature: float = 1.0,
        guidance: float = 1.0,
        top: int | None = None,
        in_turn: bool = True,
    ) -> Shaped[Tensor, "n *E"]:
        """n codes as the model's decoder side takes them.

        Args:
            condition: raw, one for each; where none is given, classes in turn, and of attributes none.
            in_turn: False for codes of no class instead, which follow p(code) as `log_prob` has it.
            guidance: how much the condition counts, where the prior has it (see `FlowMatching` and `OrderedCodes`).
            top: only the likeliest few of each index are drawn, where the prior has it (see `OrderedCodes`).

        Raises:
            UserError: for a condition, guidance or top that this prior does not know.
        """
        more: dict[str, Any] = ({"guidance": guidance} if guidance != 1.0 else {}) | ({"top": top} if top is not None else {})
        for name in more:
            if name not in self.prior.takes:
                cure = "" if self.discrete or name == "top" else ", or fit a prior that has it: vaekit fit-prior RUN --prior flow-matching"
                raise UserError(f"{type(self.prior).__name__} has no {name}: leave it out{cure}.")
        if "guidance" in more and self.condition is None:
            raise UserError("guidance is how much the condition counts, and this prior was fitted without one: fit it with --condition class.")
        if "guidance" in more and condition is None and isinstance(self.condition, AttributeCondition):
            raise UserError("guidance is how much attributes count, and none are given: say them with --attributes, or leave it out.")
        if not math.isfinite(guidance):
            raise UserError(f"guidance is a number, 1 for none, and it is {guidance}.")
        if top is not None and top < 1:
            raise UserError(f"top is how many of each index are kept, at least 1, and it is {top}.")
        if condition is not None and self.condition is None:
            raise UserError("This prior was fitted without a condition: fit it with --condition class to choose one.")
        c = None
        if self.condition is not None:
            c = self._embedded(n, condition, in_turn)
        code = self.prior.sample(n, c=c, temperature=temperature, **more)
        return code if self.discrete else code * self.std + self.mean

    def _embedded(self, n: int, condition: Tensor | None, in_turn: bool) -> Float[Tensor, "n G"]:
        assert self.condition is not None
        if condition is None and (not in_turn or isinstance(self.condition, AttributeCondition)):
            return self.mean.new_zeros(n, self.condition.features)
        told = self.condition.draw(n) if condition is None else condition.expand(n, *condition.shape[1:])
        return self.condition(told.to(self.device))

    @torch.no_grad()
    def initialize(self, batch: Batch | Tensor) -> None:
        """Measures mean and standard deviation on one large batch; what does not vary keeps its width."""
        batch = Batch.of(batch)
        c = None
        if self.condition is not None and batch.condition is not None:
            self.condition.initialize(batch.condition)
            c = self.condition(batch.condition)
        if not self.discrete:
            code = batch.x.reshape(len(batch), *self.shape).float()
            together = (0, *range(2, code.dim()))
            self.mean.copy_(code.mean(together, keepdim=True)[0])
            spread = code.std(together, correction=0, keepdim=True)[0]
            self.std.copy_(torch.where(spread > 1e-6, spread, 1.0))
            self.prior.initialize(self._coded(batch.x), c)

    def post_step(self, stats: Mapping[str, Mapping[str, Tensor]]) -> None:
        """It has no state."""

    @property
    def device(self) -> torch.device:
        return self.mean.device
