"""Optimizers."""

import torch
from torch import nn

from vaekit.training.options import Training


def make_optimizer(module: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The run's optimizer; weight decay acts on matrices and kernels alone.

    Fused where the device has it: the same formulas in one pass over the weights.
    """
    matrices = [p for p in module.parameters() if p.requires_grad and p.dim() >= 2]
    others = [p for p in module.parameters() if p.requires_grad and p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if training.weight_decay == 0:
        groups = [{"params": matrices + others}]
    groups = [g for g in groups if g["params"]]
    if training.optimizer == "adamax":
        return torch.optim.Adamax(groups, lr=training.lr, betas=training.betas)
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    device = next(module.parameters()).device.type
    return kind(groups, lr=training.lr, betas=training.betas, fused=device in ("cpu", "cuda"))


def global_norm(parameters: list[torch.Tensor]) -> torch.Tensor:
    """The norm of all gradients together; not finite as soon as one of them is."""
    norms = torch._foreach_norm([p.grad for p in parameters if p.grad is not None])
    return torch.linalg.vector_norm(torch.stack(norms))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
