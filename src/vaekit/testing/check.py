"""The contracts of whatever part one has."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.latents import DensityPrior, DiagonalGaussian, Flat, Latent, Posterior, StandardNormal
from vaekit.latents.base import AnchoredPrior
from vaekit.latents.quantizers import Quantizer
from vaekit.likelihoods import Gaussian, Likelihood
from vaekit.model import VAE
from vaekit.networks import Decoder, Encoder, MLPDecoder, MLPEncoder
from vaekit.objectives import Objective
from vaekit.output import Batch
from vaekit.part import Part
from vaekit.penalties import Penalty
from vaekit.testing.anchored import check_anchored_prior
from vaekit.testing.ladders import check_latent
from vaekit.testing.latents import check_posterior, check_prior
from vaekit.testing.likelihoods import check_likelihood
from vaekit.testing.models import check_model, check_objective, check_penalty
from vaekit.testing.parts import check_spec
from vaekit.testing.quantizers import check_quantizer

IMAGE, LATENT, FEATURES = [2, 6, 5], 3, 8
"""Of the small model around the part: two channels, odd and not square."""


def check_part(part: Part, *, features: Tensor | None = None, data: DataSpec | None = None) -> None:
    """Every contract of the part's interface, on small random input, and the round trip through its JSON.

    Args:
        features: what a posterior, a latent or a quantizer reads, where it is not [N, F] with F its first argument.
        data: what a likelihood scores; 8-bit images of two channels if it is not said, or whatever it takes.

    Raises:
        AssertionError: with the contract that is broken.
        UserError: for a part whose interface has no contract of its own.
    """
    check_spec(part)
    for interface, check in _CHECKS.items():
        if isinstance(part, interface):
            return check(part, features, data)
    raise UserError(f"{type(part).__name__} is of no interface that has a contract: {', '.join(c.__name__ for c in _CHECKS)}.")


def _features(part: Part, given: Tensor | None) -> Tensor:
    if given is not None:
        return given
    first = next(iter(part._arguments.values()), None)
    if not isinstance(first, int):
        raise UserError(f"Say what {type(part).__name__} reads: check_part(part, features=...), a tensor [N, F] or [N, F, h, w].")
    return torch.randn(16, first)


def _batch(data: DataSpec, n: int = 5) -> Batch:
    x = torch.randn(n, *data.shape) if data.levels is None else torch.randint(0, data.levels, (n, *data.shape))
    return Batch(x if data.levels is None or data.levels > 256 else x.to(torch.uint8), label=torch.zeros(n, dtype=torch.long), index=torch.arange(n))


def _spec(levels: int | None = 256, shape: list[int] = IMAGE) -> DataSpec:
    c = shape[0]
    return DataSpec("values" if levels is None else "pixels", tuple(shape), levels, ("a", "b"), (), 100, (0.5,) * c, (2.0,) * c)  # type: ignore[arg-type]


def _model(encoder: Encoder | None = None, decoder: Decoder | None = None) -> VAE:
    likelihood = Gaussian(channels=IMAGE[0])
    encoder = encoder or MLPEncoder(IMAGE, FEATURES, 1)
    model = VAE(
        encoder,
        Flat(DiagonalGaussian(encoder.features, LATENT), StandardNormal([LATENT])),
        decoder or MLPDecoder(LATENT, [likelihood.channels(IMAGE[0]), *IMAGE[1:]], FEATURES, 1),
        likelihood,
    )
    with torch.no_grad():
        for parameter in model.parameters():  # layers that start at zero hide what lies behind them
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def _likelihood(part: Likelihood, data: DataSpec | None) -> None:
    levels = getattr(part, "levels", None) or getattr(getattr(part, "units", None), "levels", 256)
    spec = data or _spec(levels)
    check_likelihood(part, spec, _batch(spec).x)


def _network(part: Encoder | Decoder) -> None:
    """A network is checked in the model that its own arguments describe."""
    names = inspect.signature(type(part).__init__).parameters
    if "shape" not in names and "output" not in names:
        raise UserError(f"{type(part).__name__} does not say for which images it is: put it into a model, and check that with check_model.")
    given = part._arguments
    if isinstance(part, Encoder):
        shape = list(given["shape"])
        likelihood = Gaussian(channels=shape[0])
        decoder: Decoder = MLPDecoder(LATENT, [shape[0], *shape[1:]], FEATURES, 1)
        model = VAE(part, Flat(DiagonalGaussian(part.features, LATENT), StandardNormal([LATENT])), decoder, likelihood)
    else:
        shape, latent = list(given["output"]), given["latent"]
        encoder = MLPEncoder(shape, FEATURES, 1)
        model = VAE(encoder, Flat(DiagonalGaussian(FEATURES, latent), StandardNormal([latent])), part, Gaussian(channels=shape[0]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    check_model(model, _batch(_spec(shape=shape)))


_CHECKS: dict[type[Part], Callable[..., None]] = {
    Posterior: lambda part, features, data: check_posterior(part, _features(part, features)),
    DensityPrior: lambda part, features, data: check_prior(part),
    AnchoredPrior: lambda part, features, data: check_anchored_prior(part, DiagonalGaussian(FEATURES, 2)(torch.randn(4, FEATURES))),
    Quantizer: lambda part, features, data: check_quantizer(part, features if features is not None else torch.randn(6, part.channels, 3, 2)),
    Latent: lambda part, features, data: check_latent(part, _features(part, features)),
    Likelihood: lambda part, features, data: _likelihood(part, data),
    Objective: lambda part, features, data: check_objective(part, _model(), _batch(_spec())),
    Penalty: lambda part, features, data: check_penalty(part, _model(), _batch(_spec())),
    Encoder: lambda part, features, data: _network(part),
    Decoder: lambda part, features, data: _network(part),
    VAE: lambda part, features, data: check_model(part, _batch(data or _spec())),
}
