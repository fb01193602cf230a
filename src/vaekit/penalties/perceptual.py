"""How far apart two images are to the eye, or to a network."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.errors import UserError
from vaekit.objectives.schedules import Schedule
from vaekit.output import VAEOutput, fold
from vaekit.part import Part
from vaekit.penalties.focal_frequency import FocalFrequency
from vaekit.penalties.tools import ImagePenalty, per_image


class LaplacianPyramid(nn.Module):
    """sum_j 4^j |L_j(x) - L_j(y)|_1, summed over values, with L_j the bands of a Laplacian pyramid and its last, smoothest image.

    References:
        Optimizing the Latent Space of Generative Networks (Bojanowski et al., 2017), section 2.2, https://arxiv.org/abs/1707.05776
        The Laplacian Pyramid as a Compact Image Code (Burt, Adelson, 1983), Eq. 4, https://doi.org/10.1109/TCOM.1983.1095851
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer("kernel", row.outer(row).view(1, 1, 5, 5), persistent=False)

    def forward(self, x: Float[Tensor, "N C H W"], y: Float[Tensor, "N C H W"]) -> Float[Tensor, "N"]:
        # The pyramid is linear: that of the difference is the difference of the two.
        image, level, total = (x - y).float(), 0, torch.zeros(len(x), device=x.device)
        while min(image.shape[2:]) >= 4 and level < 4:
            smaller = self._smooth(image)[:, :, ::2, ::2]
            # Back at the places that they were taken from, with zeros between them: a plane leaves nothing in a band.
            wide = torch.zeros_like(image)
            wide[:, :, ::2, ::2] = smaller
            band = image - 4 * self._smooth(wide)
            total = total + 4**level * band.abs().flatten(1).sum(1)
            image, level = smaller, level + 1
        return total + 4**level * image.abs().flatten(1).sum(1)

    def _smooth(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.kernel.expand(channels, 1, 5, 5), groups=channels)


class LPIPSDistance(nn.Module):
    """LPIPS (about 0 to 1) times the number of values of an image.

    References: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018), https://arxiv.org/abs/1801.03924
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            from lpips import LPIPS
        except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises RuntimeError
            raise UserError(
                f"LPIPS needs lpips and torchvision, which are not installed or do not go with this torch ({error}): "
                "pip install 'vaekit[perceptual]', or choose 'pyramid', which needs no network."
            ) from error
        try:
            self.net = LPIPS(net="vgg", verbose=False)
        except OSError as error:
            raise UserError(
                f"LPIPS looks through VGG-16, whose weights torchvision could not fetch ({error}): put vgg16-397923af.pth into "
                f"{Path(torch.hub.get_dir()) / 'checkpoints'}, or choose 'pyramid', which needs no network."
            ) from error

    def forward(self, x: Float[Tensor, "N C H W"], y: Float[Tensor, "N C H W"]) -> Float[Tensor, "N"]:
        channels, values = x.shape[1], x[0].numel()
        if channels not in (1, 3):
            raise UserError(f"LPIPS looks at grey or RGB images, and these have {channels} channels: choose 'pyramid', which takes any.")
        x, y = (2 * v.expand(-1, 3, -1, -1) - 1 for v in (x, y))
        return self.net(x, y).view(-1) * values


class FeatureDistance(nn.Module):
    """1/2 |f(x) - f(y)|^2, summed over all features: Gaussian noise of unit variance on them.

    Args:
        path: a TorchScript file, or an ONNX file where onnx2torch is installed; its network takes images [N,C,H,W] and gives a tensor, or a list or
            tuple of tensors, with N first.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        if not Path(path).is_file():
            names = ", ".join(f"'{name}'" for name in DISTANCES if name)
            raise UserError(f"There is no file {path}: this is one of {names}, or a file, TorchScript (torch.jit.save) or ONNX.")
        self.net: Any = _of_onnx(path) if path.endswith(".onnx") else _of_torchscript(path)

    def forward(self, x: Float[Tensor, "N C H W"], y: Float[Tensor, "N C H W"]) -> Float[Tensor, "N"]:
        a, b = ([f] if isinstance(f, Tensor) else list(f) for f in (self.net(x), self.net(y)))
        return torch.stack([0.5 * (u - v).float().flatten(1).square().sum(1) for u, v in zip(a, b, strict=True)]).sum(0)


def _of_torchscript(path: str) -> nn.Module:
    try:
        return torch.jit.load(path, map_location="cpu")
    except RuntimeError as error:
        raise UserError(f"{path} is not a TorchScript module: write it with torch.jit.save(torch.jit.trace(network, images), path).") from error


def _of_onnx(path: str) -> nn.Module:
    """The network as PyTorch's operations, through which a gradient can flow."""
    try:
        from onnx2torch import convert
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises RuntimeError
        raise UserError(
            f"{path} is an ONNX network, which onnx2torch makes differentiable, and that is not installed or does not go with this torch ({error}): "
            "pip install 'vaekit[perceptual]', or write the network it came from as TorchScript (torch.jit.save)."
        ) from error
    try:
        return convert(path)
    except Exception as error:  # onnx and onnx2torch have no common class of errors
        raise UserError(f"{path} is no ONNX network that onnx2torch can convert: {' '.join(str(error).split())[:300]}") from error


DISTANCES: dict[str | None, Callable[[], nn.Module]] = {
    None: LaplacianPyramid,
    "pyramid": LaplacianPyramid,
    "focal-frequency": FocalFrequency,
    "lpips": LPIPSDistance,
}
"""Of what `features` may be besides a path."""


class Perceptual(ImagePenalty):
    """d(x, m) with m the mean of p(x|z), a sum over values in nats: as it stands (weight 1) it is of the scale of a log-likelihood.

    * None: the Laplacian pyramid, an L1 distance in network units (a Laplace noise of width 1 / weight in each band); no network.
    * "pyramid": the same on images in [0,1], which for pixels is the same.
    * "focal-frequency": the spectra's squared distance, with the weight on the frequencies that are farthest off, on images in [0,1]; no network.
    * "lpips": LPIPS times the number of values (weight 1: one nat per value where LPIPS is 1), on images in [0,1].
    * a path: half the squared distance of the features of a network, TorchScript or ONNX, on images in [0,1].

    The network is frozen, stays in evaluation mode and is not saved with the run; the gradient flows through it to the decoder.

    Raises:
        UserError: for a network that is not there.
    """

    def __init__(
        self,
        levels: int | None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        features: str | None = None,
        weight: float | Schedule = 1.0,
    ) -> None:
        super().__init__(levels, mean, std, weight)
        network = DISTANCES[features]() if features in DISTANCES else FeatureDistance(str(features))
        # Not registered: its weights are no part of the run.
        self._distance = [network.eval().requires_grad_(False)]
        self.seen = self.shown if features is not None else _as_it_is

    def _apply(self, fn: Any, recurse: bool = True) -> "Perceptual":
        self._distance[0]._apply(fn)
        return super()._apply(fn, recurse)

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, "B"]:
        x, y = self.seen(fold(self.images(out), out.k)), self.seen(self.means(out))
        return per_image(self._distance[0](x, y).float(), out)


def _as_it_is(x: Tensor) -> Tensor:
    return x
