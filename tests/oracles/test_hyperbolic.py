"""Hyperbolic space: the addition of the ball is an isometry, and the wrapped normal's density is that of its Jacobian."""

import torch
from torch import Tensor
from torch.distributions import Normal

from vaekit.distributions.hyperbolic import WrappedNormal, from_origin, mobius_add


def distance(x: Tensor, y: Tensor) -> Tensor:
    """arcosh(1 + 2 |x - y|^2 / ((1 - |x|^2) (1 - |y|^2))), the distance in the ball."""
    return torch.acosh(1 + 2 * (x - y).square().sum(-1) / ((1 - x.square().sum(-1)) * (1 - y.square().sum(-1))))


def test_the_addition_of_the_ball_is_an_isometry() -> None:
    x, y, move = (from_origin(1.5 * torch.randn(50, 3, dtype=torch.float64)) for _ in range(3))
    assert torch.allclose(distance(mobius_add(move, x), mobius_add(move, y)), distance(x, y), rtol=1e-6)
    assert torch.allclose(mobius_add(-move, mobius_add(move, x)), x)
    s = torch.randn(50, 3, dtype=torch.float64)
    assert torch.allclose(distance(from_origin(s), torch.zeros_like(s)), s.norm(dim=-1))


def test_the_density_of_a_wrapped_normal() -> None:
    """By the Jacobian of the map from the tangent space, in units of hyperbolic volume: (2 / (1 - |z|^2))^D dz."""
    mu, scale = from_origin(torch.randn(20, 3)).double(), torch.rand(20, 3).double() + 0.3
    s = scale * torch.randn(20, 3, dtype=torch.float64)
    z = mobius_add(mu, from_origin(s))
    jacobian = torch.autograd.functional.jacobian(lambda s: mobius_add(mu, from_origin(s)).sum(0), s).transpose(0, 1)
    volume = torch.linalg.slogdet(jacobian)[1] + 3 * (2 / (1 - z.square().sum(-1))).log()
    exact = Normal(0.0, scale).log_prob(s).sum(-1) - volume
    assert torch.allclose(WrappedNormal(mu, scale).log_prob(z), exact, atol=1e-6)


def test_far_codes_of_a_wrapped_normal_are_finite() -> None:
    mu = from_origin(torch.tensor([[5.0, 0.0], [0.0, 0.0]])).requires_grad_()
    scale = torch.tensor([[1.6, 1.6], [1e-3, 1e-3]], requires_grad=True)
    q = WrappedNormal(mu, scale)
    z = q.rsample((2000,))
    assert (z.norm(dim=-1) < 1).all()
    (z.sum() + q.log_prob(z).sum() + WrappedNormal(torch.zeros(2), torch.ones(2)).log_prob(z).sum()).backward()
    assert torch.isfinite(mu.grad).all() and torch.isfinite(scale.grad).all()
    assert torch.isfinite(q.log_prob(mu)).all()
