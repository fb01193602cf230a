"""Named variants: a few lines each, every one a composition of parts."""

# Each registers itself; the order is that of the index.
from vaekit.recipes import tutorial, conv, resnet, mlp  # noqa: F401, I001
from vaekit.recipes.recipe import DEFAULT, RECIPES, SETTING_OPTIONS, Entry, Recipe, Setting, build_recipe, knobs, recipe

__all__ = ["DEFAULT", "RECIPES", "SETTING_OPTIONS", "Entry", "Recipe", "Setting", "build_recipe", "knobs", "recipe"]
