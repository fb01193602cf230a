"""Is a small step in the code a small step in the image?"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.evaluation.passes import seeded
from vaekit.evaluation.samples.space import Space
from vaekit.latents import Flat, PriorOnly, StandardNormal
from vaekit.likelihoods import Causal
from vaekit.model import VAE, evaluating

STEP = 0.01
"""Of the angle between two codes: the bias of a difference in place of a derivative is of its square, and rounding is a thousandth of it."""
CHUNK = 250
CODES = 2000
"""Pairs of codes, at most."""


@dataclass(frozen=True)
class Roughness:
    """The ratio, with its standard error."""

    value: float
    error: float


def roughness(
    model: VAE, space: Space, spec: DataSpec, n: int, condition: Shaped[Tensor, "m *F"] | None = None, *, seed: int = 0
) -> Roughness | None:
    """E|d/dt f(x(z_t))|^2 / Var[f(x(z))]: how fast the image's features f change along paths through the prior, beside how much they vary at all.

    z_t = z cos t + z' sin t with z, z' ~ N(0, I), which is a draw of N(0, I) at every t; x(z) is the mean of p(x|z). The numerator is the perceptual
    path length on this path, E|J z'|^2 = E|J|_F^2 with J the derivative of the features, and by the Poincare inequality of a Gaussian it is at least
    the variance: the ratio is 1 for a linear map and grows as images turn back and forth between two codes. It has no unit, and a generator that
    drops images does not look smoother for it. Where the model is told a condition, both are taken within it.

    None where the codes are not draws of N(0, I) (other priors, a prior that was fitted afterwards, several layers), where they all give one
    image, where an image's mean is not a function of its code (a causal likelihood), and in a space of rounded images.

    Args:
        n: how many pairs of codes, at most `CODES`.
        condition: of as many images.

    References:
        A Style-Based Generator Architecture for GANs (Karras et al., 2018), Eq. 2, https://arxiv.org/abs/1812.04948
        A Note on an Inequality Involving the Normal Distribution (Chernoff, 1981), theorem 1, https://doi.org/10.1214/aop/1176994428
    """
    latent = model.latent
    # The mean of causal pixels goes along drawn ones, and images of 8 bits are rounded: noise would be most of what a small step changes.
    if isinstance(model.likelihood, Causal) or getattr(space, "rounds", False):
        return None
    if model.sampler is not None or not isinstance(latent, Flat | PriorOnly) or not isinstance(latent.prior, StandardNormal):
        return None
    moved, apart = [], []
    with torch.no_grad(), evaluating(model), seeded(model.device, seed, 2):
        for start in range(0, min(n, CODES), CHUNK):
            count = min(CHUNK, min(n, CODES) - start)
            told = None if condition is None else condition[start : start + count]
            one, two = latent.prior.sample(count), latent.prior.sample(count)
            f = [_features(model, space, spec, one * math.cos(t) + two * math.sin(t), told) for t in (0.0, STEP, math.pi / 2)]
            moved.append(((f[1] - f[0]) / STEP).square().sum(1))
            apart.append(0.5 * (f[2] - f[0]).square().sum(1))
    a, b = torch.cat(moved), torch.cat(apart)
    if not b.mean() > 0:  # every code gives one image
        return None
    ratio = a.mean() / b.mean()
    # The delta method for a ratio of two means of the same pairs.
    error = (a - ratio * b).std() / (b.mean() * math.sqrt(len(a)))
    return Roughness(ratio.item(), error.item())


def _features(model: VAE, space: Space, spec: DataSpec, z: Tensor, told: Tensor | None) -> Float[Tensor, "n F"]:
    return space(model.decode(z, condition=told).mean.cpu(), spec).double()


__all__ = ["Roughness", "roughness"]
