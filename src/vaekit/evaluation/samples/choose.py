"""Which feature space measures these images."""

from collections.abc import Callable
from pathlib import Path

import torch

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.evaluation.samples.fashion import SHAPE, FashionSpace
from vaekit.evaluation.samples.inception import InceptionSpace
from vaekit.evaluation.samples.onnx import OnnxSpace
from vaekit.evaluation.samples.pyramid import PyramidSpace
from vaekit.evaluation.samples.space import Space

SPACES: dict[str, Callable[[torch.device | str], Space]] = {
    "fashion": lambda device: FashionSpace(),
    "laplacian": lambda device: PyramidSpace(),
    "inception": InceptionSpace,
}
"""By name, for the device of the model: a large network computes there too."""


def choose(features: str | Path | Space | None, spec: DataSpec, data: str, device: torch.device | str = "cpu") -> Space:
    """The space of this name, or of this ONNX file; for None, `fashion` for the data set fashion-mnist at 28 x 28, else `laplacian`.

    Raises `UserError` for a name that is not known, and for a space that cannot be used here.
    """
    if features is None:
        features = "fashion" if data.split(":")[0] == "fashion-mnist" and spec.shape == SHAPE else "laplacian"
    if not isinstance(features, str | Path):
        return features
    if str(features) in SPACES:
        return SPACES[str(features)](device)
    if str(features).lower().endswith(".onnx"):
        return OnnxSpace(features)
    raise UserError(f"The feature space '{features}' is not known: choose {', '.join(SPACES)}, or the path of a file that ends in .onnx.")
