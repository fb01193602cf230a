"""Directions of a code that stand for an attribute, and what is left of them beside other attributes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.editing.codes import decoded, need, vectors
from vaekit.errors import UserError
from vaekit.evaluation.passes import Batches, first
from vaekit.model import VAE
from vaekit.output import Batch

LEAST = 0.05
"""The share of a direction's length that must be left beside other attributes: with less, what is left is mostly noise."""


@dataclass(frozen=True)
class Direction:
    """A direction in the joint code of all layers; a strength of 1 goes from the mean of those without the attribute as far as to those with it."""

    vector: Float[Tensor, "D"]
    name: str = "attribute"
    examples: tuple[int, int] = (0, 0)
    """How many images with and without the attribute it was found from."""
    cosines: Mapping[str, float] = field(default_factory=dict)
    """With each other attribute that was taken out, before it was."""
    left: float = 1.0
    """The share of its length that is left beside the others."""

    @property
    def unit(self) -> Float[Tensor, "D"]:
        return self.vector / self.vector.norm()


def codes_of(model: VAE, batches: Batches, limit: int | None = None) -> Float[Tensor, "n D"]:
    """The codes of many images, all layers side by side, on the CPU. Raises `UserError` for codes that are not real numbers."""
    need(model, "An attribute")
    parts = [vectors(model, batch)[0].cpu() for batch in first(batches, limit)]
    if not parts:
        raise UserError("There are no images to find a direction from.")
    return torch.cat(parts)


def direction(yes: Float[Tensor, "n D"], no: Float[Tensor, "m D"], how: str = "difference", name: str = "attribute") -> Direction:
    r"""The direction of an attribute, from the codes of images with it and without it.

    difference: v = mean(yes) - mean(no). logistic: in codes divided by their standard deviations, the part of that difference which is along the
    normal w of the plane that divides the two sides best (a logistic regression, an equal weight for both sides): v = s w <w, d / s> / <w, w> for the
    difference d and the deviations s, so that at strength 1 the classifier's logit rises as far as from one mean to the other.
    The first also moves what goes with the attribute in the data; the second what tells it apart, and it needs more examples than dimensions.

    Raises:
        UserError: without examples on both sides, for a way that is not known, and where both means are the same.

    References:
        Sampling Generative Networks (White, 2016), on attribute vectors, https://arxiv.org/abs/1609.04468
        Interpreting the Latent Space of GANs for Semantic Face Editing (Shen et al., 2020), section 3.1, https://arxiv.org/abs/1907.10786
    """
    if how not in ("difference", "logistic"):
        raise UserError(f"A direction is found by difference or logistic, and not by '{how}'.")
    if len(yes) == 0 or len(no) == 0:
        raise UserError(f"The attribute '{name}' needs images with it and without it, and there are {len(yes)} and {len(no)}.")
    difference = yes.mean(0) - no.mean(0)
    vector = difference if how == "difference" else _normal(yes, no, difference)
    if not vector.norm() > 1e-8 * (1 + yes.norm(dim=1).mean()):
        raise UserError(f"The codes of images with and without '{name}' have the same mean: there is no direction between them.")
    return Direction(vector, name, (len(yes), len(no)))


def _normal(yes: Tensor, no: Tensor, difference: Tensor) -> Tensor:
    from sklearn.linear_model import LogisticRegression

    z = torch.cat([yes, no])
    # Dimensions that never change have no say; the penalty holds the others, also where the two sides can be parted.
    scale = z.std(0, correction=0)
    used = scale > 1e-6
    y = np.r_[np.ones(len(yes)), np.zeros(len(no))]
    fitted = LogisticRegression(class_weight="balanced", max_iter=1000).fit(((z - z.mean(0))[:, used] / scale[used]).numpy(), y)
    w, v = torch.from_numpy(fitted.coef_[0]).to(z), torch.zeros_like(difference)
    # Along w in the scaled codes, and not along w / s in the raw ones: that is mostly noise, since a dimension that is not in use hardly varies.
    v[used] = scale[used] * w * (w @ (difference[used] / scale[used])) / (w @ w).clamp_min(1e-30)
    return v


def apart(wanted: Direction, others: list[Direction]) -> Direction:
    r"""The part of a direction that is orthogonal to those of other attributes: v - Q Q^T v, with Q an orthonormal basis of their span.

    A strength keeps its meaning of how far to go; that the step is shorter now is `left`, and what was taken out shows in `cosines`.

    Raises `UserError` where less than a twentieth is left, since the attributes are then one to the model.

    References: Interpreting the Latent Space of GANs for Semantic Face Editing (Shen et al., 2020), section 3.2, https://arxiv.org/abs/1907.10786
    """
    if not others:
        return wanted
    basis = torch.stack([other.unit for other in others], 1).double()
    u, s, _ = torch.linalg.svd(basis, full_matrices=False)
    q = u[:, s > 1e-6 * s[0]]
    v = wanted.vector.double()
    rest = v - q @ (q.T @ v)
    left = float(rest.norm() / v.norm())
    names = ", ".join(other.name for other in others)
    if left < LEAST:
        raise UserError(f"Beside {names} nothing is left of '{wanted.name}': to this model they are one. Keep fewer attributes apart.")
    cosines = {other.name: float(other.unit @ wanted.unit) for other in others}
    return Direction(rest.to(wanted.vector), wanted.name, wanted.examples, cosines, left)


@torch.no_grad()
def add(model: VAE, x: Batch | Tensor, attribute: Direction, strengths: list[float]) -> Float[Tensor, "B S C H W"]:
    """Images with the attribute added at S strengths: the mean of p(x | z + s v) in raw values, for the strengths s in code order; 0 reconstructs.

    Raises `UserError` for codes that are not real numbers, and for a direction of another model.
    """
    need(model, "An attribute")
    batch = Batch.of(x).to(model.device)
    z, layout = vectors(model, batch)
    if attribute.vector.shape != z.shape[1:]:
        raise UserError(f"The direction has {len(attribute.vector)} dimensions, and the model's code {z.shape[1]}: it belongs to another model.")
    if not strengths:
        raise UserError("Name at least one strength.")
    s = torch.tensor(strengths, device=z.device).view(1, -1, 1)
    return decoded(model, z.unsqueeze(1) + s * attribute.vector.to(z), layout, batch.condition)
