"""One pass over validation images, from which all figures of a report come."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vaekit.data import Dataset, DataSpec
from vaekit.evaluation import Bound, LatentStatistics, iw_bound, psnr
from vaekit.evaluation.classification import label_accuracy
from vaekit.evaluation.likelihood import Parts
from vaekit.evaluation.observed import observed_fraction
from vaekit.evaluation.passes import Batches, first, passes
from vaekit.evaluation.samples.aggregate import aggregate_codes, astray
from vaekit.evaluation.samples.two_sample import classifier_test
from vaekit.latents.support import supports
from vaekit.model import VAE
from vaekit.output import Batch

TESTED, LOOKED_AT = 400, 128
"""Images, and dimensions of a code, in the test of the codes."""


@dataclass(frozen=True)
class Measured:
    """What the images of the validation split say of a model."""

    bound: Bound
    latent: LatentStatistics
    psnr_db: Float[Tensor, "m"]
    """Of the reconstructions of the first m images."""
    codes: Float[np.ndarray, "n D"]
    """The mean code of each image, layer after layer; for countable codes, the vectors that they stand for."""
    labels: Int[np.ndarray, "n"] | None
    importance: Float[Tensor, "m"] | None
    """Their importance-weighted bound, in nats; None where codes are points, for which it is the ELBO or there is none."""
    samples: int
    """K of the importance-weighted bound."""
    observed: float | None
    """The share of values that is observed; None where nothing is missing."""
    accuracy: float | None
    """Of the model's own classifier, if it has one."""


def measure(model: VAE, spec: DataSpec, batches: Callable[[], Batches], *, samples: int = 64, weighed: int = 500) -> Measured:
    """All figures of the images of `batches`, with the noise of `evaluate_batches`; what takes long is measured on the first `weighed` of them."""
    parts, latent = Parts(), LatentStatistics()

    def compute(batch: Batch) -> tuple[Tensor, Tensor | None]:
        out = model(batch)
        parts.add(out)
        latent.update(out.terms)
        return codes(model, batch).cpu(), None if batch.label is None else batch.label.cpu()

    def fidelity(batch: Batch) -> Tensor:
        return psnr(batch.x.cpu(), model.reconstruct(batch).cpu(), spec, None if batch.mask is None else batch.mask.cpu())

    points, labels = zip(*passes(model, batches(), compute), strict=True)
    bound = parts.bound()
    known = [label for label in labels if label is not None]
    return Measured(
        bound,
        latent,
        torch.cat(list(passes(model, first(batches(), weighed), fidelity))),
        torch.cat(points).numpy(),
        torch.cat(known).long().numpy() if len(known) == len(labels) else None,
        iw_bound(model, first(batches(), weighed), samples) if bound.bounded and any(layer.stochastic for layer in latent.layers) else None,
        samples,
        observed_fraction(batches(), model.likelihood.joint),
        label_accuracy(model, batches()),
    )


def drawn_astray(model: VAE, data: Dataset) -> str | None:
    """What is wrong with the codes that new images are drawn from, if anything is: `astray` by few images and dimensions, which takes seconds."""
    rows = data.index("validation")[data.positions("validation", TESTED)[0][1]]
    asked = len(rows) >= TESTED // 4 and model.sampler is None and supports(model.latent)[0] == "reals"
    found = aggregate_codes(model, data, rows) if asked else None
    if found is None:
        return astray(model, None)
    posterior, drawn = (z[:, :: -(-z.shape[1] // LOOKED_AT)] for z in found[:2])
    return astray(model, classifier_test(posterior, drawn))


def codes(model: VAE, batch: Batch) -> Float[Tensor, "B D"]:
    """The mean code of each image as one vector."""
    code = model.encode(batch)
    if all(z.is_floating_point() for z in code):
        return torch.cat([z.flatten(1).float() for z in code], 1)
    return model.latent.generate(len(batch), code=code, c=model.embed(batch.condition)).flatten(1).float()
