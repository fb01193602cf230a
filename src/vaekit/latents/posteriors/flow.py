"""Posteriors that push a Gaussian through invertible maps."""

import abc
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
import zuko
from jaxtyping import Float
from torch import Tensor, nn
from zuko.flows import MaskedAutoregressiveTransform
from zuko.lazy import LazyComposedTransform, LazyInverse

from vaekit.distributions.flowed import Chain, Flowed, Map
from vaekit.distributions.planar import Planar
from vaekit.distributions.radial import Radial
from vaekit.distributions.scale import deviation
from vaekit.distributions.zuko_map import ZukoMap
from vaekit.errors import UserError
from vaekit.latents.base import Posterior

ANYWHERE = frozenset({"density", "stopped", "anywhere", "divergence", "vector"})


class AmortizedFlow(Posterior):
    """z = f(e; h), e ~ N(mu(h), diag sigma^2(h)): one dense layer gives mu, log sigma^2 and what the maps are told.

    Args:
        features: F, the width of the encoder's output [N, F].
        latent: D, the number of latent dimensions.
        context: G, the numbers that the maps are told of an image.
    """

    gives: ClassVar[frozenset[str]] = ANYWHERE

    def __init__(self, features: int, latent: int, context: int) -> None:
        super().__init__()
        self.latent, self.context = latent, context
        self.head = nn.Linear(features, 2 * latent + context)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.latent,)

    @abc.abstractmethod
    def flow(self, context: Float[Tensor, "N G"]) -> Map:
        """f, given the image."""

    def forward(self, h: Float[Tensor, "N F"]) -> Flowed:  # type: ignore[override]
        mean, log_variance, context = self.head(h).float().split([self.latent, self.latent, self.context], dim=-1)
        return Flowed(mean, deviation(log_variance), self.flow(context))


class PlanarFlow(AmortizedFlow):
    """K planar maps, e + v tanh(w.e + b), whose parameters come from the encoder, as in the paper (each image has maps of its own).

    Its density at any code costs a root of a monotone function of one number for each map.

    References: Variational Inference with Normalizing Flows (Rezende, Mohamed, 2015), Eq. 10-13 and A.1, https://arxiv.org/abs/1505.05770

    Args:
        features, latent: F and D, as in `DiagonalGaussian`.
        steps: K.
    """

    def __init__(self, features: int, latent: int, steps: int = 10) -> None:
        super().__init__(features, latent, steps * (2 * latent + 1))
        self.steps = steps

    def flow(self, context: Float[Tensor, "N G"]) -> Map:
        each = [part.split([self.latent, self.latent, 1], dim=-1) for part in context.chunk(self.steps, dim=-1)]
        return Chain([Planar(u, w, b.squeeze(-1)) for u, w, b in each])


class RadialFlow(AmortizedFlow):
    """K radial maps, which pull codes to a centre or push them from it, whose parameters come from the encoder.

    References: Variational Inference with Normalizing Flows (Rezende, Mohamed, 2015), Eq. 14 and A.2, https://arxiv.org/abs/1505.05770

    Args:
        features, latent: F and D, as in `DiagonalGaussian`.
        steps: K.
    """

    def __init__(self, features: int, latent: int, steps: int = 10) -> None:
        super().__init__(features, latent, steps * (latent + 2))
        self.steps = steps

    def flow(self, context: Float[Tensor, "N G"]) -> Map:
        each = [part.split([self.latent, 1, 1], dim=-1) for part in context.chunk(self.steps, dim=-1)]
        return Chain([Radial(centre, alpha.squeeze(-1), s.squeeze(-1)) for centre, alpha, s in each])


class IAF(AmortizedFlow):
    """K inverse autoregressive maps, e_j <- e_j exp(s_j) + m_j with s_j and m_j of e_<j and the image: samples and their density in one pass.

    The order is reversed from one map to the next. The density elsewhere takes D passes for each map, so that it is not given "anywhere",
    though `log_prob` is right there. exp(s_j) is kept above 1e-3 and below 1e3.

    References: Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), Eq. 10-11, https://arxiv.org/abs/1606.04934

    Args:
        features, latent: F and D, as in `DiagonalGaussian`.
        steps: K.
        width: of the two hidden layers of each map's masked network; raised to D where it is less.
        context: G, the numbers that the maps are told of an image.
    """

    gives: ClassVar[frozenset[str]] = ANYWHERE - {"stopped", "anywhere"}

    def __init__(self, features: int, latent: int, steps: int = 4, width: int = 128, context: int = 32) -> None:
        super().__init__(features, latent, context)
        orders = [torch.arange(latent), torch.arange(latent).flip(0)]
        hidden = [max(width, latent)] * 2  # with fewer units the masks would cut dimensions off
        maps = [LazyInverse(MaskedAutoregressiveTransform(latent, context, order=orders[i % 2], hidden_features=hidden)) for i in range(steps)]
        self.transform = LazyComposedTransform(*maps)

    def flow(self, context: Float[Tensor, "N G"]) -> Map:
        return ZukoMap(self.transform, context)


KINDS: dict[str, Callable[..., Any]] = {
    "nsf": partial(zuko.flows.NSF, passes=2),
    "realnvp": partial(zuko.flows.MAF, passes=2),
    "maf": zuko.flows.MAF,
}
"""Flows by name: splines and affine maps between two halves of the code (both directions in two passes), and affine autoregressive maps."""


class FlowPosterior(AmortizedFlow):
    """A flow of zuko, from codes to noise, told of the image: the density anywhere is cheap, and samples are by its inverse.

    "nsf" (rational-quadratic splines) and "realnvp" (affine maps) are couplings, fast in both directions; "maf" draws in D passes for each map.

    Raises `UserError` for a kind that is not one of these.

    References: Neural Spline Flows (Durkan et al., 2019), https://arxiv.org/abs/1906.04032; Density estimation using Real NVP (Dinh et al.,
    2016), https://arxiv.org/abs/1605.08803; Masked Autoregressive Flow (Papamakarios et al., 2017), https://arxiv.org/abs/1705.07057

    Args:
        features, latent: F and D, as in `DiagonalGaussian`.
        kind: which flow.
        steps: K, the number of maps.
        width: of the two hidden layers of each map's network; raised to D where it is less.
        context: G, the numbers that the maps are told of an image.
    """

    def __init__(self, features: int, latent: int, kind: str = "nsf", steps: int = 4, width: int = 128, context: int = 32) -> None:
        super().__init__(features, latent, context)
        if kind not in KINDS:
            raise UserError(f"There is no flow '{kind}' for a posterior; there are {', '.join(KINDS)}.")
        self.transform = KINDS[kind](latent, context, transforms=steps, hidden_features=[max(width, latent)] * 2).transform

    def flow(self, context: Float[Tensor, "N G"]) -> Map:
        return ZukoMap(self.transform, context)
