"""How likely the model finds images that it was not trained on, and the few figures that say how a run went."""

import math

import torch

from vaekit.data.spec import DataSpec
from vaekit.evaluation import mean_and_se
from vaekit.evaluation.report import OBSERVED, UNITS
from vaekit.report import charts
from vaekit.report.content import Block, Charts, Facts, Prose, Section, Table
from vaekit.report.measure import Measured
from vaekit.run import Run

NORMAL = 1.96
"""Standard errors to each side of a mean that hold 95 % of a normal distribution."""


def likelihood(run: Run, spec: DataSpec, measured: Measured) -> Section:
    """The bounds on log p(x) of the validation images, with error bars."""
    n, kind = len(measured.bound), run.model.likelihood.kind
    distortion = mean_and_se(measured.bound.distortion)
    title = "Likelihood"
    if not measured.bound.bounded:
        return Section(
            title,
            (
                Prose(
                    f"The code of an image is a point here, and a point has no rate: there is no bound on log p(x), only the distortion of {n:,} "
                    "validation images. Recipes with a distribution over codes, as `--recipe conv`, have a bound."
                ),
                Table(("in nats per image", "mean", "standard error"), (("distortion, -log p(x|z)", *_figures(distortion)),)),
            ),
        )
    bound = measured.bound.elbo
    rows = [
        ("ELBO = -(rate + distortion)", f"{n:,}", *_figures(mean_and_se(bound))),
        ("rate, KL(q(z|x) || p(z))" if measured.importance is not None else "rate, -log p(z)", f"{n:,}", *_figures(mean_and_se(measured.bound.rate))),
        ("distortion, -log p(x|z)", f"{n:,}", *_figures(distortion)),
    ]
    shown = [("ELBO", bound)]
    said = "How many nats of log-probability the model gives to validation images. The ELBO is a lower bound on log p(x)"
    if measured.importance is None:
        said += ": the code of an image is one of countably many, chosen without chance, so that more samples would not bring the bound nearer."
    else:
        k, m = measured.samples, len(measured.importance)
        said += (
            f"; the importance-weighted bound averages {k} posterior samples and lies nearer to it. By at least their difference, in nats of KL, "
            "q(z|x) is away from the true posterior: a perfect one would win at least that much."
        )
        # The two on the same images: on others, the second bar would move with the choice of images.
        shown = [("ELBO", bound[:m]), (f"importance-weighted, K = {k}", measured.importance)]
        rows.append((f"importance-weighted bound, K = {k}", f"{m:,}", *_figures(mean_and_se(measured.importance))))
        rows.append(("importance-weighted bound - ELBO", f"{m:,}", *_figures(mean_and_se(measured.importance - bound[:m]))))
    count = len(shown[-1][1])
    bars = [(name, values.mean().item(), NORMAL * (mean_and_se(values)[1] or 0.0)) for name, values in shown]
    where = f"on {'the same ' * (len(shown) > 1)}{count:,} images"
    chart = charts.intervals(f"Bounds {where}", bars, "nats per image, with 95 % intervals of the mean")
    blocks: list[Block] = [Prose(said), Charts((chart,)), Table(("in nats per image", "images", "mean", "standard error"), tuple(rows))]
    if kind == "pmf":
        dimensions = spec.dimensions * (measured.observed or 1.0)
        blocks.append(Facts(tuple((f"bits per dimension, {name}, {where}", f"{-mean / (dimensions * math.log(2)):.4f}") for name, mean, _ in bars)))
    units = UNITS[kind] + ("" if measured.observed is None else OBSERVED)
    blocks.append(
        Prose(
            f"Units: {units}. These are images of the validation split, by which the weights were chosen: for figures to publish, "
            f"`vaekit evaluate {run.path}` takes the test split, all of its images and more samples."
        )
    )
    if measured.accuracy is not None:
        blocks.append(Prose(f"Its own classifier names the class of {100 * measured.accuracy:.2f} % of the validation images."))
    return Section(title, tuple(blocks))


def _figures(value: tuple[float, float | None]) -> tuple[str, str]:
    return f"{value[0]:,.3f}", "-" if value[1] is None else f"{value[1]:.3f}"


def headline(run: Run, measured: Measured | None) -> Facts:
    """The few figures that say how a run went."""
    rows: list[tuple[str, str]] = []
    if measured is not None:
        rows += _measured(measured)
    seconds = run.description.get("seconds")
    if seconds:
        rows.append(("training", f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"))
    return Facts(tuple(rows))


def _measured(measured: Measured) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if measured.bound.bounded:
        mean, se = mean_and_se(measured.bound.elbo)
        rows.append(("ELBO, nats per image", f"{mean:,.2f}" + ("" if se is None else f" ± {NORMAL * se:.2f}")))
        rows.append(("rate, nats", f"{measured.bound.rate.mean().item():,.2f}"))
    rows.append(("distortion, nats", f"{measured.bound.distortion.mean().item():,.2f}"))
    latent = measured.latent
    if latent.codebook_usage is not None:
        rows.append(("codebook in use", f"{100 * latent.codebook_usage:.0f} %"))
    elif latent.active_units is not None:
        rows.append(("active dimensions", f"{latent.active_units:,} of {latent.latent_dim:,}"))
    rows.append(("reconstruction, PSNR", f"{torch.mean(measured.psnr_db).item():.2f} dB"))
    return rows
