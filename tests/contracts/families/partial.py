"""Examples of the parts for few labels, and the recipes for missing pixels and few labels."""

from vaekit.latents.labelled import LabelledCategories
from vaekit.latents.posteriors.categorical import RelaxedCategorical
from vaekit.latents.priors.categories import UniformCategories
from vaekit.penalties.classification import ClassificationPenalty
from vaekit.recipes import missing, semi_supervised  # noqa: F401 (register themselves)

EXAMPLES = {
    "LabelledCategories": lambda: LabelledCategories(RelaxedCategorical(8, 1, 4), UniformCategories(1, 4)),
    "ClassificationPenalty": lambda: ClassificationPenalty(50.0),
}
