"""An exponential moving average of the weights."""

import copy

import torch
from torch import Tensor

from vaekit.latents.fitted import Fitted
from vaekit.model import VAE


class Average:
    """average <- average + (1 - decay) (weights - average) after each step; early on, decay is min(decay, (1 + n) / (10 + n)).

    References: Acceleration of Stochastic Approximation by Averaging (Polyak, Juditsky, 1992); the warm-up is TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: VAE | Fitted, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._average: list[Tensor] = list(self.model.parameters())
        self._source: list[Tensor] = list(model.parameters())
        self._buffers = [(mine, theirs) for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True)]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._average, self._source, 1 - decay)

    @torch.no_grad()
    def evaluated(self) -> VAE | Fitted:
        """The averaged model, with the buffers (running statistics, schedules) as they are now."""
        for mine, theirs in self._buffers:
            mine.copy_(theirs)
        return self.model

    def state(self) -> dict[str, Tensor]:
        return dict(self.evaluated().state_dict())
