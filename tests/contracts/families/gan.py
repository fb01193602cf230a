"""A generator, its discriminator, and the latent and the objective of a model that only generates."""

from vaekit.latents import PriorOnly, StandardNormal
from vaekit.networks import ClassCondition
from vaekit.objectives import NoBound
from vaekit.penalties import Discriminator, GeneratorLoss

EXAMPLES = {
    "PriorOnly": lambda: PriorOnly(StandardNormal([3])),
    "NoBound": NoBound,
    "GeneratorLoss": lambda: GeneratorLoss(256),
    "Discriminator": lambda: Discriminator([2, 9, 11], [4, 8], "wasserstein", "between", 10.0, ClassCondition(3), steps=5),
}
