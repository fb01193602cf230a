"""The contract of priors that are mixtures around the posteriors of images."""

import torch
from torch.distributions import Distribution, Independent, Normal

from vaekit.latents.base import AnchoredPrior
from vaekit.testing.parts import agree


def check_anchored_prior(prior: AnchoredPrior, q: Distribution, samples: int = 200_000) -> None:
    """The density integrates to 1 whichever anchors count, the samples have its mean log-probability, and a low temperature narrows them.

    Args:
        q: stands for the posterior of M anchors, within about 1.5 of 0 and of two or three dimensions: it is integrated by importance sampling.
    """
    images = prior.images()
    assert images.x.dim() == 4 and torch.isfinite(images.x.float()).all(), "The images of the prior are [M, C, H, W], and finite."
    for beside in (images.condition, images.index):
        assert beside is None or len(beside) == len(images.x), "There is one condition and one row for each image of the prior."
    anchors, event = q.batch_shape[0], q.event_shape
    with torch.no_grad():
        p = prior(q)
        assert p.batch_shape == () and p.event_shape == event, "Without `same` there is one mixture: batch shape []."
        wide = Independent(Normal(torch.zeros(event), torch.full(event, 2.0)), len(event))
        z = wide.sample((samples,))
        log_wide = wide.log_prob(z)
        log_p = p.log_prob(z)
        agree(torch.tensor(1.0), (log_p - log_wide).exp(), "The integral of the density")
        mine = prior.sample(samples, q)
        assert mine.shape == (samples, *event)
        agree(torch.tensor(0.0), (log_p - log_wide).exp() * log_p - p.log_prob(mine), "The mean log-probability of the prior's samples")
        about = q.mean.mean(0)
        assert (prior.sample(2000, q, temperature=0.01) - about).std() < (mine[:2000] - about).std(), "A low temperature does not narrow the samples."
        # No anchor is left out, one is, all are.
        same = torch.zeros(3, anchors, dtype=torch.bool)
        same[1, 0], same[2] = True, True
        each = prior(q, same)
        assert each.batch_shape in {(), (3,)}
        log_each = each.log_prob(z[:, None].expand(-1, 3, *event) if each.batch_shape else z)
        integrand = (log_each.view(samples, -1) - log_wide[:, None]).exp()
        agree(torch.ones(integrand.shape[1]), integrand, "The integral of the density without an image's own anchor")
        assert torch.allclose(each.log_prob(z[:1].expand(3, *event))[0], p.log_prob(z[0]), atol=1e-4), (
            "Where no anchor is left out, p(z) is the mixture."
        )
