"""A categorical code that is a class: known for some images in training, and inferred for the others."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vaekit.distributions.kl import TABLE
from vaekit.distributions.relaxed_categorical import Categories, OneHots, RelaxedOneHots
from vaekit.errors import UserError
from vaekit.latents.base import Anchors, DensityPrior, Features, Posterior
from vaekit.latents.single import SingleLayer
from vaekit.output import LatentTerm

CERTAIN = 80.0
"""Nats by which a known class is above the others: exp(-80) is 0 beside 1, and finite, so that 0 log 0 is 0."""


class LabelledOneHots(RelaxedOneHots):
    """q(y|x) where y is unknown, all mass on the label where it is known; `classifier` is log q(y|x) of every image, the labels not looked at."""

    def __init__(self, q: RelaxedOneHots, label: Int[Tensor, "N"]) -> None:
        certain = CERTAIN * torch.nn.functional.one_hot(label.clamp_min(0), q.classes).to(q.log_probs).unsqueeze(1)
        super().__init__(torch.where((label >= 0).view(-1, 1, 1), certain, q.log_probs), q.temperature)
        self.classifier = q.log_probs.squeeze(1)


TABLE[(LabelledOneHots, OneHots)] = TABLE[(RelaxedOneHots, OneHots)]


def classifier(q: Categories) -> Float[Tensor, "N K"]:
    """log q(y|x) of a code of one categorical variable, whether or not labels are clamped in it."""
    return q.classifier if isinstance(q, LabelledOneHots) else q.log_probs.squeeze(1)


class LabelledCategories(SingleLayer):
    r"""y, the class of an image: q(y|x) = Cat(y), p(y). In training an image with a label has that class for its code, as a one-hot vector.

    What it costs is KL(q(y|x) || p(y)) for an image without a label, and -log p(y) = log K for one that has it, in nats: with a Gaussian beside it in
    a `Product` this is the bound of the model M2. Nothing but training looks at labels.

    Raises `UserError` unless the code is one variable, with a prior of the same support.

    References: Semi-Supervised Learning with Deep Generative Models (Kingma et al., 2014), Eq. 6-8, https://arxiv.org/abs/1406.5298
        (with a relaxed sample of the class in the place of the sum over all of them)

    Args:
        posterior: q(y|x), a `RelaxedCategorical` of one variable.
        prior: p(y).
    """

    def __init__(self, posterior: Posterior, prior: DensityPrior) -> None:
        super().__init__()
        if "classes" not in posterior.gives or posterior.support != prior.support:
            raise UserError(f"A labelled code is one categorical variable with a categorical prior, and not {type(posterior).__name__}.")
        self.posterior, self.prior = posterior, prior

    @property
    def gives(self) -> frozenset[str]:
        return frozenset({"classes", "divergence", "single"})

    def infer(
        self,
        h: Features,
        *,
        anchors: Anchors | None = None,
        c: Tensor | None = None,
        label: Int[Tensor, "N"] | None = None,
        mean: bool = False,
    ) -> tuple[Float[Tensor, "N K"], tuple[LatentTerm, ...]]:
        q = self.posterior(h)
        z = q.mean if mean else q.rsample()
        if label is not None and isinstance(q, RelaxedOneHots):
            q = LabelledOneHots(q, label)
            known: Bool[Tensor, "N 1"] = (label >= 0).unsqueeze(1)
            z = torch.where(known, q.mean, z)
        return z, (LatentTerm(z, q, self.prior(c)),)

    def draw(self, n: int, c: Tensor | None, anchors: Anchors | None, temperature: float) -> Tensor:
        return self.prior.sample(n, c=c, temperature=temperature)
