"""A hidden part of an image, answered several times; the rest stays."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vaekit.editing.chains import able, posterior_codes
from vaekit.editing.codes import means
from vaekit.editing.impute import _blank, impute
from vaekit.editing.keep import keep_rest
from vaekit.errors import UserError
from vaekit.model import VAE
from vaekit.output import Batch


@dataclass(frozen=True)
class Inpainting:
    """Answers to what a hidden part may be."""

    images: Float[Tensor, "B A C H W"]
    """In raw values, the original outside of the hidden part."""
    how: str
    """"chains" or "weighted"."""
    effective: Float[Tensor, "B"] | None
    """The effective number of weighed codes (see `Imputation`); None for chains."""


def inpaint(
    model: VAE,
    batch: Batch,
    hidden: Bool[Tensor, "B C H W"],
    *,
    answers: int = 5,
    how: str | None = None,
    samples: int = 256,
    steps: int = 60,
    feather: int = 0,
    seed: int = 0,
) -> Inpainting:
    """A = `answers` images with the hidden part filled in; outside of it all is the original, to the bit.

    An answer is the mean of p(x|z) for a code z of p(z | what is seen): the end of a Hamiltonian chain (`chains`, see `posterior_codes`), or one of
    `samples` codes of the encoder chosen by its weight (`weighted`, see `impute`). The second is quick and goes with every model that has a density,
    but where an image has many pixels one code often has nearly all the weight, so that all answers are the same.

    Args:
        hidden: True where the image is not looked at. Pixels that `batch.mask` says are missing are filled in as well.
        how: None for chains where the model has one real vector for each image and a prior density, weighted elsewhere.
        steps: of each chain.
        feather: over so many pixels at the inner side of the edge the image's own hidden pixels show through; 0 uses none of them.

    Raises:
        UserError: where nothing is hidden, or everything in an image; for chains in a model that has no place for them; for a feather where pixels
            are missing; for numbers below 1; and what `impute` and `keep_rest` raise.
    """
    seen = ~hidden.cpu() if batch.mask is None else ~hidden.cpu() & batch.mask.cpu()
    if not seen.flatten(1).any(1).all():
        raise UserError("All of an image is hidden, so that nothing tells what it is: draw new ones with 'vaekit sample'.")
    if seen.all():
        raise UserError("No pixel is hidden: there is nothing to fill in.")
    if batch.mask is not None and feather:
        raise UserError("An edge is blended with the original's pixels, and some are missing here: leave the feather at 0.")
    if min(answers, samples) < 1 or steps < 2:
        raise UserError(f"There is at least 1 answer, of 1 sample or 2 steps, and not {answers}, {samples} and {steps}.")
    if how not in (None, "chains", "weighted"):
        raise UserError(f"A hidden part is filled in by chains or weighted, and not by '{how}'.")
    if how == "chains" and not able(model):
        raise UserError("Chains need one real vector for each image and a prior density, and this model has something else: choose weighted.")
    effective = None
    if how == "weighted" or not able(model):
        known = impute(model, replace(batch, mask=seen), answers=answers, samples=samples, seed=seed, pixels="mean")
        made, effective = known.draws, known.effective
    else:
        images = replace(batch, mask=seen, x=_blank(batch.x.cpu(), seen), label=None, index=None)
        codes = posterior_codes(model, images, answers, steps=steps, seed=seed)
        told = batch.condition if model.condition is not None else None  # else it is the fitted prior's alone
        made = torch.stack([means(model, (z,), told) for z in codes], dim=1)
    return Inpainting(keep_rest(batch.x, made, ~seen, feather), "chains" if effective is None else "weighted", effective)
