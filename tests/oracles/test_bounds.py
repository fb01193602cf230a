"""Bounds against closed forms: the linear-Gaussian model, and the limits in which two formulas must agree."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from tests.contracts.examples import batch, raw, scrambled, vae
from tests.contracts.families.ladder import ladder_vae
from vaekit.distributions import kl
from vaekit.errors import UserError
from vaekit.latents import DiagonalGaussian, Flat, StandardNormal
from vaekit.latents.posteriors import RelaxedCategorical
from vaekit.latents.priors.categories import UniformCategories
from vaekit.likelihoods import Gaussian
from vaekit.model import VAE
from vaekit.networks import Decoder, Encoder
from vaekit.objectives import ELBO, IWAE, Annealing, Constant, Cyclical, Warmup


class Flatten(Encoder):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return x.flatten(1)


class Linear(Decoder):
    def __init__(self, latent: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(latent, size)

    def forward(self, d: Tensor, c: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        return self.linear(d).view(len(d), 1, 1, -1)


SIGMA, SIZE, LATENT = 0.7, 6, 2


def linear_gaussian(exact_posterior: bool) -> tuple[VAE, MultivariateNormal]:
    """x = W z + b + sigma e, whose log p(x) and p(z|x) are known (Tipping and Bishop, 1999)."""
    model = VAE(
        Flatten(SIZE),
        Flat(DiagonalGaussian(SIZE, LATENT), StandardNormal([LATENT])),
        Linear(LATENT, SIZE),
        Gaussian(sigma=SIGMA, channels=1, levels=None, mean=[0.0], std=[1.0]),
    )
    generator = torch.Generator().manual_seed(3)
    # Orthogonal columns make the true posterior's covariance diagonal, so that a diagonal Gaussian can be exact.
    columns = torch.linalg.qr(torch.randn(SIZE, LATENT, generator=generator))[0] * torch.tensor([1.5, 0.6])
    bias = torch.randn(SIZE, generator=generator)
    with torch.no_grad():
        model.decoder.linear.weight.copy_(columns)
        model.decoder.linear.bias.copy_(bias)
        precision = torch.eye(LATENT) + columns.T @ columns / SIGMA**2
        variance = torch.linalg.inv(precision)
        head = model.latent.posterior.head
        head.weight.zero_(), head.bias.zero_()
        gain = variance @ columns.T / SIGMA**2
        head.weight[:LATENT] = gain
        head.bias[:LATENT] = -gain @ bias + (0.0 if exact_posterior else 0.3)
        head.bias[LATENT:] = variance.diagonal().log() + (0.0 if exact_posterior else 0.5)
    return model.eval(), MultivariateNormal(bias, columns @ columns.T + SIGMA**2 * torch.eye(SIZE))


def test_with_the_exact_posterior_the_elbo_is_log_p() -> None:
    model, truth = linear_gaussian(exact_posterior=True)
    x = truth.sample((50,)).view(50, 1, 1, SIZE)
    log_p = truth.log_prob(x.view(50, SIZE))
    out = model(x, k=200)
    assert torch.allclose(out.log_w(), log_p.expand(200, 50), atol=1e-3), "log w is constant under the exact posterior"
    assert torch.allclose(-(out.distortion + out.rate()).mean(0), log_p, atol=0.6)


def test_bounds_are_ordered_and_tight() -> None:
    """ELBO <= IWAE-5 <= IWAE-50 <= log p(x), and IWAE-4000 within 0.01 nat."""
    model, truth = linear_gaussian(exact_posterior=False)
    x = truth.sample((400,)).view(400, 1, 1, SIZE)
    log_p = truth.log_prob(x.view(400, SIZE)).mean().item()
    elbo = -(model(x, k=64).distortion.mean() + model(x).rate().mean()).item()
    iwae = {k: model.score(x, k=k, chunk=100).mean().item() for k in (5, 50, 4000)}
    assert elbo < iwae[5] < iwae[50] < log_p + 0.01
    assert abs(iwae[4000] - log_p) < 0.01
    # The gap of the ELBO is KL(q || p(z|x)), here known: the posterior is shifted by 0.3 and its log-variance by 0.5.
    variance = torch.linalg.inv(torch.eye(LATENT) + model.decoder.linear.weight.T @ model.decoder.linear.weight / SIGMA**2).diagonal()
    gap = kl_divergence(Normal(0.3, (variance * math.exp(0.5)).sqrt()), Normal(0.0, variance.sqrt())).sum().item()
    assert log_p - elbo == pytest.approx(gap, abs=0.1)


def test_score_does_not_depend_on_its_chunks() -> None:
    model, truth = linear_gaussian(exact_posterior=True)
    x = truth.sample((20,)).view(20, 1, 1, SIZE)
    for chunk in (1, 3, 8, 100):
        assert torch.allclose(model.score(x, k=8, chunk=chunk), truth.log_prob(x.view(20, SIZE)), atol=1e-3)


def test_iwae_with_one_sample_is_the_elbo_by_samples() -> None:
    model = scrambled(vae("mlp"))
    out = model(batch(), k=1)
    by_samples = (out.distortion + out.rate(analytic=False))[0]
    assert torch.allclose(IWAE(1)(out), by_samples, rtol=1e-6)


def test_iwae_favours_the_best_sample() -> None:
    """The weights are a softmax of log w: the worst sample gets the least gradient (the sign that peers invert)."""
    model = scrambled(vae("mlp"))
    out = model(batch(), k=6)
    log_w = out.log_w()
    (gradient,) = torch.autograd.grad(IWAE(6)(out).sum(), log_w_leaf := out.log_px, retain_graph=True)
    assert log_w_leaf.shape == gradient.shape
    assert torch.allclose(-gradient, log_w.softmax(0), atol=1e-4)
    assert (gradient.abs().argmax(0) == log_w.argmax(0)).all()


def test_elbo_is_a_sum_over_dimensions() -> None:
    """Twice the image is twice the distortion: nothing is averaged over pixels or latents."""
    model = scrambled(vae("mlp", likelihood=Gaussian(sigma=0.5, channels=2)))
    out = model(batch())
    target = model.likelihood.target(out.batch.x)
    expected = Normal(out.px.mean, 0.5 * 255).log_prob(target).sum((1, 2, 3))
    assert torch.allclose(out.log_px[0], expected, rtol=1e-5)
    q = out.terms[0].q.base_dist
    assert torch.allclose(out.rate()[0], kl_divergence(Normal(q.loc, q.scale), Normal(0.0, 1.0)).sum(1), rtol=1e-5)
    assert torch.allclose(ELBO()(out), -expected + out.rate()[0], rtol=1e-6)
    assert torch.allclose(ELBO(beta=3.0)(out), -expected + 3 * out.rate()[0], rtol=1e-6)


def test_rate_is_cross_entropy_minus_entropy() -> None:
    out = scrambled(vae("mlp"))(batch())
    term = out.terms[0]
    draws = term.q.sample((20000,))
    cross = -term.p.log_prob(draws)
    error = cross.std(0) / math.sqrt(20000)
    assert ((cross.mean(0) - (out.rate() + out.entropy())[0]).abs() < 5 * error + 1e-4).all()


def test_kl_table_agrees_with_torch() -> None:
    q, p = Normal(torch.randn(7, 3), torch.rand(7, 3) + 0.1), Normal(torch.randn(3), torch.rand(3) + 0.1)
    assert torch.allclose(kl.kl_divergence(q, p), kl_divergence(q, p), atol=1e-5)


def test_free_bits_stop_the_gradient_below_the_threshold() -> None:
    model = scrambled(vae("mlp"))
    out = model(batch(16))
    per_dimension = out.terms[0].kl.mean(0)
    threshold = per_dimension.sort().values[1].item() + 1e-6
    loss = ELBO(free_bits=threshold)(out).mean() - out.distortion.mean()
    expected = per_dimension.clamp_min(threshold).sum()
    assert torch.allclose(loss, expected, rtol=1e-4)


def test_free_bits_of_maps_and_of_layers_without_a_closed_form() -> None:
    """A channel of a map has one threshold, whatever its size; a layer whose divergence is not known by dimension has those of all its D together."""
    out = scrambled(ladder_vae([1, 6, 6], Gaussian(channels=1)))(raw(16, [1, 6, 6]))
    top, *maps = out.terms
    whole = (top.log_q - top.log_p).mean() if top.kl is None else top.kl.mean(0)
    below = [term.kl.flatten(2).sum(2).mean(0) for term in maps]
    values = torch.cat(below)
    threshold = values.sort().values[len(values) // 2].item() + 1e-6
    expected = torch.stack([part.clamp_min(threshold).sum() for part in below]).sum()
    expected = expected + whole.clamp_min(threshold * (top.z.shape[1] if top.kl is None else 1)).sum()
    loss = ELBO(free_bits=threshold)(out).mean() - out.distortion.mean()
    assert torch.allclose(loss, expected, rtol=1e-4)


def test_free_bits_of_a_variable_of_several_classes() -> None:
    """One lambda, and not one for each class: ten classes have log 10 nats at most, which ten lambdas of a quarter are above already."""
    model = scrambled(vae("mlp", latent=10))
    model.latent = Flat(RelaxedCategorical(model.encoder.features, 1, 10), UniformCategories(1, 10))
    out = model.eval()(batch(16))
    for threshold in (0.5 * out.rate().mean().item(), 2 * out.rate().mean().item()):
        loss = ELBO(free_bits=threshold)(out).mean() - out.distortion.mean()
        assert loss.item() == pytest.approx(max(out.rate().mean().item(), threshold), abs=1e-3)


def test_capacity() -> None:
    out = scrambled(vae("mlp"))(batch())
    expected = out.distortion[0] + 10 * (out.rate()[0] - 3).abs()
    assert torch.allclose(ELBO(capacity=3.0, gamma=10.0)(out), expected, rtol=1e-6)


def test_schedules() -> None:
    warmup = Warmup(0.2, 0.0, 2.0)
    assert [warmup.at(f) for f in (0.0, 0.1, 0.2, 0.9)] == [0.0, 1.0, 2.0, 2.0]
    cycle = Cyclical(cycles=4, ramp=0.5, end=1.0)
    assert [cycle.at(f) for f in (0.0, 0.0625, 0.125, 0.2, 0.25, 1.0)] == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.0, 1.0])
    assert Cyclical(cycles=4, ramp=0.0).at(0.3) == 1.0
    falling = Annealing(0.5, 64.0, 4.0)
    assert [falling.at(f) for f in (0.0, 0.125, 0.25, 0.5, 1.0)] == pytest.approx([64.0, 32.0, 16.0, 4.0, 4.0])
    with pytest.raises(UserError, match="above 0"):
        Annealing(0.5, 64.0, 0.0)
    assert Constant(3.0).at(0.5) == 3.0
    objective = ELBO(beta=warmup)
    assert objective.progress(0.1) == {"beta": 1.0} and objective.beta.item() == 1.0


def test_a_log_q_stopped_carries_gradient_through_the_sample_alone() -> None:
    model, _ = linear_gaussian(exact_posterior=False)
    term = model(torch.randn(5, 1, 1, SIZE)).terms[0]
    head = model.latent.posterior.head.weight
    (stopped,) = torch.autograd.grad(term.log_q_stopped.sum(), head, retain_graph=True)
    (through,) = torch.autograd.grad(term.log_q.sum(), head, retain_graph=True)
    assert torch.allclose(term.log_q_stopped, term.log_q)
    assert not torch.allclose(stopped, through)


@pytest.mark.parametrize("sigma", [0.3, "learned", "learned-per-channel", "optimal"])
def test_the_shorter_sum_is_the_sum(sigma: float | str) -> None:
    """total_log_prob is log_prob summed over the image, with the same gradients."""
    model = scrambled(vae("mlp", likelihood=Gaussian(sigma=sigma, channels=2)))
    px = model(batch()).px
    target = torch.randint(0, 256, px.mean.shape).float()
    parameters = [p for p in model.parameters()]
    short = torch.autograd.grad(px.total_log_prob(target).sum(), parameters, retain_graph=True, allow_unused=True)
    long = torch.autograd.grad(px.log_prob(target).sum(), parameters, allow_unused=True)
    assert torch.allclose(px.total_log_prob(target), px.log_prob(target).sum((1, 2, 3)), rtol=1e-5)
    assert all((a is None and b is None) or torch.allclose(a, b, rtol=1e-3, atol=1e-2) for a, b in zip(short, long, strict=True))
