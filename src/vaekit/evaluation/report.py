"""All figures of a model on a split, as JSON values."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.evaluation.classification import label_accuracy
from vaekit.evaluation.evaluate import evaluate_batches
from vaekit.evaluation.latent import LatentStatistics, collapse_warning
from vaekit.evaluation.likelihood import Bound, iw_bound, mean_and_se
from vaekit.evaluation.observed import observed_fraction
from vaekit.evaluation.passes import Batches, Progress, first
from vaekit.evaluation.reconstruction import reconstruction_scores
from vaekit.likelihoods import LIKELIHOODS, Likelihood
from vaekit.model import VAE

UNITS = {
    "pmf": "nats per image of the raw integer values; bits per dimension = nats / (dimensions ln 2)",
    "density": "nats per image of a density per raw unit (for 8-bit pixels, per grey level): not a probability, so there are no bits per dimension",
    "bound": "nats per image of a lower bound on the probability of the raw integer values",
    "energy": "an energy that is not normalized, in nats per image: compare it with the same likelihood alone",
}
BLIND = "; the codes are drawn from the prior, since there is no encoder: a valid bound, and a very loose one"
OBSERVED = "; only observed values are scored: a bound on log p(x_obs), its bits per observed dimension"
LONGEST = 256
"""Latent dimensions up to which each one's rate is listed."""


def report(
    model: VAE,
    spec: DataSpec,
    batches_factory: Callable[[], Batches],
    *,
    samples: int | None = 64,
    seed: int = 0,
    limit: int | None = None,
    images: int | None = None,
    chunk: int | None = None,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The figures of a model on a split: JSON values, None where there is no figure.

    `elbo_nats` = -(`rate_nats` + `distortion_nats`), and `rate_nats` = `cross_entropy_nats` - `entropy_nats`. Bits per dimension are given only for
    a likelihood that is a probability of integers. `active_units` and `latent_dim` count over all stochastic layers. With missing pixels the bounds
    are on log p(x_obs), and `observed_fraction` of the values are scored. `sharpness` is that of the
    reconstructions beside their images', below 1 for blur. `label_accuracy` is that of a semi-supervised model's own classifier.

    Args:
        batches_factory: starts a pass over the split: there are two, or three with importance samples.
        samples: K of the importance-weighted bound; 0 or None for none.
        limit: only the first images.
        images: how many there are, if it is known, for `progress` alone.
        chunk: how many of the K samples are in memory at once (see `VAE.score`).
        precision: of the networks, see `passes`.
        progress: called with what is done and what there is to do, in images: each counts once for the ELBO, once for the reconstruction and K times
            for the importance samples.
    """
    k = samples or 0
    known = limit if images is None else min(images, limit or images)

    def step(before: int, weight: int, count: int | None) -> Progress | None:
        if progress is None:
            return None
        return lambda done, _: progress(before + weight * done, None if count is None else (2 + k) * count)

    def batches() -> Batches:
        return first(batches_factory(), limit)

    evaluation = evaluate_batches(model, batches(), seed, precision=precision, progress=step(0, 1, known))
    n, bound = len(evaluation.bound), evaluation.bound
    fidelity = weighted = None
    if model.encoder is not None:
        fidelity = reconstruction_scores(model, spec, batches(), precision=precision, progress=step(n, 1, n))
    if k and bound.bounded:
        weighted = iw_bound(model, batches(), k, chunk, seed=seed, precision=precision, progress=step(2 * n, k, n))
    observed = observed_fraction(batches(), model.likelihood.joint)
    return {
        "images": n,
        **_bounds(bound, weighted, k, model.likelihood, spec.dimensions * (observed or 1.0)),
        **_use_of_the_latent(evaluation.latent),
        **{name: None if fidelity is None else _number(getattr(fidelity, name).mean().item()) for name in ("psnr_db", "ssim", "mse")},
        "sharpness": None if fidelity is None else _number(fidelity.sharpness),
        **_meaning(model, observed),
        "observed_fraction": observed,
        "label_accuracy": label_accuracy(model, batches(), precision=precision),
        "warning": collapse_warning(evaluation.latent),
    }


def _bounds(bound: Bound, weighted: Tensor | None, k: int, likelihood: Likelihood, dimensions: float) -> dict[str, Any]:
    """The ELBO and its parts, and the importance-weighted bound of k samples where it was taken."""
    means = bound.means()
    iw = (None, None) if weighted is None else mean_and_se(weighted)
    return {
        **{name: _number(value) for name, value in means.items()},
        "elbo_nats_se": _number(mean_and_se(bound.elbo)[1]) if bound.bounded else None,
        "iw_bound_nats": _number(iw[0]),
        "iw_bound_nats_se": _number(iw[1]),
        "iw_samples": None if weighted is None else k,
        "bits_per_dim": _bits_per_dim(means["elbo_nats"], likelihood, dimensions),
        "iw_bits_per_dim": _bits_per_dim(iw[0], likelihood, dimensions),
    }


def _use_of_the_latent(latent: LatentStatistics) -> dict[str, Any]:
    rates = latent.rate_per_dim
    return {
        "active_units": latent.active_units,
        "codebook_usage": _number(latent.codebook_usage),
        "codebook_perplexity": _number(latent.codebook_perplexity),
        "latent_dim": latent.latent_dim,
        "rate_per_dim_nats": None if rates is None or len(rates) > LONGEST else [_number(rate) for rate in rates.tolist()],
    }


def _meaning(model: VAE, observed: float | None) -> dict[str, str]:
    """What the nats are of."""
    kind = model.likelihood.kind
    return {
        "likelihood": next((name for name, part in LIKELIHOODS.items() if type(model.likelihood) is part), type(model.likelihood).__name__),
        "likelihood_kind": kind,
        "units": UNITS[kind] + ("" if observed is None else OBSERVED) + (BLIND if model.latent.blind else ""),
    }


def _bits_per_dim(nats: float | None, likelihood: Likelihood, dimensions: float) -> float | None:
    return None if nats is None or likelihood.kind != "pmf" else _number(-nats / (dimensions * math.log(2)))


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
