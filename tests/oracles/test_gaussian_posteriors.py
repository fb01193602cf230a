"""Gaussians with full covariances and Laplace posteriors against torch's divergences and an exact posterior."""

import torch
from torch.distributions import Laplace, MultivariateNormal, Normal
from torch.distributions import kl_divergence as torchs_kl

from tests.oracles.test_bounds import SIZE, linear_gaussian
from vaekit.distributions.full_covariance import FullNormal
from vaekit.distributions.kl import UnitNormal, kl_divergence
from vaekit.distributions.laplace_kl import DiagonalLaplace, UnitLaplace
from vaekit.latents import Flat, StandardNormal
from vaekit.latents.posteriors import FullCovariance
from vaekit.model import VAE
from vaekit.testing.parts import agree


def full(n: int, d: int) -> FullNormal:
    factor = torch.randn(n, d, d).tril(-1) + torch.diag_embed(torch.rand(n, d) + 0.2)
    return FullNormal(torch.randn(n, d), scale_tril=factor, validate_args=False)


def test_the_density_of_an_ill_conditioned_gaussian_is_exact_at_its_draw() -> None:
    factor = 3 * torch.randn(4, 100, 100).tril(-1) + torch.diag_embed(torch.rand(4, 100) + 0.1)
    q = FullNormal(torch.randn(4, 100), scale_tril=factor, validate_args=False)
    log_q = q.log_prob(q.rsample((2000,)))
    agree(-q.entropy(), log_q, "The entropy")
    easy = full(4, 3)
    z = easy.rsample()
    assert torch.allclose(easy.log_prob(z), MultivariateNormal(easy.loc, scale_tril=easy.scale_tril).log_prob(z), atol=1e-4)


def test_divergence_of_a_full_gaussian() -> None:
    q, p = full(7, 4), full(7, 4)
    unit = MultivariateNormal(torch.zeros(4), torch.eye(4))
    exact = torchs_kl(MultivariateNormal(q.loc, scale_tril=q.scale_tril), unit)
    parts = kl_divergence(q, UnitNormal(torch.zeros(4), torch.ones(4)))
    assert parts.shape == (7, 4) and (parts >= 0).all()
    assert torch.allclose(parts.sum(1), exact, rtol=1e-4)
    exact = torchs_kl(MultivariateNormal(q.loc, scale_tril=q.scale_tril), MultivariateNormal(p.loc, scale_tril=p.scale_tril))
    assert torch.allclose(kl_divergence(q, p).sum(1), exact, rtol=1e-3)


def test_divergences_of_laplace() -> None:
    q, p = DiagonalLaplace(3 * torch.randn(7, 4), torch.rand(7, 4) + 0.1), DiagonalLaplace(torch.randn(7, 4), torch.rand(7, 4) + 0.1)
    plain = Laplace(q.loc, q.scale)
    assert torch.allclose(kl_divergence(q, p), torchs_kl(plain, Laplace(p.loc, p.scale)), atol=1e-4, rtol=1e-4)
    assert torch.allclose(kl_divergence(q, UnitLaplace(0.0, 1.0)), torchs_kl(plain, Laplace(0.0, 1.0)), atol=1e-4, rtol=1e-4)
    assert torch.allclose(kl_divergence(q, UnitNormal(0.0, 1.0)), torchs_kl(plain, Normal(0.0, 1.0)), atol=1e-4, rtol=1e-4)
    assert torch.allclose(kl_divergence(q, Normal(p.loc, p.scale)), torchs_kl(plain, Normal(p.loc, p.scale)), atol=1e-4, rtol=1e-3)


def test_a_divergence_without_its_half_as_in_rave_and_in_the_ladder_of_pytorch_vae() -> None:
    """RAVE doubles the KL, PyTorch-VAE's LVAE drops the 1/2 before the log-variances, alibi-detect takes its mean over dimensions."""
    q = Normal(torch.randn(6, 3), torch.rand(6, 3) + 0.2)
    posteriors = [FullNormal(q.loc, scale_tril=torch.diag_embed(q.scale), validate_args=False), q]
    exact = torchs_kl(q, Normal(0.0, 1.0)).sum(1)
    for each in posteriors:
        mine = kl_divergence(each, UnitNormal(torch.zeros(3), torch.ones(3))).sum(1)
        assert torch.allclose(mine, exact, rtol=1e-4)
        assert not torch.allclose(mine, 2 * exact, rtol=0.1) and not torch.allclose(mine, exact / 3, rtol=0.1)


def test_a_full_covariance_is_exact_where_a_diagonal_one_is_not() -> None:
    """The linear-Gaussian model with columns that are not orthogonal: log w is the same for every sample."""
    model, _ = linear_gaussian(exact_posterior=True)
    columns = torch.randn(SIZE, 2)
    bias = model.decoder.linear.bias
    sigma = 0.7
    precision = torch.eye(2) + columns.T @ columns / sigma**2
    covariance = torch.linalg.inv(precision)
    factor = torch.linalg.cholesky(covariance)
    posterior = FullCovariance(SIZE, 2)
    with torch.no_grad():
        model.decoder.linear.weight.copy_(columns)
        gain = covariance @ columns.T / sigma**2
        posterior.head.weight.zero_()
        posterior.head.weight[:2] = gain
        posterior.head.bias.copy_(torch.cat([-gain @ bias, factor.diagonal().log(), factor[1:, 0]]))
    exact = VAE(model.encoder, Flat(posterior, StandardNormal([2])), model.decoder, model.likelihood).eval()
    truth = MultivariateNormal(bias, columns @ columns.T + sigma**2 * torch.eye(SIZE))
    x = truth.sample((30,))
    out = exact(x.view(30, 1, 1, SIZE), k=100)
    assert torch.allclose(out.log_w(), truth.log_prob(x).expand(100, 30), atol=2e-3)
    assert torch.allclose(-(out.distortion + out.rate()).mean(0), truth.log_prob(x), atol=1.0)
