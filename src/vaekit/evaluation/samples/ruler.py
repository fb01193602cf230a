"""All measures of a set of images in one feature space, beside the same real images: for samples, and for real images in their place."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float, Shaped
from torch import Tensor

from vaekit.evaluation.samples.appearance import diversity, sharpness
from vaekit.evaluation.samples.frechet import frechet_distance, frechet_error
from vaekit.evaluation.samples.kernel import kernel_distance
from vaekit.evaluation.samples.memorization import Nearest, memorized, nearest
from vaekit.evaluation.samples.neighbours import neighbours
from vaekit.evaluation.samples.pyramid import PyramidSpace, sliced_wasserstein
from vaekit.evaluation.samples.real import Real
from vaekit.evaluation.samples.space import BATCH, Space

KEPT = 2**26
"""Values: the training images' features stay in memory up to this."""


@dataclass(frozen=True)
class Figure:
    """One measure of one set of images."""

    value: float
    error: float | None
    """Standard error; None where it is not known."""
    space: str


class Ruler:
    """Measures images beside the same real ones; what those cost is paid once, for any number of models."""

    def __init__(self, space: Space, real: Real, seed: int = 0) -> None:
        self.space, self.real, self.seed = space, real, seed

    @cached_property
    def test(self) -> Shaped[Tensor, "n C H W"]:
        return self.real.images(self.real.test)

    @cached_property
    def features(self) -> Float[Tensor, "n F"]:
        """Of the real images that are the measure."""
        return self.space(self.test, self.real.spec)

    @cached_property
    def floor(self) -> dict[str, Figure]:
        """The measures of the other real images: what a perfect model would reach."""
        return self.measure(self.real.images(self.real.other))[0]

    @cached_property
    def _held_out(self) -> Float[Tensor, "n"]:
        return nearest(self.features, self._training()).distance

    @cached_property
    def _sharpness(self) -> float:
        return self._sharp(self.test)

    @cached_property
    def _diversity(self) -> float:
        return diversity(self.features)

    def measure(self, images: Shaped[Tensor, "n C H W"]) -> tuple[dict[str, Figure], Nearest]:
        """The measures of n images, and their nearest training images in this space."""
        found, name = self.space(images, self.real.spec), self.space.name
        figures = self._distances(images, found)
        around, copies = neighbours(self.features, found), nearest(found, self._training())
        figures |= {
            "precision": Figure(around.precision, None, name),
            "recall": Figure(around.recall, None, name),
            "density": Figure(around.density, None, name),
            "coverage": Figure(around.coverage, None, name),
            "diversity": Figure(diversity(found) / self._diversity, None, name),
            "memorization": Figure(memorized(copies.distance, self._held_out), None, name),
        }
        if self._sharpness > 0:
            figures["sharpness"] = Figure(self._sharp(images) / self._sharpness, None, "pixels")
        return figures, copies

    def _sharp(self, images: Shaped[Tensor, "n C H W"]) -> float:
        """A part at a time: as floats, large images take four times their place."""
        return sum(len(part) * sharpness(self.real.unit(part)) for part in images.split(BATCH)) / len(images)

    def _distances(self, images: Shaped[Tensor, "n C H W"], found: Float[Tensor, "n F"]) -> dict[str, Figure]:
        name = self.space.name
        if isinstance(self.space, PyramidSpace):
            return {"sliced_wasserstein": Figure(*sliced_wasserstein(self.test, images, seed=self.seed, unit=self.real.unit), name)}
        return {
            "frechet_distance": Figure(frechet_distance(self.features, found), frechet_error(self.features, found, seed=self.seed), name),
            "kernel_distance": Figure(*kernel_distance(self.features, found), name),
        }

    def _training(self) -> Iterator[Float[Tensor, "_ F"]]:
        if len(self.real.train) * self.features.shape[1] <= KEPT:
            return iter(self._kept)
        return (self.space(images, self.real.spec) for images in self.real.training())

    @cached_property
    def _kept(self) -> list[Float[Tensor, "_ F"]]:
        return [self.space(images, self.real.spec) for images in self.real.training()]


__all__ = ["Figure", "Ruler"]
