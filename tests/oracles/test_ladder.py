"""Ladders as models: shapes, conditions, sampling part of the way, folding of samples, and the start."""

import math

import pytest
import torch

from tests.contracts.examples import batch, raw, scrambled
from tests.contracts.families.ladder import features, ladder_vae, small_ladder
from vaekit.errors import UserError
from vaekit.latents import DiagonalGaussian, Flat, StandardNormal
from vaekit.latents.ladder import Ladder, TopDownBlock, Upsampling
from vaekit.latents.priors.vamp import VampPrior
from vaekit.latents.product import Product
from vaekit.likelihoods import Gaussian
from vaekit.model import VAE, _folded
from vaekit.networks import AttributeCondition, ClassCondition
from vaekit.output import Batch, fold
from vaekit.testing import check_gradients, check_spec
from vaekit.testing.ladders import bound_at_the_means, check_latent, rows, same

SHAPES = [[1, 28, 28], [3, 17, 30], [2, 9, 11], [1, 12, 12], [5, 1, 3]]


def model_for(shape: list[int], condition: torch.nn.Module | None = None) -> VAE:
    return scrambled(ladder_vae(shape, Gaussian(channels=shape[0]), condition))


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
