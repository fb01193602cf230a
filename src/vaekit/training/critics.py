"""Critics learn beside the model, from detached tensors, with an optimizer of their own."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vaekit.penalties import Critic
from vaekit.training.optimizer import make_optimizer
from vaekit.training.options import Training


class Critics:
    """The critics of a recipe and their optimizers: while the model steps they are frozen, while they step the model is not touched."""

    def __init__(self, critics: Mapping[str, Critic], training: Training, device: torch.device) -> None:
        self.modules: dict[str, nn.Module] = {name: critic.to(device) for name, critic in critics.items()}
        self.optimizers = {name: make_optimizer(critic, training) for name, critic in self.modules.items()}
        for critic in self.modules.values():
            critic.requires_grad_(False)

    def step(self, feeds: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
        """One or more steps of each critic; returns their losses."""
        losses = {}
        for name, critic in self.modules.items():
            critic.requires_grad_(True)
            for _ in range(critic.steps):  # type: ignore[arg-type]
                loss = critic(**{k: v.detach() for k, v in feeds[name].items()})
                loss.backward()
                self.optimizers[name].step()
                self.optimizers[name].zero_grad(set_to_none=True)
            critic.requires_grad_(False)
            losses[f"critic_{name}"] = loss.item()
        return losses
