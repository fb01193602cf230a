"""The rate of a ladder against closed forms and Monte-Carlo, and its bounds against quadrature."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from tests.contracts.examples import batch, raw, scrambled
from tests.contracts.families.ladder import features, ladder_vae, small_ladder
from vaekit.latents import DiagonalGaussian, Flat, StandardNormal
from vaekit.latents.ladder import Ladder, TopDownBlock
from vaekit.likelihoods import Bernoulli, Gaussian
from vaekit.model import VAE
from vaekit.networks.pyramid import PyramidDecoder, PyramidEncoder
from vaekit.objectives import ELBO, IWAE, Warmup
from vaekit.objectives.joint import JointCapacity
from vaekit.output import LatentTerm
from vaekit.testing import check_gradients, check_objective

# ---- the rate


def test_the_rate_of_a_whole_ladder_is_its_monte_carlo_estimate() -> None:
    """E_q[sum of the layers' analytic divergences] = E_q[log q(z|x) - log p(z)] within the error."""
    model, x = scrambled(ladder_vae([1, 6, 6], Gaussian(channels=1))), raw(3, [1, 6, 6])
    with torch.no_grad():
        out = model(x, k=4000)
        difference = out.rate() - out.rate(analytic=False)
    error = difference.std(0) / math.sqrt(4000)
    assert (difference.mean(0).abs() < 5 * error).all()
    assert (error < 0.05 * out.rate().mean(0)).all(), "the test can tell"


def by_hand(ladder: Ladder, h: dict[int, Tensor], z0: Tensor) -> tuple[Tensor, Tensor]:
    """KL(q(z0|x) || p(z0)) and KL(q(z1|z0,x) || p(z1|z0)) of a two-layer ladder at this z0, without its own loop and table."""
    q0 = ladder.top.posterior(h[0]).base_dist
    kl0 = kl_divergence(Normal(q0.loc, q0.scale), Normal(0.0, 1.0)).sum(1)
    block = ladder.steps[0]
    above = ladder.first(ladder.expand(z0).view(len(z0), *ladder.map))
    mean, log_variance = block.prior_head(above * above.sigmoid()).chunk(2, 1)
    log_variance = 8 * (log_variance / 8).tanh()
    mixed = torch.cat([above, h[1]], 1)
    mixed = block.mix(mixed * mixed.sigmoid())
    shift, residual = block.residual_head(mixed * mixed.sigmoid()).chunk(2, 1)
    residual = 8 * (residual / 8).tanh()
    q1 = Normal(mean + shift, ((log_variance + residual) / 2).exp())
    return kl0, kl_divergence(q1, Normal(mean, (log_variance / 2).exp())).sum((1, 2, 3))


def test_hvae_two_level_kl_is_the_two_level_elbo() -> None:
    """KL(q(z0)||p(z0)) + KL(q(z1|z0)||p(z1|z0)), and not both layers against N(0, I), with the learned prior unused."""
    ladder, h = scrambled(scrambled(small_ladder(steps=1))), features()
    _, (top, group) = ladder.infer(h)
    kl0, kl1 = by_hand(ladder, h, top.z)
    assert torch.allclose(top.rate(), kl0, rtol=1e-4) and torch.allclose(group.rate(), kl1, rtol=1e-4)
    wrong = kl_divergence(group.q.base_dist, Normal(0.0, 1.0)).sum((1, 2, 3))
    assert ((wrong - kl1).abs() > 1e-2).all(), "the test can tell"
    check_gradients(ladder.steps[0].prior_head, group.rate().sum())


def test_lvae_kl_without_one_half() -> None:
    """KL = 1/2 (dmu^2/sigma^2 + dsigma^2 - log dsigma^2 - 1): the logarithm of the variances counts half."""
    block = TopDownBlock(4, 4, 2)
    with torch.no_grad():
        block.prior_head.bias.copy_(torch.tensor([0.3, -0.2, 0.5, -1.0]))
        block.residual_head.bias.copy_(torch.tensor([0.7, 0.1, -2.0, 1.5]))
    h = torch.zeros(1, 4, 1, 1)
    p = block.prior(h)
    q = block.posterior(h, h, p)
    variance, ratio = (8 * (torch.tensor([0.5, -1.0]) / 8).tanh()).exp(), (8 * (torch.tensor([-2.0, 1.5]) / 8).tanh()).exp()
    shift = torch.tensor([0.7, 0.1])
    expected = 0.5 * (shift**2 / variance + ratio - ratio.log() - 1)
    assert torch.allclose(LatentTerm(q.mean, q, p).kl.flatten(), expected, rtol=1e-5)
    assert torch.allclose(q.mean.flatten(), torch.tensor([1.0, -0.1]))
    z = q.sample((200_000,))
    draws = q.log_prob(z) - p.log_prob(z)
    assert (draws.mean() - expected.sum()).abs() < 5 * draws.std() / math.sqrt(200_000)


# ---- bounds, with the truth by quadrature: one number at each layer, so that log p(x) is an integral over the plane


def tiny() -> VAE:
    encoder = PyramidEncoder([1, 2, 2], [4], 1, dense=4)
    ladder = Ladder(Flat(DiagonalGaussian(4, 1), StandardNormal([1])), 1, [4, 1, 1], [TopDownBlock(4, 4, 1)], dense=4)
    model = scrambled(scrambled(VAE(encoder, ladder, PyramidDecoder(1, [1, 2, 2], [4], shortcut=4), Bernoulli())))
    with torch.no_grad():
        model.decoder.head.weight.mul_(8)
        ladder.steps[0].merge.weight.mul_(4)
        ladder.steps[0].prior_head.weight.mul_(4)
    return model.eval()


@torch.no_grad()
def quadrature(model: VAE, x: Tensor, points: int = 241, reach: float = 9.0) -> tuple[Tensor, Tensor]:
    """log p(x) [B] and KL(q(z0,z1|x) || p(z0,z1)) [B] on a grid: z0 on a line, z1 on a line about its own prior."""
    ladder = model.latent
    line = torch.linspace(-reach, reach, points)
    step = line[1] - line[0]
    above = ladder.first(ladder.expand(line[:, None]).view(points, *ladder.map))
    p1 = ladder.steps[0].prior(above).base_dist
    center, scale = p1.loc.view(points, 1), p1.scale.view(points, 1)
    z1 = center + scale * line
    volume = 2 * step.log() + scale.log()
    log_p = Normal(0.0, 1.0).log_prob(line)[:, None] + Normal(center, scale).log_prob(z1)
    px = model.likelihood(model.decoder(ladder.generate(points**2, code=(line.repeat_interleave(points)[:, None], z1.reshape(-1, 1, 1, 1)))))
    evidence, divergence = [], []
    h = model.encoder(model.likelihood.input(x))
    for b in range(len(x)):
        log_px = px.log_prob(model.likelihood.target(x[b : b + 1]).expand(points**2, -1, -1, -1)).flatten(1).sum(1).view(points, points)
        evidence.append((log_px + log_p + volume).flatten().logsumexp(0))
        q0 = ladder.top.posterior(h[0][b : b + 1])
        q1 = ladder.steps[0].posterior(above, h[1][b : b + 1].expand(points, -1, -1, -1), ladder.steps[0].prior(above)).base_dist
        log_q = q0.log_prob(line[:, None])[:, None] + Normal(q1.loc.view(points, 1), q1.scale.view(points, 1)).log_prob(z1)
        weight = (log_q + volume).exp()
        assert weight.sum().item() == pytest.approx(1.0, abs=1e-3), "q(z0, z1|x) integrates to 1"
        divergence.append((weight * (log_q - log_p)).sum())
    return torch.stack(evidence), torch.stack(divergence)


def test_bounds_of_a_ladder_are_ordered_and_tight() -> None:
    """ELBO <= IWAE-5 <= IWAE-50 <= log p(x), IWAE-4000 within 0.01 nat of it, and the rate is the divergence of the joint distributions."""
    model = tiny()
    x = torch.tensor([[0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1], [0, 1, 1, 0]]).view(4, 1, 2, 2).to(torch.uint8)
    log_p, divergence = quadrature(model, x)
    with torch.no_grad():
        out = model(x, k=20_000)
        rate, log_w = out.rate(), out.log_w()
    error = rate.std(0) / math.sqrt(20_000) + 1e-4
    assert ((rate.mean(0) - divergence).abs() < 5 * error).all()
    log_w = log_w.view(20_000, 4)
    iwae = {k: (log_w.view(-1, k, 4).logsumexp(1) - math.log(k)).mean(0) for k in (1, 5, 50, 4000)}
    assert (iwae[1] < iwae[5]).all() and (iwae[5] < iwae[50] + 0.01).all() and (iwae[50] < log_p + 0.01).all()
    assert iwae[1].mean() < iwae[5].mean() < iwae[50].mean() < log_p.mean() + 0.002
    assert ((iwae[4000] - log_p).abs() < 0.01).all()
    assert torch.allclose(-ELBO()(out), iwae[1], atol=0.05) and torch.allclose(-IWAE(20_000)(out), log_p, atol=0.01)


def test_the_probabilities_of_all_images_sum_to_one() -> None:
    model = tiny()
    every = torch.tensor([[i >> j & 1 for j in range(4)] for i in range(16)]).view(16, 1, 2, 2).to(torch.uint8)
    assert quadrature(model, every)[0].logsumexp(0).item() == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("objective", [ELBO(), ELBO(free_bits=0.1), IWAE(4), JointCapacity([1.0, 2.0, Warmup(0.5, 0.0, 3.0)], 5.0)], ids=str)
def test_objectives_of_a_ladder(objective: ELBO) -> None:
    check_objective(objective, scrambled(ladder_vae([1, 8, 8], Gaussian(channels=1))), batch(4, [1, 8, 8]))


def test_the_score_that_sticking_the_landing_leaves_out_has_mean_zero() -> None:
    """Holding every layer's parameters fixed, which also cuts the way from z0 into q(z1|z0, x), leaves the mean of the gradient as it is."""
    model, x = tiny(), torch.tensor([1, 0, 1, 0]).view(1, 1, 2, 2).to(torch.uint8)
    parameters = [p for name, p in model.named_parameters() if "head" in name or "mix" in name or "expand" in name]

    def score() -> Tensor:
        out = model(x, k=200)
        left_out = sum((term.log_q - term.log_q_stopped).mean() for term in out.terms)
        gradients = torch.autograd.grad(left_out, parameters, allow_unused=True)
        return torch.cat([g.flatten() for g in gradients if g is not None])

    scores = torch.stack([score() for _ in range(200)])
    error = scores.std(0) / math.sqrt(len(scores))
    assert (error > 0).any() and (scores.mean(0).abs() < 5 * error + 1e-6).all()
