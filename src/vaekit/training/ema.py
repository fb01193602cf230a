"""An exponential moving average of the weights."""

import copy

import torch
from torch import Tensor, nn

from vaekit.latents.fitted import Fitted
from vaekit.model import VAE


class Average:
    """average <- average + (1 - decay) (weights - average) after each step; early on, decay is min(decay, (1 + n) / (10 + n)).

    The running mean and variance of batch norm are averaged as the weights are: they are those of a network's features, and the features of averaged
    weights are, to first order, the average of the features; copied, they would be those of another network. All other buffers are copied (as torch's
    `AveragedModel` does, where timm's `ModelEmaV3` averages them too): schedules are of the moment, a spectral norm's vectors must have norm 1, and
    codebooks and noise levels are moving averages already, over windows of their own.

    References: Acceleration of Stochastic Approximation by Averaging (Polyak, Juditsky, 1992); the warm-up is TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: VAE | Fitted, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._average: list[Tensor] = [*self.model.parameters(), *_running_statistics(self.model)]
        self._source: list[Tensor] = [*model.parameters(), *_running_statistics(model)]
        averaged = set(map(id, self._average))
        pairs = zip(self.model.buffers(), model.buffers(), strict=True)
        self._buffers = [(mine, theirs) for mine, theirs in pairs if id(mine) not in averaged]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._average, self._source, 1 - decay)

    @torch.no_grad()
    def evaluated(self) -> VAE | Fitted:
        """The averaged model, with the buffers that are not averaged as they are now."""
        for mine, theirs in self._buffers:
            mine.copy_(theirs)
        return self.model

    def state(self) -> dict[str, Tensor]:
        return dict(self.evaluated().state_dict())


def _running_statistics(model: nn.Module) -> list[Tensor]:
    """Of batch norms: their means and variances, without the count of batches."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [t for norm in norms for t in (norm.running_mean, norm.running_var) if t is not None]
