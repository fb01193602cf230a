"""Bounds on log p(x) that are functions of the importance weights w_k = p(x, z_k) / q(z_k|x) of several samples."""

import math

from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError
from vaekit.objectives.base import Objective
from vaekit.objectives.weights import by_samples, grouped, log_mean, whole, with_penalty
from vaekit.output import VAEOutput


class IWAE(Objective):
    """-log (1/K) sum_k w_k, in nats per image. K = 1 is the ELBO by samples.

    It costs K passes of the decoder for each image, and the memory of a batch K times as large behind the encoder.

    References: Importance Weighted Autoencoders (Burda et al., 2015), Eq. 8, https://arxiv.org/abs/1509.00519

    Args:
        samples: K.
    """

    needs = frozenset({"density"})

    def __init__(self, samples: int = 5) -> None:
        super().__init__()
        self.samples = whole("samples", samples)

    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        return with_penalty(-log_mean(out.log_w()), out)


class MIWAE(Objective):
    """-(1/M) sum_m log (1/K) sum_k w_mk, in nats per image: the mean of M bounds of K samples each, at the cost of M*K samples.

    M = 1 is IWAE, K = 1 the ELBO by samples. A tighter bound has a noisier gradient for the encoder; groups give it back its signal.

    References: Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018), "New estimators", https://arxiv.org/abs/1802.04537

    Args:
        groups: M.
        samples: K in each group.
    """

    needs = frozenset({"density"})

    def __init__(self, groups: int = 2, samples: int = 4) -> None:
        super().__init__()
        self.groups = whole("groups", groups)
        self.samples = self.groups * whole("samples", samples)

    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        return with_penalty(-log_mean(grouped(out.log_w(), self.groups)).mean(0), out)


class CIWAE(Objective):
    """-(beta ELBO + (1 - beta) IWAE), in nats per image, both of the same K samples: between the two bounds.

    References: Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018), "New estimators", https://arxiv.org/abs/1802.04537

    Args:
        samples: K.
        beta: the share of the ELBO, 0 to 1.

    Raises:
        UserError: for a share outside of 0 to 1.
    """

    needs = frozenset({"density"})

    def __init__(self, samples: int = 5, beta: float = 0.5) -> None:
        super().__init__()
        self.samples = whole("samples", samples)
        if not 0 <= beta <= 1:
            raise UserError(f"beta is the share of the ELBO in this bound, from 0 to 1, and it is {beta}.")
        self.beta = beta

    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        return with_penalty(-(self.beta * by_samples(out) + (1 - self.beta) * log_mean(out.log_w())), out)


class Renyi(Objective):
    """-1/(1-alpha) log (1/K) sum_k w_k^(1-alpha), in nats per image: the variational Renyi bound.

    alpha = 0 is IWAE; alpha -> 1 is the ELBO by samples, which stands for all |1 - alpha| < 1e-4, where float32 has nothing left of the formula.
    It falls as alpha rises: an alpha below 1 spreads the posterior over what the data allow, one above 1 narrows it; below 0, with many
    samples, it exceeds log p(x).

    References: Renyi Divergence Variational Inference (Li, Turner, 2016), https://arxiv.org/abs/1602.02311

    Args:
        alpha: any number.
        samples: K.
    """

    needs = frozenset({"density"})

    def __init__(self, alpha: float = 0.5, samples: int = 5) -> None:
        super().__init__()
        self.samples = whole("samples", samples)
        if not math.isfinite(alpha):
            raise UserError(f"alpha is a number (0 is IWAE, 1 the ELBO), and it is {alpha}.")
        self.alpha = alpha

    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        power = 1 - self.alpha
        bound = by_samples(out) if abs(power) < 1e-4 else log_mean(power * out.log_w()) / power
        return with_penalty(-bound, out)
