"""Can samples stand for data? A classifier that learns from them alone is judged on real images."""

import warnings

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vaekit.errors import UserError

HIDDEN = 128
EPOCHS = 30


def train_on_synthetic(
    images: Float[Tensor, "N C H W"],
    labels: Int[Tensor, "N"],
    test_images: Float[Tensor, "M C H W"],
    test_labels: Int[Tensor, "M"],
    *,
    seed: int = 0,
) -> float:
    """The accuracy on real test images of a classifier that learnt from these images and labels.

    It sees pixels: one hidden layer of 128 units, 30 passes. Compare it with the accuracy after as many real images: what is lost is what samples
    lack of the classes. Labels of -1 are left out.

    Raises `UserError` for fewer than two classes among the labels.

    References: Classification Accuracy Score for Conditional Generative Models (Ravuri, Vinyals, 2019), https://arxiv.org/abs/1905.10887
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    known, judged = labels >= 0, test_labels >= 0
    if len(labels[known].unique()) < 2 or not judged.any():
        raise UserError("Train-on-synthetic accuracy needs images of at least two classes, and real images with their class.")
    x, test = (_flat(part) for part in (images[known], test_images[judged]))
    classifier = MLPClassifier((HIDDEN,), batch_size=min(100, len(x)), max_iter=EPOCHS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it ends after its passes: that is no fault
        classifier.fit(x, labels[known].numpy())
    return float((classifier.predict(test) == test_labels[judged].numpy()).mean())


def _flat(images: Float[Tensor, "N C H W"]) -> Float[np.ndarray, "N F"]:
    return images.flatten(1).to(torch.float32).numpy()


__all__ = ["train_on_synthetic"]
