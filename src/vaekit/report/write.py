"""`write_report`: all sections of a run, computed and written as one file."""

from collections.abc import Iterator
from pathlib import Path

import torch

from vaekit.data import Dataset
from vaekit.errors import UserError
from vaekit.evaluation.passes import seeded
from vaekit.output import Batch
from vaekit.report.about import about
from vaekit.report.advice import advise
from vaekit.report.content import Notices, Prose, Section
from vaekit.report.course import curves
from vaekit.report.figures import headline, likelihood
from vaekit.report.measure import drawn_astray, measure
from vaekit.report.page import page
from vaekit.report.plane import plane
from vaekit.report.quality import notices, quality
from vaekit.report.shown import reconstructions, samples
from vaekit.report.use import use, walks
from vaekit.run import Run
from vaekit.saving import save_text

NAME = "report.html"
IMAGES, QUICK_IMAGES = 2000, 400
"""Validation images that are looked at."""


def write_report(run: Run, data: Dataset, *, images: int | None = None, quick: bool = False) -> Path:
    """Writes `report.html` in the run's folder, one file that loads nothing from outside, and returns its path.

    What was trained on what, curves, samples, reconstructions with error maps, the use of the latent, traversals, maps of the codes, likelihood with
    error bars, sample measures where `quality.json` has them, and what to do next. The same run and data give the same file on the same device.

    Args:
        data: what the run was trained on, or other data of the same form; its validation split is looked at.
        images: how many validation images, 2,000 (quick: 400) if not given.
        quick: fewer images, samples and traversals, for the end of a training.

    Raises:
        UserError: for a run without a model, and fewer than 2 images.
    """
    count = min(images or (QUICK_IMAGES if quick else IMAGES), data.size("validation"))
    if count < 2 or (images is not None and images < 2):
        raise UserError("A report looks at 2 or more validation images: raise --images, or name data with a larger validation split.")
    model, rows, description = run.model, run.metrics(), run.description

    def batches() -> Iterator[Batch]:
        return data.batches("validation", 100, count)

    with seeded(model.device, 0), torch.no_grad():
        measured = None if model.encoder is None else measure(model, data.spec, batches, samples=16 if quick else 64, weighed=100 if quick else 500)
        same = data.fingerprint == description["data"]["fingerprint"]
        found = advise(
            description, rows, data.notes, same, model.likelihood.kind, data.spec.levels, measured, drawn_astray(model, data), notices(run)
        )
        sections = [
            Section("In short", (headline(run, measured), Notices(tuple(found)))),
            about(run, data),
            curves(run),
            samples(model, data, quick=quick),
        ]
        if measured is None:
            sections.append(Section("Codes", (Prose("This model has no encoder and only generates: it has no codes of images, and no likelihood."),)))
        else:
            sections += [
                reconstructions(model, data, measured),
                use(measured.latent),
                walks(run, data, count, quick=quick),
                plane(measured, data.spec),
                likelihood(run, data.spec, measured),
            ]
        sections.append(quality(run))
    title = f"{description['options']['recipe']} on {description['data']['name']}"
    path = run.path / NAME
    save_text(path, page(title, sections, f"{run.path.name} · vaekit {description['versions']['vaekit']} · {count:,} validation images"))
    return path
