"""What is done with a trained model."""

from vaekit.editing.impute import Imputation, impute
from vaekit.editing.picture import imputations
from vaekit.editing.traverse import Active, active_dimensions, traverse

__all__ = ["Active", "Imputation", "active_dimensions", "imputations", "impute", "traverse"]
