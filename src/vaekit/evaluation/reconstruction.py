"""How near a reconstruction is to its image."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.evaluation.passes import Batches, Progress, passes
from vaekit.evaluation.sharpness import SMALLEST, laplacian_variance
from vaekit.model import VAE
from vaekit.output import Batch
from vaekit.penalties.ms_ssim import sigmas
from vaekit.pictures import unit


@dataclass(frozen=True)
class Reconstructions:
    """The fidelity of each reconstruction (float64, on the CPU)."""

    psnr_db: Float[Tensor, "n"]
    ssim: Float[Tensor, "n"]
    mse: Float[Tensor, "n"]
    """Squared raw units per value."""
    detail: Float[Tensor, "2 n"]
    """The variance of the Laplacian (`laplacian_variance`), of the image and of its reconstruction; nan below 3 x 3 pixels, and where too few are
    observed."""

    @property
    def sharpness(self) -> float:
        """The detail of all reconstructions over that of all images: below 1 is blur; nan for images without any."""
        own, kept = self.detail.nanmean(1).tolist()
        return kept / own if own > 0 else math.nan


def mse(x: Shaped[Tensor, "B C H W"], y: Shaped[Tensor, "B C H W"], mask: Bool[Tensor, "B C H W"] | None = None) -> Float[Tensor, "B"]:
    """The mean squared error of each image, in squared units of x, over the values where the mask is true."""
    error = (x.double() - y.double()).square()
    if mask is None:
        return error.flatten(1).mean(1)
    return torch.where(mask, error, 0.0).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp_min(1)


def psnr(
    x: Shaped[Tensor, "B C H W"], y: Shaped[Tensor, "B C H W"], spec: DataSpec, mask: Bool[Tensor, "B C H W"] | None = None
) -> Float[Tensor, "B"]:
    """The peak signal-to-noise ratio of each image, 10 log10(range^2 / MSE) in dB.

    The range is levels - 1 for pixels. Floats have no peak: it is six standard deviations of the channel over the training split, the range that
    pictures show. A perfect reconstruction counts as 100 dB.
    """
    return -10 * torch.log10(mse(unit(x, spec, like=x), unit(y, spec, like=x), mask).clamp_min(1e-10))


def ssim(
    x: Shaped[Tensor, "B C H W"], y: Shaped[Tensor, "B C H W"], spec: DataSpec, mask: Bool[Tensor, "B C H W"] | None = None
) -> Float[Tensor, "B"]:
    """The structural similarity of each image, averaged over channels: 1 for a perfect reconstruction.

    A Gaussian window of 11 pixels (sigma 1.5), with the range of `psnr`; along a side below 11, the window is the largest odd one that fits, and
    its sigma shrinks with it. Values that are not observed count as equal.

    References: Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004), Eq. 13,
    https://doi.org/10.1109/TIP.2003.819861
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes seconds

    a, b = unit(x, spec, like=x).float(), unit(y, spec, like=x).float()
    if mask is not None:
        b = torch.where(mask, b, a)
    value = structural_similarity_index_measure(b, a, sigma=sigmas(*x.shape[2:]), data_range=1.0, reduction="none")
    return value.view(-1).double() if isinstance(value, Tensor) else value[0].view(-1).double()


def detail(
    x: Shaped[Tensor, "B C H W"], y: Shaped[Tensor, "B C H W"], spec: DataSpec, mask: Bool[Tensor, "B C H W"] | None = None
) -> Float[Tensor, "2 B"]:
    """The variance of the Laplacian of images and of their reconstructions, where they are observed."""
    if min(x.shape[-2:]) < SMALLEST:
        return torch.full((2, len(x)), math.nan, dtype=torch.float64)
    a, b = unit(x, spec, like=x), unit(y, spec, like=x)
    return torch.stack([laplacian_variance(a, mask), laplacian_variance(b, mask)])


def reconstruction_scores(
    model: VAE,
    spec: DataSpec,
    batches: Batches,
    *,
    precision: str = "fp32",
    progress: Progress | None = None,
    total: int | None = None,
) -> Reconstructions:
    """The scores of each image's way through its code: the posterior's mean, then the mean of p(x|z), neither rounded nor clipped.

    Args:
        batches, precision, progress, total: see `passes`.
    """

    def compute(batch: Batch) -> Tensor:
        y = model.reconstruct(batch).cpu()
        x, mask = batch.x.cpu(), None if batch.mask is None else batch.mask.cpu()
        return torch.stack([psnr(x, y, spec, mask), ssim(x, y, spec, mask), mse(x, y, mask), *detail(x, y, spec, mask)])

    scores = torch.cat(list(passes(model, batches, compute, precision=precision, progress=progress, total=total)), dim=1)
    return Reconstructions(scores[0], scores[1], scores[2], scores[3:])
