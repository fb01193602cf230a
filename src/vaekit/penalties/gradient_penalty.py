"""Gradient penalties: what holds the norm of a critic's gradient at images."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

SMALL = 1e-12
"""Under the root, so that the norm of a gradient of 0 has a gradient itself."""


def squared_gradient_norms(critic: Callable[[Tensor], Tensor], x: Float[Tensor, "N *E"]) -> Float[Tensor, "N"]:
    """|grad_x D(x)|^2 of each image, with a graph for the critic's parameters wherever gradients are on.

    The images of a batch are taken to be judged each on its own.
    """
    learning = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=learning)
    return gradient.flatten(1).square().sum(1)


def r1(squared: Float[Tensor, "N"], gamma: float) -> Float[Tensor, ""]:
    """gamma / 2 E|grad D(x)|^2 at real images x, given the squared norms there: at its equilibrium the critic is flat where the data are.

    References: Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018), Eq. 9, https://arxiv.org/abs/1801.04406
    """
    return 0.5 * gamma * squared.mean()


def one_lipschitz(squared: Float[Tensor, "N"], strength: float) -> Float[Tensor, ""]:
    """strength E[(|grad D(x)| - 1)^2] at points between real images and fakes, given the squared norms there.

    References: Improved Training of Wasserstein GANs (Gulrajani et al., 2017), Eq. 3, https://arxiv.org/abs/1704.00028
    """
    return strength * ((squared + SMALL).sqrt() - 1).square().mean()


def between(real: Float[Tensor, "N *E"], fake: Float[Tensor, "N *E"]) -> Float[Tensor, "N *E"]:
    """u real + (1 - u) fake, with one u ~ U(0, 1) for each pair: uniform on the straight line between the two."""
    u = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device)
    return torch.lerp(fake, real, u)
