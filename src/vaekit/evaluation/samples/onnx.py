"""The features of a network of the user's, as an ONNX file."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.evaluation.samples.space import BATCH
from vaekit.pictures import unit

MOST = 4096
"""Features: the Frechet distance decomposes a matrix of as many rows."""


class OnnxSpace:
    """The first output, flattened, of an ONNX network that takes float32 images [N, C, H, W] on the scale where 0 is the darkest and 1 the brightest.

    Whatever else it wants of its input (another mean, another size) belongs into the file. The name of the space holds the first digits of the file's
    SHA-256: another file is another space.

    Raises:
        UserError: where onnxruntime is not installed, for a file that it cannot run, and for images of another shape than the network's input.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise UserError(f"There is no feature network {path}: name a file that ends in .onnx.")
        content = path.read_bytes()
        self.name = f"{path.name} (SHA-256 {hashlib.sha256(content).hexdigest()[:8]})"
        self._file = path
        self._session = _session(path, content)
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise UserError(f"{path} takes {len(inputs)} inputs ({', '.join(i.name for i in inputs)}): a feature network takes images alone.")
        self._input = inputs[0]
        if self._input.type != "tensor(float)":
            raise UserError(f"The input of {path} is {self._input.type}, and a feature network's is tensor(float), with values from 0 to 1.")
        if len(self._input.shape) != 4:
            raise UserError(f"The input of {path} is {_words(self._input.shape)}: a feature network's is [images, channels, height, width].")

    def __call__(self, images: Shaped[Tensor, "N C H W"], spec: DataSpec) -> Float[Tensor, "N F"]:
        wanted = self._input.shape[1:]
        if any(isinstance(size, int) and size > 0 and size != own for size, own in zip(wanted, spec.shape, strict=True)):
            raise UserError(f"{self._file} takes images of {_words(wanted)} (channels, height, width), and these are {_words(spec.shape)}.")
        fixed = self._input.shape[0]
        size = fixed if isinstance(fixed, int) and fixed > 0 else BATCH
        return torch.cat([self._features(unit(part, spec).float(), size) for part in images.cpu().split(size)])

    def _features(self, x: Float[Tensor, "B C H W"], size: int) -> Float[Tensor, "B F"]:
        count = len(x)
        if isinstance(self._input.shape[0], int) and count < size:  # a network for batches of one size alone
            x = torch.cat([x, x[-1:].expand(size - count, *x.shape[1:])])
        try:
            found = np.asarray(self._session.run(None, {self._input.name: x.contiguous().numpy()})[0])
        except Exception as error:  # the errors of onnxruntime have no common class that it exports
            raise UserError(f"{self._file} cannot run on these images: {' '.join(str(error).split())[:300]}") from error
        if found.ndim < 2 or len(found) != len(x):
            raise UserError(f"The first output of {self._file} has the shape {_words(found.shape)}: it needs a row of features for each image.")
        features = torch.from_numpy(found.astype(np.float32)).flatten(1)[:count]
        if features.shape[1] > MOST:
            raise UserError(f"The first output of {self._file} has {features.shape[1]:,} values for an image, more than {MOST:,}: pool it first.")
        return features


def _session(path: Path, content: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"The feature network {path} needs onnxruntime, which is not installed: pip install onnxruntime.") from error
    try:
        return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(f"{path} is no ONNX network that onnxruntime can run: {' '.join(str(error).split())[:300]}") from error


def _words(shape: Any) -> str:
    return " x ".join(str(size) for size in shape)
