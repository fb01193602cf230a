"""What the bounds of several samples share: their weights, and what the layers add to a loss."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError
from vaekit.output import VAEOutput


def normalized(log_w: Float[Tensor, "K *B"]) -> Float[Tensor, "K *B"]:
    """w_k / sum_j w_j, detached: computed from log w, so that a difference of thousands of nats gives 0 and 1 and never a NaN."""
    return log_w.detach().float().softmax(0)


def log_mean(log_w: Float[Tensor, "K *B"]) -> Float[Tensor, "*B"]:
    """log (1/K) sum_k w_k in nats."""
    return log_w.logsumexp(0) - math.log(log_w.shape[0])


def grouped(log_w: Float[Tensor, "K B"], groups: int) -> Float[Tensor, "S M B"]:
    """The samples in M groups of S, for a pass that drew M*S; for any other number, in as many groups as divide both."""
    m = math.gcd(groups, log_w.shape[0])
    return log_w.view(-1, m, log_w.shape[1])


def with_penalty(loss: Float[Tensor, "B"], out: VAEOutput) -> Float[Tensor, "B"]:
    """The loss and what the layers add to it (a quantizer's commitment, say), as the mean of the samples."""
    penalty = out.penalty()
    return loss if penalty is None else loss + penalty.mean(0)


def whole(name: str, value: int) -> int:
    """`value`, which counts something. Raises `UserError` if it is below 1."""
    if value < 1:
        raise UserError(f"{name} is at least 1, and it is {value}.")
    return value


def by_samples(out: VAEOutput) -> Float[Tensor, "B"]:
    """The ELBO as the mean of log w, [B] nats."""
    return torch.mean(out.log_w(), 0)
