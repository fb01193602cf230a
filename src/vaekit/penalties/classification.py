"""What the labels that there are teach the classifier."""

from jaxtyping import Float
from torch import Tensor

from vaekit.distributions.relaxed_categorical import Categories
from vaekit.errors import UserError
from vaekit.latents.labelled import classifier
from vaekit.output import VAEOutput
from vaekit.part import Part
from vaekit.penalties.base import Penalty


class ClassificationPenalty(Penalty):
    """-log q(y|x) in nats for an image with the label y, 0 for the others: without it the bound of a labelled image would not teach q(y|x) at all.

    The weight is per labelled image, whatever else is in its batch. The paper's alpha = 0.1 N, set against the sum over N images, is a weight of
    0.1 N / (number of labels).

    Raises `UserError` for a model without a categorical code.

    References: Semi-Supervised Learning with Deep Generative Models (Kingma et al., 2014), Eq. 9, https://arxiv.org/abs/1406.5298
    """

    needs = frozenset({"classes"})

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, "B"]:
        for term in out.terms:
            if isinstance(term.q, Categories) and term.q.variables == 1:
                # With several samples the images are repeated, and their features with them: the first time is enough.
                log_q = classifier(term.q)[: len(out.batch)]
                label = out.batch.label
                if label is None:
                    return 0.0 * log_q.sum(1)
                return -log_q.gather(1, label.clamp_min(0).unsqueeze(1)).squeeze(1) * (label >= 0)
        raise UserError("There is no categorical code for the labels to teach: use the recipe semi-supervised.")
