"""The features of a small classifier of Fashion-MNIST, which comes with the package."""

import hashlib
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from safetensors.torch import load
from torch import Tensor, nn

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.evaluation.samples.space import BATCH
from vaekit.pictures import unit

WEIGHTS = Path(__file__).with_name("fashion_classifier.safetensors")
SHA256 = "93c397bd33be54827240fb08734d15418083037d9f168d6bf0673ba119e53131"
"""Of the weights: another network would give other distances under the same name."""
SHAPE = (1, 28, 28)


class FashionClassifier(nn.Module):
    """Three convolutions and a layer of 96 features, then ten classes; grey images 28x28 with values from 0 to 1."""

    def __init__(self, features: int = 96, norm: bool = False) -> None:
        super().__init__()

        def stage(i: int, o: int) -> list[nn.Module]:
            # Batch norm is for the training alone: it is folded into the convolution before the weights are written. So it stands beside it, and
            # the pooling comes last: with a scale below 0 the two do not commute.
            return [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o) if norm else nn.Identity(), nn.MaxPool2d(2), nn.ReLU()]

        self.body = nn.Sequential(*stage(1, 16), *stage(16, 64), *stage(64, 128))
        self.embed = nn.Linear(128 * 3 * 3, features)
        self.head = nn.Linear(features, 10)

    def features(self, x: Float[Tensor, "B 1 28 28"]) -> Float[Tensor, "B F"]:
        """The layer before the classes."""
        return torch.relu(self.embed(self.body(x).flatten(1)))

    def forward(self, x: Float[Tensor, "B 1 28 28"]) -> Float[Tensor, "B 10"]:
        """The logits of the classes."""
        return self.head(self.features(x))


class FashionSpace:
    """The 96 features before the last layer of a classifier of Fashion-MNIST, for grey images 28x28.

    It was trained by `benchmarks/fashion_classifier.py` on the 50,000 training images alone: the validation and the test images are as new to it as
    samples are. Its distances say nothing of other spaces', and of images that are not clothes they say little.

    Raises:
        UserError: for images of another shape, and if the file of its weights is not the one that was shipped.

    References: Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms (Xiao et al., 2017),
    https://arxiv.org/abs/1708.07747
    """

    name = "fashion"

    def __init__(self) -> None:
        self.network = load_classifier()

    @torch.no_grad()
    def __call__(self, images: Shaped[Tensor, "N C H W"], spec: DataSpec) -> Float[Tensor, "N F"]:
        if spec.shape != SHAPE:
            raise UserError(f"The feature space 'fashion' is for grey images 28 x 28, and these are {spec.shape}: choose another with --features.")
        return torch.cat([self.network.features(unit(part, spec).float()) for part in images.cpu().split(BATCH)])


def load_classifier(path: Path = WEIGHTS) -> FashionClassifier:
    """The classifier, in eval mode. Raises `UserError` if the file is missing or is another one."""
    content = path.read_bytes() if path.is_file() else None
    if content is None or hashlib.sha256(content).hexdigest() != SHA256:
        what = "is missing" if content is None else "is not the one that came with vaekit (its SHA-256 is another)"
        raise UserError(f"The classifier of the feature space 'fashion', {path}, {what}: install vaekit again.")
    network = FashionClassifier()
    network.load_state_dict({name: value.float() for name, value in load(content).items()})
    network.eval()
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in torch's types of Module.to


__all__ = ["FashionClassifier", "FashionSpace", "load_classifier"]
