"""One way to build every registered part: a part without an example fails the suite."""

import importlib
import pkgutil

import torch

from tests.contracts import families
from vaekit.data import DataSpec
from vaekit.latents import DiagonalGaussian, Flat, StandardNormal
from vaekit.likelihoods import Bernoulli, Categorical, Causal, ContinuousBernoulli, Gaussian, Laplace, Logistic, Mixture
from vaekit.model import VAE
from vaekit.networks import (
    AttributeCondition,
    ClassCondition,
    ConvDecoder,
    ConvEncoder,
    MLPDecoder,
    MLPEncoder,
    OneHotCondition,
    ResNetDecoder,
    ResNetEncoder,
)
from vaekit.objectives import ELBO, IWAE, Annealing, Constant, Cyclical, Warmup
from vaekit.output import Batch
from vaekit.part import Part

SHAPE = [2, 9, 11]
"""Two channels, odd and not square."""


def nets(name: str, shape: list[int] = SHAPE, params: int = 2, latent: int = 3, condition: int = 0) -> tuple[Part, Part]:
    output = [params, *shape[1:]]
    if name == "mlp":
        return MLPEncoder(shape, 16, 1, condition=condition), MLPDecoder(latent, output, 16, 1, condition=condition)
    if name == "conv":
        return ConvEncoder(shape, [4, 8], 16, condition), ConvDecoder(latent, output, [4, 8], 16, condition)
    options = {"widths": [4, 8], "dense": 8, "shortcut": 8, "norm": name == "resnet-norm", "patch": 1 if name == "resnet-norm" else 2}
    return ResNetEncoder(shape, condition=condition, **options), ResNetDecoder(latent, output, condition=condition, **options)


NETS = ["mlp", "conv", "resnet", "resnet-norm"]


def vae(name: str = "mlp", shape: list[int] = SHAPE, likelihood: Part | None = None, condition: Part | None = None, latent: int = 3) -> VAE:
    likelihood = likelihood or Gaussian(channels=shape[0])
    told = 0 if condition is None else condition.features
    encoder, decoder = nets(name, shape, likelihood.channels(shape[0]), latent, told)
    return VAE(encoder, Flat(DiagonalGaussian(encoder.features, latent), StandardNormal([latent])), decoder, likelihood, condition)


def raw(n: int, shape: list[int] = SHAPE, levels: int | None = 256) -> torch.Tensor:
    return torch.randn(n, *shape) if levels is None else torch.randint(0, levels, (n, *shape), dtype=torch.uint8)


def batch(n: int = 5, shape: list[int] = SHAPE, levels: int | None = 256) -> Batch:
    return Batch(raw(n, shape, levels), index=torch.arange(n))


def spec_of(shape: list[int] = SHAPE, levels: int | None = 256, **more: object) -> DataSpec:
    c = shape[0]
    return DataSpec("values" if levels is None else "pixels", tuple(shape), levels, count=100, mean=(0.5,) * c, std=(2.0,) * c, **more)


def scrambled(part: Part) -> Part:
    """Zero-initialized layers get weights too: otherwise what lies behind them gets no gradient."""
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return part


EXAMPLES = {
    "VAE": vae,
    "Flat": lambda: Flat(DiagonalGaussian(8, 3), StandardNormal([3])),
    "DiagonalGaussian": lambda: DiagonalGaussian(8, 3),
    "StandardNormal": lambda: StandardNormal([2]),
    "Bernoulli": Bernoulli,
    "Causal": lambda: Causal(Mixture(2, channels=2), 2, context=2, width=4, layers=1),
    "Categorical": lambda: Categorical(levels=5),
    "ContinuousBernoulli": lambda: ContinuousBernoulli(levels=256),
    "Gaussian": lambda: Gaussian(channels=2),
    "Laplace": lambda: Laplace(channels=2),
    "Logistic": lambda: Logistic(levels=17),
    "Mixture": lambda: Mixture(components=3, channels=2, levels=5),
    "ClassCondition": lambda: ClassCondition(4),
    "OneHotCondition": lambda: OneHotCondition(4),
    "AttributeCondition": lambda: AttributeCondition(3, marked=True),
    "MLPEncoder": lambda: nets("mlp")[0],
    "MLPDecoder": lambda: nets("mlp")[1],
    "ConvEncoder": lambda: nets("conv")[0],
    "ConvDecoder": lambda: nets("conv")[1],
    "ResNetEncoder": lambda: nets("resnet")[0],
    "ResNetDecoder": lambda: nets("resnet")[1],
    "ELBO": lambda: ELBO(beta=Warmup(0.1), free_bits=0.1),
    "IWAE": lambda: IWAE(4),
    "Constant": Constant,
    "Warmup": Warmup,
    "Annealing": Annealing,
    "Cyclical": Cyclical,
}
FEATURES: dict = {}
"""What a latent reads, where that is not [6, 8]."""
for module in pkgutil.iter_modules(families.__path__):
    family = importlib.import_module(f"tests.contracts.families.{module.name}")
    EXAMPLES |= family.EXAMPLES
    FEATURES |= getattr(family, "FEATURES", {})
