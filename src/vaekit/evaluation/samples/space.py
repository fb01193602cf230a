"""What a feature space is: images become the vectors that distances are taken of."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Shaped
from torch import Tensor

from vaekit.data.spec import DataSpec


@runtime_checkable
class Space(Protocol):
    """A named map from images to vectors; figures of different spaces cannot be compared."""

    name: str

    def __call__(self, images: Shaped[Tensor, "N C H W"], spec: DataSpec) -> Float[Tensor, "N F"]:
        """The features (float32, on the CPU) of raw images of this spec.

        Raises `UserError` for images that the space cannot take.
        """


BATCH = 500
"""Images that go through a network at once."""
