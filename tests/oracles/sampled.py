"""Objectives of several samples, and outputs whose log weights are given, without a model."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from vaekit.objectives import CIWAE, IWAE, MIWAE, PIWAE, STL, DReG, Objective, Renyi
from vaekit.output import Batch, LatentTerm, VAEOutput

SAMPLED: dict[str, Callable[[], Objective]] = {
    "IWAE": lambda: IWAE(6),
    "MIWAE": lambda: MIWAE(2, 3),
    "CIWAE": lambda: CIWAE(6, 0.3),
    "PIWAE": lambda: PIWAE(2, 3),
    "Renyi": lambda: Renyi(0.4, 6),
    "STL": lambda: STL(6),
    "DReG": lambda: DReG(6),
}


def of_weights(log_w: Tensor) -> VAEOutput:
    """An output whose log weights are given: p and q of z are both 1."""
    k, b = log_w.shape
    term = LatentTerm(torch.zeros(k * b, 1))
    return VAEOutput(Batch(torch.zeros(b, 1, 1, 1)), Normal(0.0, 1.0), log_w, (term,), k)
