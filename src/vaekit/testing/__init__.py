"""The contracts that every part of vaekit keeps, for your own parts too.

Each `check_*` raises `AssertionError` with a sentence that says what is wrong. They are what vaekit's own suite runs over its registry.

>>> from vaekit.testing import check_posterior
>>> check_posterior(MyPosterior(features=8, latent=3), torch.randn(16, 8))
"""

from vaekit.testing.anchored import check_anchored_prior
from vaekit.testing.check import check_part
from vaekit.testing.ladders import check_latent
from vaekit.testing.latents import check_posterior, check_prior
from vaekit.testing.likelihoods import check_likelihood
from vaekit.testing.models import check_model, check_objective, check_penalty
from vaekit.testing.parts import check_gradients, check_spec
from vaekit.testing.quantizers import check_codes_prior, check_quantizer

__all__ = [
    "check_anchored_prior",
    "check_codes_prior",
    "check_gradients",
    "check_latent",
    "check_likelihood",
    "check_model",
    "check_objective",
    "check_part",
    "check_penalty",
    "check_posterior",
    "check_prior",
    "check_quantizer",
    "check_spec",
]
