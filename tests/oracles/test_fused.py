"""Formulas with a derivative written by hand: against finite differences, and against the same written plainly."""

import pytest
import torch
from torch.distributions import Normal

from vaekit.distributions.kl import UnitNormal, kl_divergence
from vaekit.distributions.pixel_gaussian import PixelGaussian

DOUBLE = {"dtype": torch.double}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shared", [True, False], ids=["one scale", "a scale for each channel"])
def test_the_gaussian_of_an_image(channels: int, shared: bool) -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, channels, 5, 6, **DOUBLE, requires_grad=True)
    log_scale = torch.randn(1 if shared else channels, 1, 1, **DOUBLE, requires_grad=True)
    x = 255 * torch.rand(4, channels, 5, 6, **DOUBLE)

    def total(logits: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        return PixelGaussian.of_logits(logits, 255.0, log_scale).total_log_prob(x)

    assert torch.autograd.gradcheck(total, (logits, log_scale)) and torch.autograd.gradgradcheck(total, (logits, log_scale))
    plain = PixelGaussian(255 * logits.sigmoid(), log_scale + torch.tensor(255.0, **DOUBLE).log())
    torch.testing.assert_close(total(logits, log_scale), plain.log_prob(x).flatten(1).sum(1))
    torch.testing.assert_close(PixelGaussian.of_logits(logits, 255.0, log_scale).log_prob(x), plain.log_prob(x))
    torch.testing.assert_close(PixelGaussian.of_logits(logits, 255.0, log_scale).stddev, plain.stddev)


def test_divergences() -> None:
    torch.manual_seed(0)
    m, n = (torch.randn(3, 2, **DOUBLE, requires_grad=True) for _ in range(2))
    s, t = (torch.rand(3, 2, **DOUBLE).add(0.3).requires_grad_() for _ in range(2))
    zero, one = torch.zeros(2, **DOUBLE), torch.ones(2, **DOUBLE)

    def unit(m: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return kl_divergence(Normal(m, s), UnitNormal(zero, one))

    def two(m: torch.Tensor, s: torch.Tensor, n: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return kl_divergence(Normal(m, s), Normal(n, t))

    for formula, given, plain in (
        (unit, (m, s), torch.distributions.kl_divergence(Normal(m, s), Normal(zero, one))),
        (two, (m, s, n, t), torch.distributions.kl_divergence(Normal(m, s), Normal(n, t))),
    ):
        assert torch.autograd.gradcheck(formula, given) and torch.autograd.gradgradcheck(formula, given)
        torch.testing.assert_close(formula(*given), plain)
