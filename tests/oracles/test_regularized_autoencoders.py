"""What regularized autoencoders hold small: the decoder's Jacobian, the norm of codes, and the layers' spectral norm."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from tests.contracts.examples import batch, scrambled, vae
from tests.oracles.codes import of_codes
from tests.oracles.test_bounds import Flatten
from vaekit.latents import Flat, StandardNormal
from vaekit.latents.posteriors.point import PointPosterior
from vaekit.likelihoods import Gaussian
from vaekit.model import VAE
from vaekit.networks import ConvDecoder, Decoder, ResNetDecoder
from vaekit.networks.spectral import SpectralDecoder
from vaekit.part import build, spec
from vaekit.penalties import CodeNorm, DecoderGradient
from vaekit.testing import check_model
from vaekit.training.ema import Average


class Linear(Decoder):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2 * 4 * 5)

    def forward(self, d: Tensor, c: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        return self.linear(d).view(len(d), 2, 4, 5)


def linear_model() -> VAE:
    likelihood = Gaussian(sigma=0.5, channels=2, levels=None, mean=[3.0, 3.0], std=[2.0, 2.0])
    return VAE(Flatten(40), Flat(PointPosterior(40, 3), StandardNormal([3])), Linear(), likelihood)


def test_decoder_gradient_is_the_frobenius_norm_of_the_jacobian() -> None:
    model = linear_model()
    exact = model.decoder.linear.weight.square().sum().item()
    penalty = DecoderGradient(None, [3.0, 3.0], [2.0, 2.0])
    draws = torch.cat([penalty(model(torch.randn(64, 2, 4, 5))).detach() for _ in range(20)])
    assert abs(draws.mean().item() - exact) < 5 * draws.std().item() / math.sqrt(len(draws)), "in network units, whatever the raw ones"
    model.zero_grad()
    torch.manual_seed(0)
    torch.stack([penalty(model(torch.randn(256, 2, 4, 5))).mean() for _ in range(20)]).mean().backward()
    assert torch.allclose(model.decoder.linear.weight.grad, 2 * model.decoder.linear.weight, atol=0.15)
    with torch.no_grad():
        assert penalty(model(torch.randn(4, 2, 4, 5))).sum() == 0, "a pass that only measures has no gradient to look at"


def test_decoder_gradient_of_a_network_against_its_jacobian() -> None:
    model = scrambled(vae("resnet")).eval()
    out = model(batch(2))
    penalty = DecoderGradient(256)
    draws = torch.stack([penalty(out).detach() for _ in range(300)])
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda z: model.likelihood(model.decoder(z)).mean / 255, out.terms[0].z[i : i + 1].detach())
        assert abs(draws[:, i].mean() - jacobian.square().sum()) < 5 * draws[:, i].std() / math.sqrt(300)


def test_code_norm_is_the_gaussian_without_its_constant() -> None:
    out = of_codes(torch.randn(7, 4), torch.ones(7, 4))
    expected = -Independent(Normal(torch.zeros(4), 1.0), 1).log_prob(out.terms[0].z) - 2 * math.log(2 * math.pi)
    assert torch.allclose(CodeNorm()(out), expected, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: ResNetDecoder(3, [2, 9, 11], [4, 8], dense=8, shortcut=8), lambda: ConvDecoder(3, [2, 9, 11], [4, 8], 16)])
def test_spectral_decoder(make) -> None:  # type: ignore[no-untyped-def]
    """Every layer has norm 1 after some passes; it is saved, copied, averaged and given its bias as any decoder."""
    decoder = SpectralDecoder(make()).train()
    for _ in range(60):
        decoder(torch.randn(4, 3))
    decoder.eval()
    layers = [m for m in decoder.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    assert layers
    for layer in layers:
        weight = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
        assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.03)
    z = torch.randn(4, 3)
    again = build(spec(decoder)).eval()
    again.load_state_dict(decoder.state_dict())
    assert torch.equal(again(z), decoder(z)) and torch.equal(copy.deepcopy(decoder)(z), decoder(z))
    likelihood = Gaussian(channels=2)
    model = vae("mlp")
    model.decoder, model.likelihood = SpectralDecoder(make()), likelihood
    average = Average(model, 0.9)
    model.initialize(batch(16))
    model.train()(batch())
    average.update()
    average.evaluated()
    assert torch.isfinite(average.model.eval()(batch()).log_px).all()
    check_model(scrambled(model), batch(4))
