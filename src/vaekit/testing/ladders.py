"""The contract of latents with several stochastic layers, whose decoder takes a dictionary."""

from typing import Any

import torch
from torch import Tensor

from vaekit.latents.base import Features, Latent
from vaekit.model import VAE, evaluating
from vaekit.output import Batch


def check_latent(latent: Latent, h: Features) -> None:
    """`generate` with all codes is what `infer` gave; with the first ones, it keeps them and draws the rest; infer never looks beyond one image.

    Works for flat latents too.

    Args:
        h: the features of a few images, by level or as one tensor.
    """
    with evaluating(latent), torch.no_grad():
        d, terms = latent.infer(h, mean=True)
        n, code = len(terms[0].z), tuple(term.z for term in terms)
        assert same(latent.generate(n, code=code), d), "generate(code) is not what infer handed to the decoder."
        alone, _ = latent.infer(rows(h, slice(0, 1)), mean=True)
        assert same(alone, rows(d, slice(0, 1))), "The code of an image depends on its neighbours in the batch."
        for kept in range(len(code)):
            drawn = latent.generate(n, code=code[:kept])
            assert shapes(drawn) == shapes(d), "A partly drawn code has another shape."
            assert not same(drawn, d), f"With {kept} of {len(code)} codes given, the rest was not drawn."
            torch.manual_seed(0)
            first = latent.generate(n, code=code[:kept], temperature=0.5)
            torch.manual_seed(0)
            assert same(first, latent.generate(n, code=code[:kept], temperature=0.5)), "The same seed gives another draw."
        for term in terms:
            assert term.log_q.shape == term.log_p.shape == (n,), "log q and log p are one number for each image and layer."
            assert term.kl is None or term.kl.shape[0] == n


def rows(x: Any, which: Any) -> Any:
    """These rows of a tensor, or of each tensor of a dictionary."""
    return {k: v[which] for k, v in x.items()} if isinstance(x, dict) else x[which]


def same(a: Any, b: Any, atol: float = 1e-5) -> bool:
    """Whether two tensors, or two dictionaries of tensors, hold the same numbers."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k], atol) for k in a)
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=atol)


def shapes(d: Any) -> Any:
    return {k: tuple(v.shape) for k, v in d.items()} if isinstance(d, dict) else tuple(d.shape)


@torch.no_grad()
def bound_at_the_means(model: VAE, batch: Batch) -> Tensor:
    """distortion + rate [B] with every layer's code at its mean: no noise, so that batches can be compared."""
    with evaluating(model):
        c = model.embed(batch.condition)
        d, terms = model.latent.infer(model._encode(batch, c), anchors=model.anchors(), c=c, mean=True)
        log_px = model.likelihood(model.decoder(d, c)).log_prob(model.likelihood.target(batch.x)).flatten(1).sum(1)
        return torch.stack([term.rate() for term in terms]).sum(0) - log_px
