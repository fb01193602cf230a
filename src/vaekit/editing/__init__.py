"""What is done with a trained model."""

from vaekit.editing.impute import Imputation, impute
from vaekit.editing.picture import imputations

__all__ = ["Imputation", "imputations", "impute"]
