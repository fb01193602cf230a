"""Latents side by side, and the objective that gives each its own capacity."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from tests.contracts.examples import batch, scrambled, spec_of, vae
from tests.contracts.families.ladder import product, small_ladder
from vaekit.distributions.relaxed_categorical import RelaxedOneHots
from vaekit.errors import UserError
from vaekit.latents import DiagonalGaussian, Flat, StandardNormal
from vaekit.latents.priors.categories import UniformCategories
from vaekit.latents.product import Product
from vaekit.model import VAE
from vaekit.objectives import Warmup
from vaekit.objectives.joint import JointCapacity, imbalance
from vaekit.output import Batch, LatentTerm, VAEOutput
from vaekit.part import build, spec
from vaekit.recipes import build_recipe
from vaekit.testing import check_gradients, check_objective, check_spec
from vaekit.testing.ladders import check_latent

# ---- products


def test_the_contract_of_latents_for_products() -> None:
    check_latent(scrambled(product()), torch.randn(6, 8))


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


# ---- capacities


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


def test_the_capacity_of_a_category_is_at_most_log_k() -> None:
    objective = build_recipe("joint", spec_of([1, 28, 28], 2), knobs={"classes": 4, "capacity": 20}, scale=0.25).objective
    assert objective.progress(1.0) == {"capacity_0": 20.0, "capacity_1": pytest.approx(math.log(4))}
