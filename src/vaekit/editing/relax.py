"""Paths that are bent to where a density is higher, with their ends held."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError

Density = Callable[[Tensor], Tensor]
"""log p(z) [B, S] in nats, of codes [B, S, D]."""


def action(z: Float[Tensor, "B S D"], log_p: Float[Tensor, "B S"], weight: float) -> Float[Tensor, "B"]:
    r"""A path's action: n/2 sum_i |z_{i+1} - z_i|^2 - weight/n sum_i log p(z_i), over its n steps, and over the codes between the ends.

    It is the discrete form of int_0^1 ( |z'(t)|^2 / 2 - weight log p(z(t)) ) dt, so that it does not depend on the number of steps.
    """
    n = z.shape[1] - 1
    length = z.diff(dim=1).square().sum((1, 2))
    return 0.5 * n * length - weight / n * log_p[:, 1:-1].sum(1)


def relaxed(z: Float[Tensor, "B S D"], density: Density, weight: float, rounds: int = 200, tolerance: float = 1e-6) -> Float[Tensor, "B S D"]:
    r"""The path of least `action` that is reached downhill from the path z, whose ends stay.

    The squared length keeps the steps even and the path short, the log prior draws it to dense places; for N(0, I) the minimum is known,
    [sinh(k(1 - t)) a + sinh(k t) b] / sinh k with k = sqrt(weight), in the limit of many steps.

    Each round goes along the gradient in the metric of the length (the inverse of the path's second difference: without a prior one round is
    enough), by the longest of the steps 1, 1/2, 1/4, ... that lowers the action. Of all rounds the path of least action is taken among those on which
    no code is less dense than the least dense one of the first path: so the least log p(z) along the way never falls below that of the straight line,
    whatever the prior. The minimum is a local one.

    Args:
        density: log p(z) of each code; its gradient is asked for.
        weight: of the log prior, in squared code units per nat.
        rounds: at most as many.
        tolerance: a path rests when a round lowers its action by less than this share of its size.

    References: the geodesics of a density by relaxation, as in Latent Space Oddity: on the Curvature of Deep Generative Models (Arvanitidis et al.,
    2018), https://arxiv.org/abs/1710.11379 (with the prior's density in the place of the decoder's metric)
    """
    if weight < 0:
        raise UserError(f"The weight of the prior is not below 0, and it is {weight:g}.")
    inner = z.shape[1] - 2
    if inner < 1 or weight == 0:
        return z
    n = inner + 1
    second = 2 * torch.eye(inner) - torch.diag(torch.ones(inner - 1), 1) - torch.diag(torch.ones(inner - 1), -1)
    inverse = torch.linalg.inv((n * second).double()).to(z)
    with torch.no_grad():
        log_p = density(z)
        floor = log_p.amin(1)
        value = action(z, log_p, weight)
    best, best_value = z, value
    for _ in range(rounds):
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(action(leaf, density(leaf), weight).sum(), leaf)
        step = torch.zeros_like(z)
        step[:, 1:-1] = -(inverse @ gradient[:, 1:-1])
        slope = (step * gradient).sum((1, 2))
        scale = torch.ones(len(z), device=z.device)
        moved, moved_value, moved_least = z, value, floor
        with torch.no_grad():
            waiting = torch.ones(len(z), dtype=torch.bool, device=z.device)
            for _ in range(20):
                trial = z + scale.view(-1, 1, 1) * step
                log_p = density(trial)
                lower = action(trial, log_p, weight)
                good = waiting & (lower <= value + 1e-4 * scale * slope)
                moved = torch.where(good.view(-1, 1, 1), trial, moved)
                moved_value = torch.where(good, lower, moved_value)
                moved_least = torch.where(good, log_p.amin(1), moved_least)
                waiting = waiting & ~good
                if not waiting.any():
                    break
                scale = torch.where(waiting, scale / 2, scale)
        done = value - moved_value <= tolerance * (1 + value.abs())
        z, value = moved, moved_value
        better = (value < best_value) & (moved_least >= floor)
        best, best_value = torch.where(better.view(-1, 1, 1), z, best), torch.where(better, value, best_value)
        if done.all():
            break
    return best
