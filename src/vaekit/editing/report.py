"""Was the edit hit, and was the rest kept?"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vaekit.editing.codes import decoded, vectors
from vaekit.editing.directions import Direction
from vaekit.editing.judge import Judge
from vaekit.model import VAE
from vaekit.output import Batch


@torch.no_grad()
def edit_report(
    model: VAE,
    x: Batch | Tensor,
    edited: Float[Tensor, "B C H W"],
    *,
    wanted: Judge | None = None,
    others: Mapping[str, Judge] | None = None,
    attribute: Direction | None = None,
    inside: Bool[Tensor, "B C H W"] | None = None,
) -> dict[str, Any]:
    r"""How well images were edited, in figures that are means over the images.

    Edited images are compared with the model's own reconstructions, so that what coding alone changes does not count (with `inside`, with images
    that are the reconstruction inside and the original outside).

    Judged by `wanted`: `hit` is the share of edited images that have the attribute, `hit_before` that of the reconstructions, and `judge_accuracy`
    how often it is right on real images. `kept_<name>` of each other attribute: the share of images of which its judge says the same after the edit.

    In the code, with d the way from the code of the reconstruction to that of the edited image, both encoded again, and u the unit of the attribute:
    `code_along` = <u, d>, `code_across` = |d - u <u, d>|, both in code units, and `share_along` = <u, d>^2 / |d|^2 (1 for a linear model with an
    exact encoder, 1/D on average for a change in any direction; 1 where nothing changes).

    In the pixels: `change_inside` and `change_outside`, the root mean squared difference from the original in raw units within `inside` and without
    (`change` where no mask is given), and `outside_same`, whether all values outside are those of the original to the bit.

    Args:
        x: the images before the edit; edited: after it, in raw values.
        inside: where the edit may show.
    """
    batch = Batch.of(x).to(model.device)
    if model.condition is None:  # what is told is the fitted prior's alone
        batch = replace(batch, condition=None)
    z, layout = vectors(model, batch)
    plain = decoded(model, z.unsqueeze(1), layout, batch.condition)[:, 0]
    after = edited.float().cpu()
    if inside is not None:
        plain = torch.where(inside.cpu(), plain, batch.x.float().cpu())
    figures: dict[str, Any] = {"images": len(batch)}
    if wanted is not None:
        figures |= {"hit": _share(wanted(after)), "hit_before": _share(wanted(plain)), "judge_accuracy": round(wanted.accuracy, 4)}
    for name, other in (others or {}).items():
        figures[f"kept_{name}"] = _share(other(after) == other(plain))
    if attribute is not None:
        u = attribute.unit.to(z)
        ends = [vectors(model, replace(batch, x=_as_data(images, batch.x)))[0] for images in (plain, after)]
        d = ends[1] - ends[0]
        along = d @ u
        across = (d - along.unsqueeze(1) * u).norm(dim=1)
        size = d.square().sum(1)
        # Below the rounding of float32 nothing has changed.
        share = torch.where(size > 1e-10 * (1 + z.square().sum(1)), along.square() / size.clamp_min(1e-30), 1.0)
        figures |= {"code_along": _mean(along), "code_across": _mean(across), "share_along": _mean(share)}
    difference = after - batch.x.float().cpu()
    if inside is None:
        figures["change"] = _mean(difference.square().flatten(1).mean(1).sqrt())
        return figures
    where = inside.cpu()
    for name, part in (("inside", where), ("outside", ~where)):
        squares = torch.where(part, difference, 0.0).square().flatten(1).sum(1)
        figures[f"change_{name}"] = _mean((squares / part.flatten(1).sum(1).clamp_min(1)).sqrt())
    figures["outside_same"] = bool((difference[~where] == 0).all())
    return figures


@torch.no_grad()
def mix_report(mixed: Float[Tensor, "B C H W"], coarse: Float[Tensor, "B C H W"], fine: Float[Tensor, "B C H W"], pool: int = 4) -> dict[str, float]:
    """Whose large forms and whose details a mixed image has: root mean squared differences from both reconstructions, in raw units.

    `forms_from_coarse` and `forms_from_fine` compare averages over pool x pool pixels, `details_from_...` what is left of the image without them.
    """
    from torch.nn import functional as F

    def parts(x: Tensor) -> tuple[Tensor, Tensor]:
        size = max(1, x.shape[2] // pool), max(1, x.shape[3] // pool)
        low = F.interpolate(F.adaptive_avg_pool2d(x, size), size=x.shape[2:], mode="nearest")
        return low, x - low

    figures = {}
    for name, other in (("coarse", coarse), ("fine", fine)):
        for kind, a, b in zip(("forms", "details"), parts(mixed), parts(other), strict=True):
            figures[f"{kind}_from_{name}"] = _mean((a - b).square().flatten(1).mean(1).sqrt())
    return figures


def _as_data(images: Tensor, like: Tensor) -> Tensor:
    """Images as a network input takes them: means are not rounded, so that nothing of a small change is lost."""
    return images.to(like.device)


def _share(verdicts: Tensor) -> float:
    return round(float(verdicts.float().mean()), 4)


def _mean(values: Tensor) -> float:
    return round(float(values.float().mean()), 4) + 0.0
