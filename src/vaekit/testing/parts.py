"""Contracts of every part."""

import math

import torch
from torch import Tensor

from vaekit.part import Part, build, spec


def check_spec(part: Part) -> None:
    """`build(spec(part))` is the same architecture: the weights load, and it is described by the same JSON."""
    description = spec(part)
    again = build(description)
    assert spec(again) == description, f"{type(part).__name__} is described differently after it was built again."
    again.load_state_dict(part.state_dict())


def check_gradients(module: torch.nn.Module, loss: Tensor) -> None:
    """Every parameter of `module` gets a finite gradient from `loss`, and no parameter is left without."""
    module.zero_grad(set_to_none=True)
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient."
        assert torch.isfinite(parameter.grad).all(), f"{name} has a gradient that is not finite."


def agree(exact: Tensor, draws: Tensor, what: str) -> None:
    """The mean of the draws [S, ...] is within five standard errors of the exact value."""
    mean, error = draws.mean(0), draws.std(0) / math.sqrt(len(draws))
    worst = ((mean - exact).abs() / (error + 1e-6)).max().item()
    assert worst < 5, f"{what} is {worst:.1f} standard errors from its Monte-Carlo estimate."
