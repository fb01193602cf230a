"""Critics learn beside the model, from detached tensors, with an optimizer of their own."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vaekit.penalties import Critic
from vaekit.training.optimizer import global_norm, make_optimizer
from vaekit.training.options import Training


def options_of(critic: Critic, training: Training) -> Training:
    """The run's options with the critic's own rate and betas, and no weight decay; Muon is for the model."""
    optimizer = "adamw" if training.optimizer.startswith("muon") else training.optimizer
    return replace(training, optimizer=optimizer, lr=critic.lr or training.lr, betas=critic.betas or training.betas, weight_decay=0.0)


class Critics:
    """The critics of a recipe and their optimizers: while the model steps they are frozen, while they step the model is not touched.

    With several processes all start from the weights of the first, and step with the mean of their gradients. A critic that relates the items of a
    batch to each other (`Critic.joint`) is fed the batches of all of them; not so for one that is tried `alone`.
    """

    def __init__(self, critics: Mapping[str, Critic], training: Training, device: torch.device, alone: bool = False) -> None:
        # Whoever froze them before: an optimizer takes what can learn.
        self.critics = {name: critic.to(device).requires_grad_(True) for name, critic in critics.items()}
        self.modules: dict[str, nn.Module] = dict(self.critics)
        self.optimizers = {name: make_optimizer(critic, options_of(critic, training)) for name, critic in self.critics.items()}
        self.shared = not alone and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        for critic in self.critics.values():
            if self.shared:
                for tensor in (*critic.parameters(), *critic.buffers()):
                    dist.broadcast(tensor.data, src=0)
            critic.requires_grad_(False)

    def step(self, feeds: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
        """One or more steps of each critic; returns their losses. A step whose gradient is not finite is left out."""
        losses = {}
        for name, critic in self.critics.items():
            critic.requires_grad_(True)
            feed = {k: v.detach() for k, v in feeds[name].items()}
            if self.shared and critic.joint:
                feed = {k: _joined(v) for k, v in feed.items()}
            for part in critic.parts(feed):
                loss = critic(**part)
                loss.backward()
                gradients = [p.grad for p in critic.parameters() if p.grad is not None]
                if self.shared:
                    _average(gradients)
                if math.isfinite(global_norm(list(critic.parameters())).item()):
                    self.optimizers[name].step()
                self.optimizers[name].zero_grad(set_to_none=True)
            critic.requires_grad_(False)
            losses[f"critic_{name}"] = loss.item()
        return losses


def _joined(x: Tensor) -> Tensor:
    """[B/world, ...] of each process -> [B, ...], in the order of the batch that was dealt out to them one by one."""
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)


def _average(gradients: list[Tensor]) -> None:
    for gradient in gradients:
        dist.all_reduce(gradient)
        gradient /= dist.get_world_size()
