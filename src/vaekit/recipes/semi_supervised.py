"""Few labels: the class is a code beside the others, known for some images."""

from vaekit.errors import UserError
from vaekit.latents import DiagonalGaussian, Flat, Latent, StandardNormal
from vaekit.latents.labelled import LabelledCategories
from vaekit.latents.posteriors.categorical import RelaxedCategorical
from vaekit.latents.priors.categories import UniformCategories
from vaekit.latents.product import Product
from vaekit.penalties.classification import ClassificationPenalty
from vaekit.recipes.conv import dimensions, variant
from vaekit.recipes.recipe import Recipe, Setting, recipe


@recipe(
    "semi-supervised",
    year=2014,
    paper="Semi-Supervised Learning with Deep Generative Models (Kingma et al.), the model M2 with a relaxed class",
    url="https://arxiv.org/abs/1406.5298",
    good_for="many images of which few have a class (--labels 100, or a folder named unlabeled): learns to tell the classes from all of them",
)
def semi_supervised(s: Setting) -> Recipe:
    """The code has a category, which is the class, and a Gaussian vector for all that the class does not say. Images with a label are told it,
    images without are explained by every class as far as it fits. A few labels then go a long way; `vaekit evaluate` says how well classes are told.
    """
    classes, alpha = len(s.data.classes), s.knob("alpha", 50.0)
    if classes < 2:
        raise UserError(
            "There are no classes to learn: put the images that have a class into its sub-folder, and the others into one named unlabeled."
        )

    def code(features: int, latent: int) -> Latent:
        style = Flat(DiagonalGaussian(features, latent), StandardNormal([latent]))
        return Product([style, LabelledCategories(RelaxedCategorical(features, 1, classes), UniformCategories(1, classes))])

    return variant(s, code, None, ClassificationPenalty(alpha), width=dimensions(s) + classes, select="last")
