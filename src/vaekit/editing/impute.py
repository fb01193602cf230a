"""Missing pixels, filled in by the model: several answers, their mean, and how sure it is."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.errors import UserError
from vaekit.evaluation.passes import seeded
from vaekit.model import VAE, evaluating, pixel_values
from vaekit.output import Batch, VAEOutput, fold


@dataclass(frozen=True)
class Imputation:
    """What the missing pixels may be, in raw values; observed pixels are as they were, with a deviation of 0."""

    mean: Float[Tensor, "B C H W"]
    """E[x | x_obs]."""
    std: Float[Tensor, "B C H W"]
    """The standard deviation of x given x_obs."""
    draws: Float[Tensor, "B A C H W"]
    """Answers: draws of x given x_obs."""
    effective: Float[Tensor, "B"]
    """The effective number of samples, 1 / sum of squared normalized weights: near 1, a single code decides and the deviation cannot be trusted."""


@torch.no_grad()
def impute(
    model: VAE,
    batch: Batch,
    *,
    answers: int = 5,
    samples: int = 256,
    rounds: int = 10,
    chunk: int = 16,
    seed: int = 0,
    pixels: Literal["mean", "draw"] = "draw",
) -> Imputation:
    """p(x_mis | x_obs) = int p(x_mis|z) p(z|x_obs) dz, by self-normalized importance sampling.

    The codes are z_k ~ q(z|x_obs), the weights w_k = p(x_obs|z_k) p(z_k) / q(z_k|x_obs), with p(z) of the prior that was fitted to the model's codes,
    if there is one with a density of them. Answers take a code with probability w_k / sum w and draw the pixels of p(x|z_k); the deviation adds the
    spread of p(x|z) to that between codes. As `samples` grows all three become exact, for any q.

    A network that does not see the mask first gets an image whose missing pixels are filled with the reconstruction, `rounds` times (Rezende et al.,
    2014, appendix F, without its noise): a better q, which depends on x_obs alone, so that the weights hold. Where the channels of a pixel are joint
    (a mixture), a pixel of which a channel is missing does not count as observed.

    Args:
        batch: with a `mask` that is False where a pixel is missing; what x holds there is not looked at.
        answers: A, how many draws for each image.
        samples: K, how many codes are weighed.
        rounds: as above; 0 for none.
        chunk: how many codes are in memory at once.
        seed: of all that is drawn.
        pixels: an answer is a draw of p(x|z_k), which makes it one of p(x_mis | x_obs), or its "mean", which is smoother to look at.

    Raises:
        UserError: without a mask, for a latent without a density, and for numbers below 1.

    References:
        MIWAE: Deep Generative Modelling and Imputation of Incomplete Data Sets (Mattei, Frellsen, 2019), Eq. 12-13, https://arxiv.org/abs/1812.02633
        Stochastic Backpropagation and Approximate Inference (Rezende et al., 2014), https://arxiv.org/abs/1401.4082
    """
    if batch.mask is None:
        raise UserError("Nothing is missing: say which pixels are, with a mask that is False there.")
    if min(answers, samples, chunk) < 1 or rounds < 0:
        raise UserError(f"The numbers of answers and samples are at least 1, and they are {answers} and {samples}.")
    batch = batch.to(model.device)
    mask = batch.mask
    assert mask is not None
    with evaluating(model), seeded(model.device, seed):
        batch = replace(batch, label=None, index=None, x=_blank(batch.x, mask))
        if not model.sees_mask:
            for _ in range(rounds):
                batch = replace(batch, x=_joined(mask, batch.x, model.reconstruct(batch)))
        codes, log_w, mean, variance = _weighed(model, batch, samples, chunk)
        draws = _answers(model, batch, codes, log_w, answers, pixels)
    x = batch.x.float()
    weights = log_w.softmax(0)
    return Imputation(
        torch.where(mask, x, mean),
        torch.where(mask, 0.0, variance.clamp_min(0).sqrt()),
        torch.where(mask.unsqueeze(1), x.unsqueeze(1), draws),
        1 / weights.square().sum(0),
    )


def _blank(x: Tensor, mask: Bool[Tensor, "B C H W"]) -> Tensor:
    """The images with the mean of a channel's observed values where they are missing, so that nothing which is there can be used by mistake."""
    seen = torch.where(mask, x.float(), 0.0)
    return _joined(mask, x, seen.sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True).clamp_min(1))


def _joined(mask: Tensor, x: Tensor, guess: Tensor) -> Tensor:
    """The guess where pixels are missing, in the type of x; a mean beyond the range of pixels is at its end."""
    if not x.is_floating_point():
        guess = guess.round().clamp(0, min(torch.iinfo(x.dtype).max, 65535))
    return torch.where(mask, x, guess.to(x.dtype))


def _weighed(model: VAE, batch: Batch, samples: int, chunk: int) -> tuple[tuple[Tensor, ...], Tensor, Tensor, Tensor]:
    """K codes of each image ([K, B, *E] for each layer), their log weights [K, B], and the weighted mean and variance of the pixels."""
    c = model.embed(batch.condition)
    h, anchors = model._encode(batch, c), model.anchors()
    total = torch.full((len(batch),), -math.inf, device=model.device)
    mean, variance = torch.zeros_like(batch.x, dtype=torch.float32), torch.zeros_like(batch.x, dtype=torch.float32)
    codes: list[tuple[Tensor, ...]] = []
    log_ws = []
    for start in range(0, samples, chunk):
        k = min(chunk, samples - start)
        out: VAEOutput = model._observe(batch, h, c, anchors, k)
        if not out.bounded:
            raise UserError("This model is an autoencoder without a density of codes: it cannot weigh answers. Choose a variational recipe.")
        if any(term.q is None for term in out.terms):
            raise UserError(
                "The code of an image is one entry of a codebook here, and says nothing of what else the hidden pixels may be: "
                "choose a recipe whose posterior is a distribution."
            )
        log_w = out.log_w().float() + _refitted(model, out, batch.condition)
        codes.append(tuple(term.z.view(k, len(batch), *term.z.shape[1:]) for term in out.terms))
        log_ws.append(log_w)
        # Mean and variance of these codes, joined with those of the codes before them.
        first, spread = (v.view(k, *batch.x.shape) for v in _moments(out.px))
        own = log_w.softmax(0).view(k, len(batch), 1, 1, 1)
        m = (own * first).sum(0)
        v = (own * (spread + (first - m).square())).sum(0)
        before, total = total, torch.logaddexp(total, log_w.logsumexp(0))
        kept = (before - total).exp().view(-1, 1, 1, 1)
        joint = kept * mean + (1 - kept) * m
        variance = kept * (variance + (mean - joint).square()) + (1 - kept) * (v + (m - joint).square())
        mean = joint
    joined = tuple(torch.cat([part[i] for part in codes]) for i in range(len(codes[0])))
    return joined, torch.cat(log_ws), mean, variance


def _refitted(model: VAE, out: VAEOutput, condition: Tensor | None) -> Tensor | float:
    """What the weights [K, B] gain by the fitted prior in the place of the first layer's own: log p'(z) - log p(z)."""
    fitted, term = model.sampler, out.terms[0]
    if fitted is None or not fitted.weighs:
        return 0.0
    told = None if condition is None or fitted.condition is None else fold(condition, out.k)
    return (fitted.log_prob(term.z, told) - term.log_p).view(out.k, -1).float()


def _moments(px: Distribution) -> tuple[Tensor, Tensor]:
    """Mean and variance of p(x|z); the squared error of one draw, which has no bias, where the variance is not known in closed form."""
    first = px.mean.float()
    try:
        return first, px.variance.float()
    except (NotImplementedError, AttributeError):
        return first, (px.sample().float() - first).square()


def _answers(
    model: VAE, batch: Batch, codes: tuple[Tensor, ...], log_w: Float[Tensor, "K B"], answers: int, pixels: Literal["mean", "draw"]
) -> Float[Tensor, "B A C H W"]:
    """Codes drawn by their weights, and the pixels of each: one answer after the other, since images are large."""
    chosen = torch.multinomial(log_w.softmax(0).T, answers, replacement=True)
    rows = torch.arange(len(batch), device=chosen.device)
    told = batch.condition if model.condition is not None else None  # else it is the fitted prior's alone
    images = [pixel_values(model.decode(tuple(z[k, rows] for z in codes), condition=told), pixels) for k in chosen.T]
    return torch.stack([image.float() for image in images], dim=1)
