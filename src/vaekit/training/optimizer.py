"""Optimizers."""

import math

import torch
from torch import nn

from vaekit.errors import UserError
from vaekit.part import Part
from vaekit.training.muon import Muon, hidden_matrices
from vaekit.training.options import Training


def make_optimizer(module: nn.Module, training: Training, precision: str = "fp32") -> torch.optim.Optimizer:
    """The run's optimizer; weight decay acts on matrices and kernels alone, and not on those that a part exempts (`Part.undecayed`).

    Fused where the device has it: the same formulas in one pass over the weights. `precision` is that of the run's arithmetic.
    """
    named = [getattr(part, name) for part in module.modules() if isinstance(part, Part) for name in part.undecayed]
    places = {id(p) for found in named if found is not None for p in (found.parameters() if isinstance(found, nn.Module) else [found])}
    hidden = hidden_matrices(module, dense=training.optimizer == "muon") if training.optimizer.startswith("muon") else {}
    if training.optimizer.startswith("muon") and not hidden:
        raise UserError(f"--optimizer {training.optimizer} finds no matrices between hidden features to move in this network: choose adamw.")
    learned = [p for p in module.parameters() if p.requires_grad and p not in hidden]
    matrices = [p for p in learned if p.dim() >= 2 and id(p) not in places]
    others = [p for p in learned if p.dim() < 2 or id(p) in places]
    groups = [{"params": matrices, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if training.weight_decay == 0:
        groups = [{"params": matrices + others}]
    groups = [g for g in groups if g["params"]] or groups[:1]
    if training.optimizer == "adamax":
        return torch.optim.Adamax(groups, lr=training.lr, betas=training.betas, weight_decay=0.0)
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    device = next(module.parameters()).device.type
    # AdamW's own weight decay is not 0, for groups that name none.
    adam = kind(groups, lr=training.lr, betas=training.betas, weight_decay=0.0, fused=device in ("cpu", "cuda"))
    half = torch.bfloat16 if precision == "bf16" else torch.float32
    return Muon(hidden, adam, training.weight_decay, half) if hidden else adam


def global_norm(parameters: list[torch.Tensor]) -> torch.Tensor:
    """The norm of all gradients together; not finite as soon as one of them is."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients[0].device.type != "cpu":
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    # A dot product takes half the time of a norm on a processor; small tensors are joined, since each call costs more than their arithmetic.
    large = [_flat(g) for g in gradients if g.numel() > 65536]
    small = [_flat(g) for g in gradients if g.numel() <= 65536]
    return torch.stack([torch.dot(g, g) for g in (*large, *([torch.cat(small)] if small else []))]).sum().sqrt()


def all_finite(parameters: list[torch.Tensor]) -> bool:
    """Whether every gradient is finite: a sum is not as soon as one of its terms is not, and takes several threads where a dot product takes one."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    small = [g.flatten() for g in gradients if g.numel() <= 65536]  # joined, since one call costs more than its arithmetic
    sums = [g.sum() for g in gradients if g.numel() > 65536] + ([torch.cat(small).sum()] if small else [])
    return math.isfinite(torch.stack(sums).sum().item())


def _flat(x: torch.Tensor) -> torch.Tensor:
    """All values in the order of memory (channels last, say), which needs no copy."""
    return x.as_strided((x.numel(),), (1,)) if _dense(x) else x.flatten()


def _dense(x: torch.Tensor) -> bool:
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
