"""The features that most published Frechet distances are of."""

from typing import Any

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.pictures import channels, on_white

BATCH = 50


class InceptionSpace:
    """The 2048 features of the last pooling layer of Inception v3, as trained for the first published distances; by torchmetrics and torch-fidelity.

    Images are brought to 8 bits and three channels (grey is repeated, transparency lies on white) and resized by the network itself.

    Raises:
        UserError: where torch-fidelity is not installed, or its weights cannot be fetched, which it does at the first use.

    References: Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2016), https://arxiv.org/abs/1512.00567
    """

    name = "inception"

    def __init__(self) -> None:
        self.network = _network()

    @torch.no_grad()
    def __call__(self, images: Shaped[Tensor, "N C H W"], spec: DataSpec) -> Float[Tensor, "N F"]:
        return torch.cat([self.network(rgb(part, spec)).reshape(len(part), -1).float() for part in images.split(BATCH)])


def rgb(images: Shaped[Tensor, "N C H W"], spec: DataSpec) -> UInt8[Tensor, "N 3 H W"]:
    """Raw images as 8-bit RGB; transparent pixels lie on white."""
    return torch.tensor(on_white(channels(images, spec))).permute(0, 3, 1, 2).contiguous()


def _network() -> Any:
    try:
        import torch_fidelity  # noqa: F401 (torchmetrics takes the network from it)
        from torchmetrics.image.fid import NoTrainInceptionV3
    except ImportError as error:
        raise UserError(
            "The feature space 'inception' needs torch-fidelity, which is not installed: pip install torch-fidelity, "
            "or choose another with --features (laplacian needs no network)."
        ) from error
    try:
        return NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"]).eval()
    except OSError as error:
        raise UserError(f"The weights of Inception cannot be read ({error}): connect the machine once, or choose another space.") from error
