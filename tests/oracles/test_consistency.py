"""Consistency of an image's code and that of the image moved, against torch's divergence."""

import torch
from torch.distributions import Normal, kl_divergence

from tests.contracts.examples import batch, scrambled, vae
from vaekit.objectives import ELBO
from vaekit.penalties import Consistency
from vaekit.training.task import ANSWERS


def test_consistency_is_the_bound_of_the_moved_image_and_the_divergence() -> None:
    model = scrambled(vae("mlp"))
    x = batch(6)
    out = model(x)
    out.asked["moved"] = moved = ANSWERS["moved"](model, out)
    a, b = out.terms[0].q.base_dist, moved.terms[0].q.base_dist
    kl = kl_divergence(Normal(b.loc, b.scale), Normal(a.loc, a.scale)).sum(1)
    penalty = Consistency(0.3, ELBO(beta=2.0))
    assert torch.allclose(penalty.divergence(out, moved), kl, rtol=1e-4), "KL(q(z|x~) || q(z|x)), in this order"
    assert not torch.allclose(kl, kl_divergence(Normal(a.loc, a.scale), Normal(b.loc, b.scale)).sum(1), rtol=1e-3)
    assert torch.allclose(penalty(out), (moved.distortion + 2 * moved.rate())[0] + 0.3 * kl, rtol=1e-5)
    out.asked["moved"] = out
    assert torch.allclose(Consistency(5.0)(out), (out.distortion + out.rate())[0], rtol=1e-6), "an image that did not move costs its own bound"
