"""Walks along the dimensions of a code: what does each of them change?"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.editing.codes import means
from vaekit.errors import UserError
from vaekit.evaluation.evaluate import evaluate_batches
from vaekit.evaluation.latent import ACTIVE
from vaekit.evaluation.passes import Batches, seeded
from vaekit.latents import Flat
from vaekit.model import NO_ENCODER, VAE, evaluating
from vaekit.output import Batch

DRAWS = 4096
"""Of a prior whose mean and deviation are not known in closed form."""


@dataclass(frozen=True)
class Active:
    """The dimensions that a model uses, the fullest first."""

    dims: tuple[int, ...]
    """Places in the flattened code."""
    rates: tuple[float, ...] | None
    """The mean rate of each in nats; None where it has no closed form for each dimension."""


@torch.no_grad()
def traverse(model: VAE, x: Batch | Tensor, dims: Sequence[int], span: float = 2.0, steps: int = 9, *, seed: int = 0) -> Float[Tensor, "B R S C H W"]:
    """Images as one dimension of their code at a time goes through the prior: the mean of p(x | z with z_d = m_d + t s_d), in raw values.

    z is the posterior's mean of each image, t goes in S = `steps` equal steps from -span to +span, and m_d and s_d are the prior's mean and standard
    deviation, in closed form or, where there is none, of 4096 draws.

    Args:
        x: B images.
        dims: R dimensions of the flattened code.
        span: in standard deviations of the prior.
        seed: of the draws.

    Raises:
        UserError: for a model without one real code for each image, a dimension that it does not have, and a span or steps that show nothing.

    References: beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017), figures 1 and 7,
    https://openreview.net/forum?id=Sy2fzU9gl
    """
    _real(model)
    batch = Batch.of(x).to(model.device)
    code = model.encode(batch)[0]
    size = code[0].numel()
    wrong = [d for d in dims if not 0 <= d < size]
    if wrong or not dims:
        raise UserError(f"The code has the dimensions 0 to {size - 1}, and {wrong[0] if wrong else 'none'} was asked for.")
    if span <= 0 or steps < 2:
        raise UserError(f"A traversal has a span above 0 and at least 2 steps, and not {span:g} and {steps}.")
    with evaluating(model), seeded(model.device, seed):
        mean, deviation = _prior(model, batch)
    t = torch.linspace(-span, span, steps, device=code.device)
    rows = []
    for d in dims:
        z = code.flatten(1).unsqueeze(1).repeat(1, steps, 1)
        z[:, :, d] = mean[:, d, None] + t * deviation[:, d, None]
        told = None if batch.condition is None else batch.condition.repeat_interleave(steps, 0)
        images = means(model, (z.reshape(len(batch) * steps, *code.shape[1:]),), told)
        rows.append(images.view(-1, steps, *images.shape[1:]))
    return torch.stack(rows, 1)


def active_dimensions(model: VAE, batches: Batches) -> Active:
    """The dimensions whose posterior mean varies between images, ordered by their rate, or by that variance where the rate has no parts.

    Raises `UserError` if there is none, and for a model without one real code for each image.
    """
    _real(model)
    layer = evaluate_batches(model, batches).latent.layers[0]
    variance, rates = layer.variance_of_means, layer.rate_per_dim
    if variance is None:
        raise UserError("The posterior's mean has no closed form here: name the dimensions to walk along.")
    known = rates is not None and len(rates) == len(variance)
    order = (rates if known else variance).argsort(descending=True).tolist()  # type: ignore[union-attr]
    dims = tuple(d for d in order if variance[d] > ACTIVE)
    if not dims:
        raise UserError("No latent dimension is used, the posterior has collapsed: there is nothing to see.")
    return Active(dims, tuple(float(rates[d]) for d in dims) if known else None)  # type: ignore[index]


def _real(model: VAE) -> None:
    if model.encoder is None:
        raise UserError(NO_ENCODER)
    latent = model.latent
    if not isinstance(latent, Flat) or latent.posterior.support != "reals" or "vector" not in latent.gives:
        what = type(latent.posterior).__name__ if isinstance(latent, Flat) else type(latent).__name__
        raise UserError(f"A traversal needs one real code for each image, and {what} gives something else.")


def _prior(model: VAE, batch: Batch) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """The mean and the standard deviation of each dimension of p(z), or of p(z|c) for each image."""
    c, anchors = model.embed(batch.condition), model.anchors()
    p = model.latent.infer(model._encode(batch, c), anchors=anchors, c=c, mean=True)[1][0].p
    try:
        if p is None:
            raise NotImplementedError
        moments = p.mean, p.stddev
    except (NotImplementedError, AttributeError):
        told = [None] if c is None else [row.expand(DRAWS, -1) for row in c]
        draws = torch.stack([model.latent.prior_codes(DRAWS, anchors=anchors, c=each) for each in told])
        moments = draws.mean(1), draws.std(1)
    shape = [len(batch), *model.latent.posterior.event_shape]  # type: ignore[union-attr, misc]
    mean, deviation = (m.expand(shape).flatten(1) for m in moments)
    return mean, deviation
