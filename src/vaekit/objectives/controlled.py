"""Objectives with a weight that follows the run: the rate or the distortion is set, and the weight is found."""

import abc
import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.distributions.pixel_gaussian import PixelGaussian
from vaekit.distributions.pixel_laplace import PixelLaplace
from vaekit.errors import UserError
from vaekit.objectives.base import Objective
from vaekit.objectives.weights import with_penalty
from vaekit.output import VAEOutput, fold


class Controlled(Objective):
    """An objective with a weight exp(c) > 0 that moves after each step: c += gain * clamp(error, -1, 1), within [1e-3, 1e3].

    The error is a fraction, so that the gain means the same for images of any size; it is that of a moving average over the batches
    (of about 1/(1 - DECAY) = 20 steps).
    """

    DECAY = 0.95
    LIMIT = math.log(1e3)

    needs = frozenset({"divergence"})

    log_weight: Tensor
    average: Tensor
    started: Tensor

    def __init__(self, gain: float) -> None:
        super().__init__()
        if not gain > 0:
            raise UserError(f"gain is how far the weight moves in one step, above 0 (0.01 as a rule), and it is {gain}.")
        self.gain = gain
        for name in ("log_weight", "average", "started"):
            self.register_buffer(name, torch.zeros(()))

    @property
    def weight(self) -> Float[Tensor, ""]:
        """exp(c)."""
        return self.log_weight.exp()

    @abc.abstractmethod
    def error(self) -> Float[Tensor, ""]:
        """How far the average is from where it should be, as a fraction; above 0 where the weight must grow."""

    @torch.no_grad()
    def _follow(self, value: Float[Tensor, ""]) -> None:
        self.average.copy_(torch.where(self.started > 0, self.average.lerp(value.to(self.average), 1 - self.DECAY), value.to(self.average)))
        self.started.fill_(1.0)
        self.log_weight.add_(self.gain * self.error().clamp(-1, 1)).clamp_(-self.LIMIT, self.LIMIT)


class GECO(Controlled):
    """rate + lambda (distortion - target), in nats per image: the least rate with which the distortion stays at its target.

    lambda > 0 is a multiplier that rises while the average distortion is above the target, and falls below it:
    log lambda += gain * clamp((average - floor) / (target - floor) - 1, -1, 1). lambda = 1 is the ELBO, which is where it starts.

    The floor is the distortion of a perfect mean: -log p(mean|mean) for Gaussian and Laplace noise of a fixed width, else 0. Without a target
    of its own, it is set from the data: floor + fraction * (D0 - floor), where D0 is the distortion of the untrained model, whose decoder
    starts at each pixel's mean. For a fixed Gaussian, `fraction` is therefore the part of the pixels' variance that may be left unexplained.

    References: Taming VAEs (Rezende, Viola, 2018), algorithm 1, https://arxiv.org/abs/1810.00597

    Args:
        target: nats per image; None to set it from the data.
        fraction: as above, between 0 and 1.
        gain: how far log lambda moves in one step, at most.

    Raises:
        UserError: for a fraction outside of 0 to 1, and, at the start, for a target that even a perfect mean does not reach.
    """

    target: Tensor
    floor: Tensor

    def __init__(self, target: float | None = None, fraction: float = 0.25, gain: float = 0.01) -> None:
        super().__init__(gain)
        if not 0 < fraction < 1:
            raise UserError(f"fraction is the part of the first distortion that may be left, between 0 and 1, and it is {fraction}.")
        self.fixed, self.fraction = target is not None, fraction
        self.register_buffer("target", torch.tensor(0.0 if target is None else float(target)))
        self.register_buffer("floor", torch.zeros(()))

    @torch.no_grad()
    def initialize(self, out: VAEOutput) -> None:
        start, floor = out.distortion.mean(), perfect_distortion(out)
        self.floor.copy_(floor)
        if not self.fixed:
            self.target.copy_(floor + self.fraction * (start - floor))
        elif self.target <= floor:
            raise UserError(
                f"A distortion of {self.target:.0f} nats cannot be reached: a perfect mean has {floor:.0f}, and the model starts at {start:.0f}."
            )

    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        return with_penalty((out.rate() + self.weight * (out.distortion - self.target)).mean(0), out)

    def error(self) -> Float[Tensor, ""]:
        return (self.average - self.target) / (self.target - self.floor).clamp_min(1e-6)

    def stats(self, out: VAEOutput) -> Mapping[str, Tensor]:
        return {"distortion": out.distortion.detach().mean()}

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        self._follow(stats["distortion"])

    def progress(self, fraction: float) -> dict[str, float]:
        """Its value moves with the steps, and not with time: it is here for the log."""
        return {"lambda": self.weight.item()}


class TargetRate(Controlled):
    """distortion + beta * rate, in nats per image, with the beta at which the rate is at its target.

    log beta += gain * clamp(average rate / target - 1, -1, 1): beta rises while the rate is above its target. It starts at 1, the ELBO, and
    falls while the rate is still below the target, which is a warm-up. ControlVAE moves beta itself, by a proportional and an integral term in
    nats; here it is the integral term alone, of a relative error and for log beta, so that one gain serves any target.

    References: ControlVAE: Controllable Variational Autoencoder (Shao et al., 2020), https://arxiv.org/abs/2004.05988

    Args:
        target: nats per image.
        gain: how far log beta moves in one step, at most.

    Raises:
        UserError: for a target that is not above 0.
    """

    def __init__(self, target: float = 20.0, gain: float = 0.02) -> None:
        super().__init__(gain)
        if not target > 0:
            raise UserError(f"The target of the rate is above 0 nats (20 as a rule), and it is {target}.")
        self.target = float(target)

    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        return with_penalty((out.distortion + self.weight * out.rate()).mean(0), out)

    def error(self) -> Float[Tensor, ""]:
        return self.average / self.target - 1

    def stats(self, out: VAEOutput) -> Mapping[str, Tensor]:
        return {"rate": out.rate().detach().mean()}

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        self._follow(stats["rate"])

    def progress(self, fraction: float) -> dict[str, float]:
        """Its value moves with the steps, and not with time: it is here for the log."""
        return {"beta": self.weight.item()}


def perfect_distortion(out: VAEOutput) -> Float[Tensor, ""]:
    """-log p(x|z) in nats per image if each mean were the image: for Gaussian and Laplace noise as wide as it is now, else 0."""
    if not isinstance(out.px, (PixelGaussian, PixelLaplace)):
        return torch.zeros((), device=out.log_px.device)
    log_px = out.px.log_prob(out.px.mean)
    seen = log_px if out.batch.mask is None else torch.where(fold(out.batch.mask, out.k), log_px, 0.0)
    return -seen.flatten(1).sum(1).mean()
