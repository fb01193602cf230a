"""A picture of what was filled in."""

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vaekit import pictures
from vaekit.data.spec import DataSpec
from vaekit.editing.impute import Imputation
from vaekit.output import Batch


def imputations(batch: Batch, result: Imputation, spec: DataSpec) -> Image.Image:
    """One row for each image: the image with its holes (chequered), the answers, their mean, and the deviation (white where it is largest)."""
    assert batch.mask is not None
    x, mask = batch.x.cpu().float(), batch.mask.cpu()
    answers = result.draws.shape[1]
    rows, columns = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
    chequered = _raw(0.35 + 0.3 * ((rows // 2 + columns // 2) % 2).float().expand(x.shape), spec)
    std = result.std.cpu() / _raw_range(spec)
    doubt = _raw(std / std.max().clamp_min(1e-12), spec)
    tiles = [torch.where(mask, x, chequered), *result.draws.cpu().unbind(1), result.mean.cpu(), doubt]
    return pictures.grid(torch.stack(tiles, dim=1).flatten(0, 1), spec, columns=answers + 3)


def _raw_range(spec: DataSpec) -> Tensor:
    """The raw width of what is shown from black to white, [C,1,1] or one number."""
    return torch.tensor(spec.levels - 1.0) if spec.levels is not None else 2 * pictures.SPREAD * torch.tensor(spec.std).view(-1, 1, 1)


def _raw(shades: Float[Tensor, "n C H W"], spec: DataSpec) -> Float[Tensor, "n C H W"]:
    """Shades from 0, black, to 1, white, as raw values; an alpha channel is opaque."""
    shades = shades.clone()
    if spec.levels is not None and shades.shape[1] in (2, 4):
        shades[:, -1] = 1.0
    dark = 0.0 if spec.levels is not None else torch.tensor(spec.mean).view(-1, 1, 1) - _raw_range(spec) / 2
    return dark + shades * _raw_range(spec)
