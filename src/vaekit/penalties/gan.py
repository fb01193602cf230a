"""The losses of a critic that tells real from fake, and of its opponent."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from vaekit.errors import UserError
from vaekit.penalties.base import Critic


@dataclass(frozen=True)
class Game:
    """What a critic and what its opponent minimize, for each logit."""

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    fooled: Callable[[Tensor], Tensor]
    """Of the opponent, at a fake: it falls as the critic takes the fake for real."""


GAMES = {
    "hinge": Game(lambda d: F.relu(1 - d), lambda d: F.relu(1 + d), lambda d: -d),
    "non-saturating": Game(lambda d: F.softplus(-d), F.softplus, lambda d: F.softplus(-d)),
    "wasserstein": Game(lambda d: -d, lambda d: d, lambda d: -d),
}
"""Hinge: Geometric GAN (Lim, Ye, 2017), Eq. 13, https://arxiv.org/abs/1705.02894. Non-saturating: Generative Adversarial Nets (Goodfellow et al.,
2014), section 3, https://arxiv.org/abs/1406.2661. Wasserstein, for a critic whose gradient is held: Wasserstein GAN (Arjovsky et al., 2017), Eq. 2
and 3, https://arxiv.org/abs/1701.07875."""


def game(name: str) -> Game:
    """The game of this name; raises `UserError` if there is none."""
    if name not in GAMES:
        raise UserError(f"A critic plays {' or '.join(GAMES)}, and not '{name}'.")
    return GAMES[name]


class GANCritic(Critic):
    """A critic whose optimizer has the betas (0.5, 0.9) that adversarial training is known to want."""

    betas: tuple[float, float] | None = (0.5, 0.9)

    def __init__(self, lr: float | None = None, steps: int = 1) -> None:
        super().__init__()
        self.lr, self.steps = lr, steps
