"""Codes whose posterior is given, without a model."""

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from vaekit.output import Batch, LatentTerm, VAEOutput


def of_codes(mean: Tensor, std: Tensor, z: Tensor | None = None, prior: Tensor | None = None) -> VAEOutput:
    """What a penalty on codes looks at, and nothing else."""
    q = Independent(Normal(mean, std), 1)
    z = q.rsample() if z is None else z
    px = Independent(Normal(torch.zeros(len(z), 1, 2, 2), 1.0), 3)
    asked = {} if prior is None else {"prior_codes": prior}
    return VAEOutput(Batch(torch.zeros(len(z), 1, 2, 2)), px, torch.zeros(1, len(z)), (LatentTerm(z, q),), asked=asked)
