"""Are the codes of images like the codes of the prior? Where they are not, samples come from places that the decoder never learnt."""

from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from vaekit.data import Dataset
from vaekit.errors import UserError
from vaekit.evaluation.passes import seeded
from vaekit.evaluation.samples.two_sample import TwoSampleTest, classifier_test
from vaekit.latents.priors.codes import UniformCodes
from vaekit.latents.support import UNFITTED, supports
from vaekit.model import VAE, evaluating
from vaekit.networks.condition import AttributeCondition, ClassCondition, OneHotCondition
from vaekit.output import Batch

BATCH = 250
TOLD = 0.6
"""Accuracy of the two-sample test from which on a fitted prior is worth its minutes."""


def aggregate_test(model: VAE, data: Dataset, rows: Int[Tensor, "n"], *, seed: int = 0) -> tuple[TwoSampleTest, TwoSampleTest] | None:
    """A classifier two-sample test of the aggregate posterior, (1/n) sum_i q(z|x_i) of held-out images, against the prior that `sample` draws from.

    One draw of q(z|x_i) for each image beside as many draws of the prior, given the same conditions: the first test. The second one is its floor:
    the prior beside itself. None where there is no code made of real numbers, or no prior of it.

    References: ELBO Surgery (Hoffman, Johnson, 2016), http://approximateinference.org/accepted/HoffmanJohnson2016.pdf
    """
    found = aggregate_codes(model, data, rows, seed=seed)
    if found is None:
        return None
    posterior, first, second = found
    return classifier_test(posterior, first, seed=seed), classifier_test(second, first, seed=seed)


def aggregate_codes(model: VAE, data: Dataset, rows: Int[Tensor, "n"], *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor] | None:
    """[n, D] three times: one draw of q(z|x_i) for each of these images, and twice as many of the prior; of a model of several layers, the first.

    None where there is no code made of real numbers, or no prior of it.
    """
    if model.encoder is None:
        return None
    codes, draws = [], []
    with torch.no_grad(), evaluating(model), seeded(model.device, seed, 1):
        anchors = model.anchors()
        for part in rows.split(BATCH):
            batch = held_out(data, part).to(model.device)
            codes.append(model.encode(batch, sample=True)[0].flatten(1).cpu())
            for _ in range(2):
                if model.sampler is not None:
                    told = conditions(model, data, part) if model.sampler.condition is not None else None
                    z = model.sampler.sample(len(batch), condition=told)
                else:
                    try:
                        z = model.latent.prior_codes(len(batch), anchors=anchors, c=model.embed(batch.condition))
                    except (NotImplementedError, UserError):
                        return None
                draws.append(z.flatten(1).cpu())
    posterior, first, second = torch.cat(codes), torch.cat(draws[::2]), torch.cat(draws[1::2])
    if not posterior.is_floating_point() or posterior.shape != first.shape:
        return None
    return posterior, first, second


def astray(model: VAE, found: TwoSampleTest | None) -> str | None:
    """What is wrong with the codes of new images, where only the model's own prior draws them and a fitted one would cure it; None for nothing.

    Args:
        found: the aggregate posterior beside the prior; None where there is no such test.
    """
    if model.encoder is None or model.sampler is not None or supports(model.latent)[0] in UNFITTED:
        return None
    if isinstance(getattr(model.latent, "prior", None), UniformCodes):
        return "Every index is drawn alike, wherever it stands, and those of images are not: vaekit fit-prior learns how they are distributed."
    if found is None or found.accuracy <= TOLD or found.p_value >= 0.01:
        return None
    return f"{found.accuracy:.0%} of the codes are told from the prior's: samples come from codes that no image has, which vaekit fit-prior cures."


def conditions(model: VAE, data: Dataset, rows: Int[Tensor, "n"]) -> Shaped[Tensor, "n *F"] | None:
    """What the model, or a prior fitted to its codes, is told of these held-out images; None where nothing is."""
    if model.condition is not None:
        told = [held_out(data, part).condition for part in rows.split(BATCH)]
        return torch.cat([part for part in told if part is not None])
    own = None if model.sampler is None else model.sampler.condition
    if isinstance(own, AttributeCondition):
        return data.attributes[rows] if data.attributes is not None and own.names == data.spec.attributes else None
    known = isinstance(own, (ClassCondition, OneHotCondition)) and data.labels is not None and bool((data.labels[rows] >= 0).all())
    return data.labels[rows] if known and data.labels is not None else None


def held_out(data: Dataset, rows: Int[Tensor, "b"]) -> Batch:
    """The batch of these rows of the whole set, each of the validation or the test split, as the model takes them."""
    parts: list[tuple[Tensor, Batch]] = []
    for split in ("validation", "test"):
        index = data.index(split)
        places, within = (rows.unsqueeze(1) == index).nonzero(as_tuple=True)
        if len(places):
            parts.append((places, data.batch(split, within)))
    order = torch.cat([places for places, _ in parts]).argsort()
    first = parts[0][1]
    if len(parts) == 1:
        return first[order]
    second = parts[1][1]
    joined: dict[str, Any] = {
        name: None if (value := getattr(first, name)) is None else torch.cat([value, getattr(second, name)])[order] for name in vars(first)
    }
    return Batch(**joined)


__all__ = ["aggregate_codes", "aggregate_test", "astray", "conditions", "held_out"]
