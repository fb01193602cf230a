"""Named variants: a few lines each, every one a composition of parts."""

# Each registers itself; the order is that of the index.
from vaekit.recipes import tutorial, conv, resnet, mlp, ladder  # noqa: F401, I001
from vaekit.recipes import objectives, posteriors, priors  # noqa: F401
from vaekit.recipes import disentangle, joint, autoencoders, perceptual, adversarial, discrete  # noqa: F401
from vaekit.recipes import semi_supervised, missing, pixel, tokenizers  # noqa: F401
from vaekit.recipes.recipe import DEFAULT, RECIPES, SETTING_OPTIONS, Entry, Recipe, Setting, build_recipe, check_names, knobs, recipe

__all__ = ["DEFAULT", "RECIPES", "SETTING_OPTIONS", "Entry", "Recipe", "Setting", "build_recipe", "check_names", "knobs", "recipe"]
