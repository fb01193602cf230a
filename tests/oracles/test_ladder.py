"""Ladders and products against quadrature, closed forms and Monte-Carlo."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from tests.contracts.examples import batch, raw, scrambled, spec_of, vae
from tests.contracts.families.ladder import features, ladder_vae, product, small_ladder
from vaekit.distributions.relaxed_categorical import RelaxedOneHots
from vaekit.errors import UserError
from vaekit.latents import DiagonalGaussian, Flat, StandardNormal
from vaekit.latents.ladder import Ladder, TopDownBlock, Upsampling
from vaekit.latents.priors.categories import UniformCategories
from vaekit.latents.priors.vamp import VampPrior
from vaekit.latents.product import Product
from vaekit.likelihoods import Bernoulli, Gaussian
from vaekit.model import VAE, _folded
from vaekit.networks import AttributeCondition, ClassCondition
from vaekit.networks.pyramid import PyramidDecoder, PyramidEncoder
from vaekit.objectives import ELBO, IWAE, Warmup
from vaekit.objectives.joint import JointCapacity, imbalance
from vaekit.output import Batch, LatentTerm, VAEOutput, fold
from vaekit.part import build, spec
from vaekit.recipes import build_recipe
from vaekit.testing import check_gradients, check_objective, check_spec
from vaekit.testing.ladders import bound_at_the_means, check_latent, rows, same

SHAPES = [[1, 28, 28], [3, 17, 30], [2, 9, 11], [1, 12, 12], [5, 1, 3]]


def model_for(shape: list[int], condition: torch.nn.Module | None = None) -> VAE:
    return scrambled(ladder_vae(shape, Gaussian(channels=shape[0]), condition))


# ---- contracts of the whole model


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("told", ["nothing", "class", "attributes"])
def test_a_ladder_of_any_shape(shape: list[int], told: str) -> None:
    """Shapes, spec, a gradient for every parameter, sampling and scoring, and no image sees its neighbours."""
    condition = {"nothing": None, "class": ClassCondition(4, 5), "attributes": AttributeCondition(3)}[told]
    c = {"nothing": None, "class": torch.arange(4), "attributes": torch.randn(4, 3)}[told]
    model = model_for(shape, condition)
    x = Batch(raw(4, shape), condition=c)
    check_spec(model)
    out = model(x)
    assert len(out.terms) == 3 and out.rate().shape == (1, 4)
    check_gradients(model, (out.distortion + out.rate()).mean())
    together = bound_at_the_means(model, x)
    alone = torch.cat([bound_at_the_means(model, x[i : i + 1]) for i in range(4)])
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-2)
    assert model(x, k=3).log_w().shape == (3, 4)
    assert model.reconstruct(x).shape == x.x.shape == model.reconstruct(x, layers=1).shape
    assert model.sample(4, condition=c).shape == x.x.shape
    code = model.encode(x)
    each = [model.encode(x[i : i + 1]) for i in range(4)]
    assert all(torch.allclose(z, torch.cat(alone), rtol=1e-4, atol=1e-5) for z, alone in zip(code, zip(*each, strict=True), strict=True))
    assert torch.allclose(model.decode(code, condition=c).mean, model.reconstruct(x), rtol=1e-4, atol=1e-4)
    assert model.score(x, k=5, chunk=2).shape == (4,)
    model.initialize(x)


def test_conditions_reach_every_layer() -> None:
    model = model_for([1, 8, 8], ClassCondition(4, 5))
    x = raw(4, [1, 8, 8])
    a, b = (model.encode(Batch(x, condition=torch.full((4,), i))) for i in (0, 1))
    assert all(not torch.allclose(one, other) for one, other in zip(a, b, strict=True))
    c = [model.embed(torch.full((4,), i)) for i in (0, 1)]
    a, b = (model.latent.generate(4, code=a[:1], c=told, temperature=0.0)[1] for told in c)
    assert not torch.allclose(a, b), "the maps below the top hear of the condition too"


@pytest.mark.parametrize("steps", [1, 3])
def test_the_contract_of_latents(steps: int) -> None:
    check_latent(scrambled(small_ladder(steps)), features())


def test_the_contract_of_latents_for_products() -> None:
    check_latent(scrambled(product()), torch.randn(6, 8))


def test_infer_at_the_mean_is_generate_with_all_codes_and_nothing_else() -> None:
    ladder = scrambled(small_ladder())
    d, terms = ladder.infer(features(), mean=True)
    assert all(torch.equal(term.z, term.q.mean) for term in terms), "each layer is at its mean, given the means above"
    code = tuple(term.z for term in terms)
    assert same(ladder.generate(6, code=code), d)
    assert not same(ladder.generate(6, code=(code[0], code[1] + 0.1, code[2])), d)
    assert not same(ladder.generate(6, code=(code[0], code[1], code[2] + 0.1)), d)


def test_partial_sampling() -> None:
    """`reconstruct(x, layers=1)` is the top code of x with everything below it drawn from the prior."""
    model = model_for([1, 12, 12])
    x = raw(5, [1, 12, 12])
    torch.manual_seed(1)
    kept = model.reconstruct(x, layers=1)
    torch.manual_seed(1)
    assert torch.allclose(kept, model.sample(5, code=model.encode(x)[:1]), rtol=1e-5)
    assert not torch.allclose(kept, model.reconstruct(x), rtol=1e-3)
    assert torch.allclose(model.reconstruct(x, layers=3), model.reconstruct(x))


def test_a_temperature_of_zero_goes_down_the_means_of_the_prior() -> None:
    ladder = scrambled(small_ladder())
    z = torch.randn(6, 3)
    assert same(ladder.generate(6, code=(z,), temperature=0.0), ladder.generate(6, code=(z,), temperature=0.0))
    draws = torch.stack([ladder.generate(6, code=(z,), temperature=t)[1] for t in (0.0, 0.01, 1.0)])
    assert (draws[0] - draws[1]).abs().mean() < 0.1 * (draws[0] - draws[2]).abs().mean()


def test_codes_too_many_and_features_too_few_are_refused() -> None:
    ladder = small_ladder()
    with pytest.raises(UserError, match="3 stochastic layers, and 4"):
        ladder.generate(1, code=(torch.zeros(1, 3), torch.zeros(1, 2, 2, 3), torch.zeros(1, 3, 4, 6), torch.zeros(1, 1)))
    with pytest.raises(UserError, match="PyramidEncoder"):
        ladder.infer(torch.zeros(2, 8))
    with pytest.raises(UserError, match="vector of 4"):
        Ladder(Flat(DiagonalGaussian(8, 3), StandardNormal([3])), 4, [8, 2, 3], [TopDownBlock(8, 5, 2)])
    with pytest.raises(UserError, match="group of latents"):
        Ladder(Flat(DiagonalGaussian(8, 3), StandardNormal([3])), 3, [8, 2, 3], [Upsampling(8, 4)])


def test_k_samples_are_folded_into_every_level() -> None:
    """K outermost at each level of the features: rows k*B + b of every layer belong to image b."""
    ladder, h = scrambled(small_ladder()), features(4)
    d, terms = ladder.infer(h, mean=True)
    d3, terms3 = ladder.infer(_folded(h, 3), mean=True)
    assert same(d3, {k: fold(v, 3) for k, v in d.items()})
    assert all(torch.allclose(a.kl, fold(b.kl, 3), atol=1e-5) for a, b in zip(terms3, terms, strict=True))
    drawn, _ = ladder.infer(_folded(h, 3))
    assert not same(rows(drawn, slice(0, 4)), rows(drawn, slice(4, 8))), "the samples of one image are different draws"


def test_a_ladder_starts_as_a_flat_vae() -> None:
    """Zero heads: every group starts at q = p = N(0, I), with no rate, whatever the image."""
    _, terms = small_ladder().infer(features())
    for term in terms[1:]:
        assert torch.equal(term.kl, torch.zeros_like(term.kl))
        assert (term.p.mean == 0).all() and (term.p.stddev == 1).all()


def test_log_variances_are_bounded() -> None:
    """sigma in (e^-4, e^4) for the prior and, relative to it, for the posterior: far-out weights give finite divergences and gradients."""
    ladder = scrambled(small_ladder())
    with torch.no_grad():
        for p in ladder.steps.parameters():
            p.mul_(20)
    h = {level: 10 * v for level, v in features().items()}
    _, terms = ladder.infer(h)
    for term in terms[1:]:
        assert (term.p.stddev.log().abs() <= 4.001).all()
        assert ((term.q.stddev / term.p.stddev).log().abs() <= 4.001).all()
    total = sum(term.rate() for term in terms)
    assert torch.isfinite(total).all()
    total.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in ladder.parameters() if p.grad is not None)


# ---- the rate


def test_the_rate_of_a_whole_ladder_is_its_monte_carlo_estimate() -> None:
    """E_q[sum of the layers' analytic divergences] = E_q[log q(z|x) - log p(z)] within the error."""
    model, x = model_for([1, 6, 6]), raw(3, [1, 6, 6])
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
    check_objective(objective, model_for([1, 8, 8]), batch(4, [1, 8, 8]))


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


def test_mixed_precision_keeps_the_divergence_in_float32() -> None:
    model, x = model_for([1, 12, 12]), raw(4, [1, 12, 12])
    exact = bound_at_the_means(model, Batch(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x)
        rough = bound_at_the_means(model, Batch(x))
    assert all(term.z.dtype == term.kl.dtype == term.log_q.dtype == torch.float32 for term in out.terms)
    assert torch.allclose(exact, rough, rtol=0.02)


def test_a_vamp_prior_may_stand_at_the_top() -> None:
    """Its pseudo-inputs go through the whole encoder, and the top reads the dense features of that alone."""
    model = ladder_vae([1, 8, 8], Gaussian(channels=1))
    top = model.latent.top
    model.latent.top = Flat(top.posterior, VampPrior([1, 8, 8], components=5))
    x = batch(4, [1, 8, 8])
    model.initialize(x)
    scrambled(model)
    out = model(x, k=2)
    check_gradients(model, (out.distortion + out.rate()).mean())
    expected = top.posterior(model.encoder(model.latent.anchored.images().x)[0])
    z = out.terms[0].z
    by_hand = torch.stack([expected.log_prob(row) for row in z]).logsumexp(1) - math.log(5)
    assert torch.allclose(out.terms[0].log_p, by_hand, rtol=1e-4)
    assert model.sample(3).shape == (3, 1, 8, 8) and model.reconstruct(x, layers=1).shape == x.x.shape
    with pytest.raises(UserError, match="VampPrior"):
        Product([Flat(DiagonalGaussian(8, 3), VampPrior([1, 8, 8], components=5))])


# ---- products and capacities


def product_vae() -> VAE:
    model = vae("mlp", latent=5)
    parts = [Flat(DiagonalGaussian(16, 3), StandardNormal([3])), Flat(DiagonalGaussian(16, 2), StandardNormal([2]))]
    return scrambled(VAE(model.encoder, Product(parts), model.decoder, model.likelihood))


def test_a_product_of_gaussians_is_one_gaussian() -> None:
    """Two parts side by side with the same heads are the flat Gaussian of all dimensions: the same rate, and the same log q."""
    two, h = product(), torch.randn(6, 8)
    one = Flat(DiagonalGaussian(8, 5), StandardNormal([5]))
    a, b = (part.posterior.head for part in two.parts)
    with torch.no_grad():
        for name in ("weight", "bias"):
            first, second = getattr(a, name), getattr(b, name)
            getattr(one.posterior.head, name).copy_(torch.cat([first[:3], second[:2], first[3:], second[2:]]))
    d, terms = two.infer(h, mean=True)
    whole, (term,) = one.infer(h, mean=True)
    assert torch.allclose(d, whole)
    assert torch.allclose(sum(t.rate() for t in terms), term.rate(), rtol=1e-5)
    assert torch.allclose(sum(t.log_q for t in terms), term.log_q, rtol=1e-5)
    assert torch.allclose(sum(t.log_p for t in terms), term.log_p, rtol=1e-5)
    assert torch.equal(two.generate(6, code=(d[:, :3],))[:, :3], d[:, :3])


def test_a_product_in_a_model() -> None:
    model, x = product_vae(), batch(4)
    check_spec(model)
    out = model(x)
    check_gradients(model, (out.distortion + out.rate()).mean())
    assert model.sample(3).shape == (3, 2, 9, 11)
    code = model.encode(x)
    assert [tuple(z.shape) for z in code] == [(4, 3), (4, 2)]
    assert torch.allclose(model.decode(code).mean, model.reconstruct(x))


def test_products_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="several layers"):
        Product([small_ladder()])
    with pytest.raises(UserError, match="at least one"):
        Product([])
    with pytest.raises(UserError, match="2 latents side by side, and 3"):
        product().generate(1, code=(torch.zeros(1, 3), torch.zeros(1, 2), torch.zeros(1, 1)))


def test_joint_capacity_is_dupont_eq_7() -> None:
    """distortion + gamma (|KL_1 - C_1| + |KL_2 - C_2|): each latent has its own capacity, and not their sum."""
    objective = JointCapacity([Warmup(0.5, 0.0, 4.0), 1.5], gamma=30.0)
    out = product_vae()(batch())
    rates = [kl_divergence(Normal(t.q.mean, t.q.stddev), Normal(0.0, 1.0)).sum(1) for t in out.terms]
    for fraction, capacity in ((0.0, 0.0), (0.25, 2.0), (0.5, 4.0), (1.0, 4.0)):
        assert objective.progress(fraction) == {"capacity_0": capacity, "capacity_1": 1.5}
        expected = out.distortion[0] + 30 * ((rates[0] - capacity).abs() + (rates[1] - 1.5).abs())
        assert torch.allclose(objective(out), expected, rtol=1e-5)
    with pytest.raises(UserError, match="3 capacities"):
        JointCapacity([1.0, 1.0, 1.0])(out)
    assert spec(build(spec(objective))) == spec(objective)


def categorical(logits: Tensor) -> VAEOutput:
    """What a model with one categorical code gives, with log p(x|z) = 0."""
    n = len(logits)
    term = LatentTerm(torch.zeros(n, 4), RelaxedOneHots(logits.unsqueeze(1), torch.tensor(0.5)), UniformCategories(1, 4)())
    return VAEOutput(Batch(torch.zeros(n, 1)), Normal(0.0, 1.0), torch.zeros(1, n), (term,))


def test_a_class_that_is_the_same_for_all_images_is_no_information() -> None:
    """It fills the capacity log K, image by image; the balance tells it from one class for each kind of image."""
    objective = JointCapacity([math.log(4)], 30.0, balance=7.0)
    constant = torch.full((8, 4), -30.0)
    constant[:, 2] = 30
    informative = 60 * torch.eye(4).repeat(2, 1) - 30
    for logits, expected in ((constant, 7 * math.log(4)), (informative, 0.0)):
        assert torch.allclose(JointCapacity([math.log(4)], 30.0)(categorical(logits)), torch.zeros(8), atol=1e-4)
        assert torch.allclose(objective(categorical(logits)), torch.full((8,), expected), atol=1e-4)
    # I(x; z) + KL(q(z) || p) = E_x[KL(q(z|x) || p)]
    out = categorical(torch.randn(8, 4))
    q = out.terms[0].q.probs[:, 0]
    information = -(q.mean(0) * q.mean(0).log()).sum() + (q * q.log()).sum(1).mean()
    assert torch.allclose(information + imbalance(out), out.rate().mean(), rtol=1e-4)


def test_joint_capacity_of_a_batch() -> None:
    check_objective(JointCapacity([2.0, 1.0]), product_vae(), batch())


# ---- recipes


@pytest.mark.parametrize(("shape", "levels"), [([1, 28, 28], 2), ([3, 17, 30], 256), ([1, 12, 12], None), ([1, 64, 64], 256)], ids=str)
@pytest.mark.parametrize("name", ["ladder", "joint"])
def test_recipes(name: str, shape: list[int], levels: int | None) -> None:
    recipe = build_recipe(name, spec_of(shape, levels, classes=("a", "b", "c")), scale=0.25, condition="class")
    model, x = scrambled(recipe.model), Batch(raw(3, shape, levels), condition=torch.arange(3))
    check_spec(model)
    out = model(x)
    check_gradients(model, recipe.objective(out).mean())
    assert len(out.terms) == (2 if name == "joint" else 3 if levels == 2 else 5 if min(shape[1:]) > 15 else 3)
    assert model.sample(3).shape == model.reconstruct(x).shape == x.x.shape


def test_knobs() -> None:
    data = spec_of([1, 28, 28], 2)
    recipe = build_recipe("ladder", data, latent=7, knobs={"groups": 3, "channels": 4, "components": 1, "resolutions": 2})
    shapes = [tuple(term.z.shape[1:]) for term in recipe.model(raw(2, [1, 28, 28], 2)).terms]
    assert shapes == [(7,), *[(4, 7, 7)] * 3, *[(4, 14, 14)] * 3]
    t = build_recipe("ladder", data, knobs={"components": 1}).defaults
    assert (t.clip, t.ema, t.betas, t.weight_decay, t.lr_warmup, t.lr_hold, t.schedule) == (200.0, 0.999, (0.9, 0.99), 0.01, 0.02, 0.4, "linear")
    assert isinstance(recipe.objective.beta_schedule, Warmup) and recipe.objective.beta_schedule.fraction == 0.1


def test_the_capacity_of_a_category_is_at_most_log_k() -> None:
    objective = build_recipe("joint", spec_of([1, 28, 28], 2), knobs={"classes": 4, "capacity": 20}, scale=0.25).objective
    assert objective.progress(1.0) == {"capacity_0": 20.0, "capacity_1": pytest.approx(math.log(4))}
