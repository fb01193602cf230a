"""The objective of a model that learns from its penalties alone."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.objectives.base import Objective
from vaekit.output import VAEOutput


class NoBound(Objective):
    """0 for every image: no likelihood is asked for, and the model learns from the penalties alone, as the generator of a GAN does.

    References: Generative Adversarial Nets (Goodfellow et al., 2014), section 3, https://arxiv.org/abs/1406.2661
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        return torch.zeros(len(out.batch), device=out.log_px.device)
