"""DIP-VAE: the covariance of the codes against numpy."""

import math

import numpy as np
import pytest
import torch

from tests.oracles.codes import of_codes
from vaekit.errors import UserError
from vaekit.penalties import DIP


def test_dip_covariance_centred_over_the_latent_axis() -> None:
    """C is what numpy says of the means over the batch."""
    mean, std = torch.randn(50, 4) * torch.tensor([1.0, 2.0, 0.1, 1.0]) + torch.arange(4.0), torch.rand(50, 4) + 0.1
    cov = np.cov(mean.numpy().T)
    off = (cov**2).sum() - (cov.diagonal() ** 2).sum()
    expected = 3 * off + 7 * ((cov.diagonal() - 1) ** 2).sum()
    assert DIP("I", 3.0, 7.0)(of_codes(mean, std)).item() == pytest.approx(expected, rel=1e-4)
    shifted = of_codes(mean + 100 * torch.randn(4), std)
    assert DIP("I", 3.0, 7.0)(shifted).item() == pytest.approx(expected, rel=1e-2), "a constant is no covariance"


def test_dip_sigma_to_the_fourth() -> None:
    """The second kind adds the mean variance, sigma^2: means and codes of total variance 1 cost nothing on the diagonal."""
    torch.manual_seed(1)
    count = 4000
    mean = math.sqrt(0.75) * torch.randn(count, 3)
    q = of_codes(mean, torch.full((count, 3), 0.5))
    sample = np.cov(torch.randn(40, count, 3).mul(0.5).add(mean).flatten(0, 1).numpy().T)
    kind = DIP("II", 1.0, 1.0)
    assert np.allclose(kind.covariance_of(q.terms[0].q, count).numpy(), sample, atol=0.01)
    assert kind(q).item() < 0.02
    with pytest.raises(UserError, match="I and II"):
        DIP("III")
