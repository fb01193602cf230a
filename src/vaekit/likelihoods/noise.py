"""The width of additive noise: fixed, learned, or optimal."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.errors import UserError

MODES = ("learned", "learned-per-channel", "optimal")


class NoiseScale(nn.Module):
    """The scale s of a density proportional to exp(-|x - loc|^power / (power s^power)): a Gaussian's sigma (power 2), a Laplace's b (power 1).

    All in unit range. The mode is

    * a number: fixed;
    * "learned": one parameter;
    * "learned-per-channel": one parameter for each channel;
    * "optimal": the maximum-likelihood scale, (E |x - loc|^power)^(1/power), an exponential moving average over batches that is held in a
      buffer and updated after each step. The loss of an image never depends on the rest of its batch, and evaluation uses the buffer.

    All but a fixed scale have the lower bound `floor`: a perfect fit would otherwise send the density to infinity.

    Args:
        mode: as above.
        channels: the number of image channels.
        power: 2 for a Gaussian, 1 for a Laplace.
        floor: the lower bound.
        start: the scale before `initialize`.

    Raises:
        UserError: for any other mode, or a number that is not positive.

    Reference: "Simple and Effective VAE Training with Calibrated Decoders", Rybkin, Daniilidis and Levine, 2021, section 4,
    https://arxiv.org/abs/2006.13202. They take the optimum of each batch inside the loss; the average is the same estimate with less noise.
    """

    DECAY = 0.95

    fixed: Tensor
    moment: Tensor
    log_floor: float

    def __init__(self, mode: float | int | str, channels: int, power: int, floor: float, start: float) -> None:
        super().__init__()
        self.power = power
        self.floor = floor
        self.mode = mode if isinstance(mode, str) else "fixed"
        start = max(start, 2 * floor)
        if not isinstance(mode, str):
            if not 0 < mode < math.inf:
                raise UserError(f"The scale of the noise is a positive number in unit range (1 is the whole range of the pixels), not {mode}.")
            self.register_buffer("fixed", torch.tensor([math.log(mode)]), persistent=False)
        elif mode == "optimal":
            self.register_buffer("moment", torch.tensor([start**power]))
        elif mode in MODES:
            # One dimension, so that optimizers which decay only matrices leave it alone.
            self.free = nn.Parameter(torch.full((1 if mode == "learned" else channels,), 0.0))
            self.log_floor = math.log(floor)
            self._set(torch.tensor(start))
        else:
            raise UserError(f"The scale of the noise is a number or one of {', '.join(MODES)}, and not '{mode}'.")

    def forward(self) -> Float[Tensor, "C 1 1"]:
        """log s, [1,1,1] or [C,1,1]."""
        if self.mode == "fixed":
            log_scale = self.fixed
        elif self.mode == "optimal":
            log_scale = self.moment.clamp(min=self.floor**self.power).log() / self.power
        else:
            # A smooth bound, s^2 = exp(2 free) + floor^2: behind a clamp the parameter would get no gradient and could not come back.
            log_scale = self.log_floor + F.softplus(self.free - self.log_floor, beta=2)
        return log_scale.view(-1, 1, 1)

    @torch.no_grad()
    def initialize(self, unit: Float[Tensor, "B C H W"]) -> None:
        """Starts from the spread of the data about each channel's mean: the noise of a model that knows nothing."""
        deviation = (unit - unit.mean((0, 2, 3), keepdim=True)).abs() ** self.power
        if self.mode == "optimal":
            self.moment.fill_(deviation.mean())
        elif self.mode == "learned":
            self._set(deviation.mean() ** (1 / self.power))
        elif self.mode == "learned-per-channel":
            self._set(deviation.mean((0, 2, 3)) ** (1 / self.power))

    @torch.no_grad()
    def _set(self, scale: Tensor) -> None:
        scale = scale.clamp(min=1.1 * self.floor)
        self.free.copy_(0.5 * torch.log(scale**2 - self.floor**2))

    @torch.no_grad()
    def stats(self, error: Float[Tensor, "N C H W"], mask: Tensor | None = None) -> Mapping[str, Tensor]:
        """The batch's mean |x - loc|^power in unit range, where it is needed."""
        if self.mode != "optimal":
            return {}
        moment = error.abs() ** self.power
        return {"noise_moment": moment.mean() if mask is None else torch.where(mask, moment, 0.0).sum() / mask.sum().clamp_min(1)}

    @torch.no_grad()
    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        """Moves the average by 1 - DECAY = 1/20 of the way to the batch's value."""
        if self.mode == "optimal":
            self.moment.lerp_(stats["noise_moment"].to(self.moment).view(1), 1 - self.DECAY)
