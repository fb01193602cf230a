"""vaekit: variational autoencoders on your own images.

>>> import vaekit
>>> run = vaekit.fit("conv", "photos/", out="runs/photos")
>>> run.model.sample(64)
"""

__version__ = "0.1.0"

from vaekit.api import (
    compare,
    default_folder,
    encode,
    evaluate,
    fit,
    fit_prior,
    impute,
    load,
    load_vae,
    measure_samples,
    recipe,
    reconstruct,
    reopen,
    sample,
    traverse,
    write_report,
)
from vaekit.data import Dataset, DataSpec, open_data, scan
from vaekit.errors import UserError
from vaekit.model import VAE
from vaekit.output import Batch
from vaekit.recipes import RECIPES, Recipe
from vaekit.run import Run

__all__ = [
    "RECIPES",
    "VAE",
    "Batch",
    "DataSpec",
    "Dataset",
    "Recipe",
    "Run",
    "UserError",
    "compare",
    "default_folder",
    "encode",
    "evaluate",
    "fit",
    "fit_prior",
    "impute",
    "load",
    "load_vae",
    "measure_samples",
    "open_data",
    "recipe",
    "reconstruct",
    "reopen",
    "sample",
    "scan",
    "traverse",
    "write_report",
]
