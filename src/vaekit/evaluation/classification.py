"""How well a model that has a classifier in it tells classes."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.distributions.relaxed_categorical import Categories
from vaekit.errors import UserError
from vaekit.evaluation.passes import Batches, Progress, passes
from vaekit.latents.labelled import LabelledCategories, classifier
from vaekit.model import VAE
from vaekit.output import Batch


def classifies(model: VAE) -> bool:
    """Whether the model's codes hold q(y|x) of the classes that the data name."""
    return any(isinstance(part, LabelledCategories) for part in model.latent.modules())


def label_accuracy(
    model: VAE, batches: Batches, *, precision: str = "fp32", progress: Progress | None = None, total: int | None = None
) -> float | None:
    """The share of labelled images for which argmax_y q(y|x) is the label; None without a classifier, and without labels.

    The model is in eval mode and never gets the labels.

    Args:
        batches, precision, progress, total: see `passes`.

    References: Semi-Supervised Learning with Deep Generative Models (Kingma et al., 2014), table 1, https://arxiv.org/abs/1406.5298
    """
    if not classifies(model):
        return None

    def compute(batch: Batch) -> torch.Tensor:
        if batch.label is None:
            return torch.zeros(2, dtype=torch.long)
        known = batch.label >= 0
        right = class_probabilities(model, batch).argmax(1) == batch.label
        return torch.stack([(right & known).sum(), known.sum()]).cpu()

    right, known = torch.stack(list(passes(model, batches, compute, precision=precision, progress=progress, total=total))).sum(0).tolist()
    return right / known if known else None


@torch.no_grad()
def class_probabilities(model: VAE, batch: Batch) -> Float[Tensor, "B K"]:
    """q(y|x) of a model with a categorical code; the labels of the batch are not looked at. Raises `UserError` if it has none."""
    c = model.embed(batch.condition)
    _, terms = model.latent.infer(model._encode(batch, c), anchors=model.anchors(), c=c, mean=True)
    for term in terms:
        if isinstance(term.q, Categories) and term.q.variables == 1:
            return classifier(term.q).exp()
    raise UserError("This model has no code for the class: train one with --recipe semi-supervised.")
