"""Named variants: a few lines each, every one a composition of parts."""

from vaekit.recipes import conv, mlp, resnet, tutorial  # noqa: F401 (each registers itself)
from vaekit.recipes.recipe import DEFAULT, RECIPES, Entry, Recipe, Setting, build_recipe, recipe

__all__ = ["DEFAULT", "RECIPES", "Entry", "Recipe", "Setting", "build_recipe", "recipe"]
