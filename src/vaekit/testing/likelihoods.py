"""The contract of likelihoods."""

import torch
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.likelihoods import Likelihood


def check_likelihood(likelihood: Likelihood, data: DataSpec, x: Tensor) -> None:
    """Shapes, ranges, and gradients; a pmf with independent channels sums to 1 over its levels; none of ordered pixels hears of those after it.

    Args:
        x: a few raw images [B,C,H,W] of `data`.
    """
    channels, height, width = data.shape
    params = torch.randn(len(x), likelihood.channels(channels), height, width, requires_grad=True)
    px = likelihood(params)
    target = likelihood.target(x)
    log_px = px.log_prob(target)
    assert log_px.shape in {(len(x), channels, height, width), (len(x), 1, height, width)}
    assert torch.isfinite(log_px).all()
    (gradient,) = torch.autograd.grad(log_px.sum(), params, retain_graph=True)
    assert torch.isfinite(gradient).all()
    for name in ("mean", "mode"):
        value = getattr(px, name)
        assert value.shape == x.shape, f"The {name} has the shape {tuple(value.shape)}, and the images {tuple(x.shape)}."
        if data.levels is not None:
            assert (value >= 0).all() and (value <= data.levels - 1).all(), f"The {name} leaves the range of the pixels."
    assert px.sample().shape == x.shape
    assert likelihood.input(x).dtype == torch.float32 and likelihood.input(x).abs().max() < 100
    if likelihood.kind == "pmf":
        assert (log_px <= 1e-6).all(), "A probability is above 1."
        if getattr(px, "ordered", False):
            middle = (height // 2, width // 2)
            changed = target.clone()
            changed[:, :, *middle] = likelihood.target(x).amax() - changed[:, :, *middle]
            before = torch.arange(height * width).view(height, width) < middle[0] * width + middle[1]
            assert torch.equal(px.log_prob(changed)[:, :, before], log_px[:, :, before]), "A pixel knows of one that comes after it."
        elif log_px.shape[1] == channels and data.levels is not None:
            total = torch.stack([px.log_prob(torch.full_like(target, v)) for v in range(data.levels)]).logsumexp(0)
            assert total.abs().max() < 1e-4, "The probabilities of the levels do not sum to 1."
