"""A quantizer and a prior of its indices as one latent: its rate is what the codes cost."""

import copy
import math

import pytest
import torch

from tests.contracts.examples import scrambled
from vaekit.errors import UserError
from vaekit.evaluation.latent import LatentStatistics
from vaekit.latents.discrete import Discrete
from vaekit.latents.priors.codes import CodePrior, UniformCodes
from vaekit.latents.quantizers import EMAVectorQuantizer, ResidualQuantizer, VectorQuantizer
from vaekit.testing import check_latent


def test_the_latent_is_a_bound_whose_rate_is_the_cost_of_the_codes() -> None:
    latent = Discrete(VectorQuantizer(8, 5), scrambled(CodePrior([1, 2, 3], 5, hidden=8, layers=1)))
    h = torch.randn(6, 8, 2, 3, requires_grad=True)
    _, (term,) = latent.infer(h)
    assert term.bounded and term.codebook == 5 and term.z.dtype == torch.long and term.q is None
    assert torch.allclose(term.rate(), -latent.prior().log_prob(term.z)) and (term.log_q == 0).all()
    gradients = torch.autograd.grad(term.rate().sum(), [h, *latent.quantizer.parameters(), *latent.prior.parameters()], allow_unused=True)
    assert all(g is None for g in gradients[:2]), "the rate reaches the prior alone"
    assert all(g is not None for g in gradients[2:])


@pytest.mark.parametrize("prior", [UniformCodes([1, 2, 3], 5), CodePrior([1, 2, 3], 5, hidden=8)], ids=lambda p: type(p).__name__)
def test_the_latent_keeps_its_contract(prior: UniformCodes | CodePrior) -> None:
    latent = Discrete(EMAVectorQuantizer(8, 5), prior)
    h = 3 + 2 * torch.randn(6, 8, 2, 3)
    check_latent(latent, h)
    latent.initialize(h)
    check_latent(latent, h)
    _, (term,) = latent.infer(h)
    assert term.z.unique().numel() == 5
    before = copy.deepcopy(latent.quantizer)
    latent.post_step({f"0.{k}": v for k, v in term.stats.items()})
    after = latent.quantizer
    assert after.steps == before.steps + 1
    assert torch.allclose(after.usage, before.usage) and torch.allclose(after.errors, before.errors), "k-means starts the averages where they stay"
    assert latent.prior_codes(4).shape == (4, 1, 2, 3)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(UserError, match="256 values"):
        Discrete(VectorQuantizer(8, 5), UniformCodes([1, 2, 2], 256))
    with pytest.raises(UserError, match="one size"):
        ResidualQuantizer([VectorQuantizer(4, 5), VectorQuantizer(4, 6)])
    with pytest.raises(UserError, match="whole numbers"):
        Discrete(VectorQuantizer(8, 5), UniformCodes([1], 5)).generate(2, code=(torch.randn(2, 1),))


def test_usage_is_that_of_each_codebook() -> None:
    """Entry 5 of one level and entry 5 of the next are two vectors: a level that has collapsed is not hidden by another."""
    quantizer = ResidualQuantizer([EMAVectorQuantizer(4, 16) for _ in range(2)])
    latent = Discrete(quantizer, UniformCodes([2, 3, 3], 16))
    h = torch.randn(40, 4, 3, 3)
    latent.initialize(h)
    stats = LatentStatistics()
    for some in h.split(10):
        stats.update(latent.infer(some)[1])
    indices = latent.infer(h)[1][0].z
    p = torch.stack([torch.bincount(indices[:, i].flatten(), minlength=16) / indices[:, i].numel() for i in range(2)])
    assert stats.codebook_usage == pytest.approx((p > 0).float().mean().item())
    assert stats.codebook_perplexity == pytest.approx(torch.special.entr(p).sum(1).exp().mean().item(), rel=1e-4)
    assert stats.latent_dim == 18 and stats.active_units is None
    assert stats.rate == pytest.approx(18 * math.log(16), rel=1e-5)
