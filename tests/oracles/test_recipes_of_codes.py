"""Recipes of quantized models, and the networks whose codes are maps: any images, conditions and knobs."""

import pytest
import torch

from tests.contracts.examples import Batch, batch, raw, scrambled, spec_of
from vaekit.networks import ClassCondition
from vaekit.networks.maps import MapDecoder, MapEncoder
from vaekit.recipes import build_recipe
from vaekit.testing import check_gradients, check_spec

RECIPES = ["vq", "vq-ema", "rvq", "grouped-vq", "fsq", "lfq"]


@pytest.mark.parametrize("shape", [[1, 28, 28], [3, 8, 8], [2, 9, 11], [5, 1, 3]], ids=str)
@pytest.mark.parametrize("condition", [0, 3])
def test_maps_of_any_size(shape: list[int], condition: int) -> None:
    encoder = scrambled(MapEncoder(shape, 4, [4, 8], condition=condition))
    decoder = scrambled(MapDecoder(4, [2, *shape[1:]], [4, 8], norm=True, condition=condition))
    x, c = torch.randn(3, *shape), torch.randn(3, condition) if condition else None
    h = encoder(x, c)
    assert h.shape == (3, 4, -(-shape[1] // 4), -(-shape[2] // 4))
    assert decoder(h, c).shape == (3, 2, *shape[1:])
    check_gradients(encoder, h.square().sum())
    check_gradients(decoder, decoder(h.detach(), c).square().sum())
    bias = torch.randn(2, *shape[1:])
    decoder.initialize(bias)
    assert torch.equal(decoder.bias, bias)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(("shape", "levels"), [([1, 28, 28], 2), ([3, 17, 30], 256), ([1, 12, 12], None)], ids=str)
def test_recipes_of_codes(name: str, shape: list[int], levels: int | None) -> None:
    """Everything a model does, on codes."""
    recipe = build_recipe(name, spec_of(shape, levels), scale=0.25)
    model, x = recipe.model, batch(4, shape, levels)
    model.initialize(x)
    scrambled(model)
    check_spec(model)
    out = model(x)
    check_gradients(model, recipe.objective(out).mean())
    model.post_step(out.stats)
    model.eval()
    code = model.encode(x)
    assert code[0].dtype == torch.long and code[0].shape == (4, *model.latent.prior.shape)
    assert torch.equal(code[0], torch.cat([model.encode(x[i : i + 1])[0] for i in range(4)]))
    image = (4, *shape)
    assert model.sample(4).shape == model.reconstruct(x).shape == image
    px = model.decode(code)
    assert px.mean.shape == image and torch.allclose(px.mean, model.reconstruct(x))
    elbo = (px.log_prob(model.likelihood.target(x.x)).flatten(1).sum(1) + model.latent.prior().log_prob(code[0])).detach()
    assert torch.allclose(model.score(x, k=5, chunk=2), elbo, rtol=1e-4), "without noise, the importance-weighted bound is the ELBO"


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_codes_take_conditions_and_knobs(name: str) -> None:
    data = spec_of([1, 16, 16], classes=("a", "b", "c"), attributes=("u", "v"))
    small = build_recipe(name, data, condition="class", latent=2, scale=0.25).model
    large = build_recipe(name, data, condition="attributes", latent=5, scale=2.0).model
    assert (small.latent.quantizer.channels, large.latent.quantizer.channels) == (2, 5)
    assert sum(p.numel() for p in large.parameters()) > 4 * sum(p.numel() for p in small.parameters())
    scrambled(small)
    x = Batch(raw(4, [1, 16, 16]), condition=torch.tensor([0, 1, 2, 0]))
    assert small.sample(4, condition=2).shape == small.decode(small.encode(x), condition=x.condition).mean.shape == (4, 1, 16, 16)
    assert small.reconstruct(x).shape == (4, 1, 16, 16) and small.score(x, k=2).shape == (4,)
    told = Batch(x.x, condition=torch.randn(4, 2))
    assert torch.isfinite(large(told).rate()).all()
    codes = torch.zeros(2, *small.latent.prior.shape, dtype=torch.long)
    log_p = small.latent.prior(small.embed(torch.tensor([0, 1]))).log_prob(codes)
    assert isinstance(small.condition, ClassCondition) and log_p[0] != log_p[1], "the prior is told as well"


def test_knobs_of_codes() -> None:
    data = spec_of([1, 28, 28])
    assert build_recipe("rvq", data, knobs={"levels": 4, "codebook": 32}).model.latent.prior.shape == (4, 7, 7)
    assert build_recipe("grouped-vq", data, knobs={"groups": 4}).model.latent.quantizer.levels == 4
    assert build_recipe("lfq", data, latent=20).model.latent.quantizer.size == 1024
    assert build_recipe("fsq", data).model.latent.quantizer.size == 252
    assert build_recipe("vq", spec_of([3, 64, 64])).model.latent.prior.shape == (1, 8, 8)
