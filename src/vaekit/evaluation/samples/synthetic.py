"""Can samples stand for data, and are they what they were told to be? Classifiers of samples and of real images, judged on the other."""

import warnings
from collections.abc import Callable

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

    Compare it with the accuracy after as many real images: what is lost is what samples lack of the classes. See `learnt` for the classifier.

    References: Classification Accuracy Score for Conditional Generative Models (Ravuri, Vinyals, 2019), https://arxiv.org/abs/1905.10887
    """
    return learnt(images, labels, seed=seed)(test_images, test_labels)


def learnt(
    images: Float[Tensor, "N C H W"], labels: Int[Tensor, "N"], *, seed: int = 0
) -> Callable[[Float[Tensor, "M C H W"], Int[Tensor, "M"]], float]:
    """What gives the accuracy on other images of a classifier that learnt from these: one hidden layer of 128 units on pixels, 30 passes.

    Labels of -1 are left out, here and there. Raises `UserError` for fewer than two classes among the labels, and for images without any.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    known = labels >= 0
    if len(labels[known].unique()) < 2:
        raise UserError("Train-on-synthetic accuracy needs images of at least two classes.")
    x = _flat(images[known])
    classifier = MLPClassifier((HIDDEN,), batch_size=min(100, len(x)), max_iter=EPOCHS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it ends after its passes: that is no fault
        classifier.fit(x, labels[known].numpy())

    def accuracy(others: Float[Tensor, "M C H W"], theirs: Int[Tensor, "M"]) -> float:
        judged = theirs >= 0
        if not judged.any():
            raise UserError("Train-on-synthetic accuracy needs real images with their class.")
        return float((classifier.predict(_flat(others[judged])) == theirs[judged].numpy()).mean())

    return accuracy


def _flat(images: Float[Tensor, "N C H W"]) -> Float[np.ndarray, "N F"]:
    return images.flatten(1).to(torch.float32).numpy()


__all__ = ["learnt", "train_on_synthetic"]
