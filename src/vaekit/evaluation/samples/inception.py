"""The features that most published Frechet distances are of."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.device import unrounded
from vaekit.errors import UserError
from vaekit.pictures import channels, on_white

BATCH = 50
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
"""Under https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0."""


class InceptionSpace:
    """The 2048 features of the last pooling layer of Inception v3, as trained for the first published distances; by torch-fidelity.

    Images are brought to 8 bits and three channels (grey is repeated, transparency lies on white) and resized by the network itself, to 299 x 299
    without antialiasing, as the published distances have it (torchmetrics' own network smooths them first, and gives other distances).

    Args:
        device: where the network computes.

    Raises:
        UserError: where torch-fidelity is not installed, or its weights cannot be fetched, which it does at the first use.

    References: Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2016), https://arxiv.org/abs/1512.00567
    """

    name = "inception"

    rounds = True
    """Its images have 8 bits."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.network, self.device = _network().to(device), device

    @torch.no_grad()
    def __call__(self, images: Shaped[Tensor, "N C H W"], spec: DataSpec) -> Float[Tensor, "N F"]:
        with unrounded(torch.device(self.device)):
            return torch.cat([self.network(rgb(part, spec).to(self.device))[0].float().cpu() for part in images.split(BATCH)])


def rgb(images: Shaped[Tensor, "N C H W"], spec: DataSpec) -> UInt8[Tensor, "N 3 H W"]:
    """Raw images as 8-bit RGB; transparent pixels lie on white."""
    return torch.tensor(on_white(channels(images, spec))).permute(0, 3, 1, 2).contiguous()


def _network() -> Any:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises RuntimeError
        raise UserError(
            f"The feature space 'inception' needs torch-fidelity and torchvision, which are not installed or do not go with this torch ({error}): "
            "pip install torch-fidelity, or choose another with --features (laplacian needs no network)."
        ) from error
    try:
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).eval()  # before 0.4 it came in training mode
    except (OSError, RuntimeError) as error:  # a file that is cut short raises RuntimeError
        raise UserError(
            f"The weights of Inception could not be fetched or read ({error}): put {WEIGHTS} into {Path(torch.hub.get_dir()) / 'checkpoints'}, "
            "or choose another space with --features (laplacian needs no network)."
        ) from error
