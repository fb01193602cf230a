"""What stands out in a run, in plain words, with the option to change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vaekit.evaluation import mean_and_se
from vaekit.evaluation.latent import collapse_warning
from vaekit.report.content import Notice
from vaekit.report.measure import Measured
from vaekit.report.svg import number

FALL = 0.05
"""The validation falls when it ends this share of its whole gain below its best."""
RISE = 0.02
"""It still rises when the last tenth of the run brought more than this share of the gain."""
SKIPPED = 0.01
"""Share of steps that may be skipped."""
TOKENIZERS = ("tokenizer-kl", "tokenizer-vq")
"""Recipes whose likelihood is what it is: their output is the mean itself."""
FEW = 300
"""Validation images below which figures are coarse."""


@dataclass(frozen=True)
class Course:
    """The validation figure of a run, which is better when it is larger: the ELBO, or -distortion where there is no bound."""

    epochs: tuple[float, ...]
    validation: tuple[float, ...]
    training: tuple[float | None, ...]

    @staticmethod
    def of(rows: Sequence[dict[str, Any]]) -> "Course":
        """The course in the lines of `metrics.jsonl`."""
        bounded = any(row.get("val_elbo_nats") is not None for row in rows)
        name, sign = ("elbo_nats", 1.0) if bounded else ("distortion_nats", -1.0)
        kept = [row for row in rows if row.get(f"val_{name}") is not None]
        training = [row.get(f"train_{name}") for row in kept]
        return Course(
            tuple(float(row["epoch"]) for row in kept),
            tuple(sign * row[f"val_{name}"] for row in kept),
            tuple(None if value is None else sign * value for value in training),
        )

    @property
    def best(self) -> int:
        """The place of the best validation."""
        return max(range(len(self.validation)), key=lambda i: self.validation[i])

    @property
    def gain(self) -> float:
        """From the first validation to the best one."""
        return self.validation[self.best] - self.validation[0]


def advise(
    description: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    notes: Sequence[str],
    same_data: bool,
    kind: str,
    levels: int | None,
    measured: Measured | None,
    astray: str | None = None,
    of_samples: Sequence[Notice] = (),
) -> list[Notice]:
    """All notices of a run, the warnings first; one that says so if there is no warning.

    Args:
        description, rows: `run.json` and `metrics.jsonl`.
        notes: of the data set.
        same_data: whether the images are those of the training.
        kind: of the likelihood ("pmf", "density", "bound", "energy").
        levels: of the pixels; None for floats.
        measured: None for a model that only generates.
        astray: what is wrong with the codes of new images.
        of_samples: what stands out in their measures.
    """
    found = [*_training(description, rows), *_data(notes, same_data)]
    if measured is not None:
        found += [*_course(Course.of(rows), description), *_latent(measured)]
        found += [] if astray is None else [Notice("hint", astray)]
        found += [*_likelihood(kind, levels, measured, description.get("options", {}).get("recipe", "")), *_coarse(measured)]
    found += of_samples
    warnings = [notice for notice in found if notice.level == "warning"]
    fine = [] if warnings else [Notice("fine", "Nothing went wrong that this report looks for.")]
    return [*fine, *warnings, *(notice for notice in found if notice.level != "warning")]


def _training(description: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[Notice]:
    found = []
    if not description.get("finished"):
        found.append(Notice("warning", "The run is not finished: give its training command again, and it goes on where it stopped."))
    skipped = description.get("skipped_steps") or (rows[-1].get("skipped_steps", 0) if rows else 0)
    if skipped:
        steps = rows[-1]["images"] / description["plan"]["batch_size"] if rows else skipped
        share = min(skipped / max(steps, 1), 1.0)
        text = f"{skipped} steps ({100 * share:.2g} %) were skipped, since their gradient was too large or not finite"
        if share > SKIPPED:
            found.append(Notice("warning", f"{text}: try a smaller --lr, --clip 100, or a higher --skip if the recipe has one."))
        else:
            found.append(Notice("hint", f"{text}: so few do no harm."))
    rollbacks = description.get("rollbacks") or 0
    if rollbacks:
        found.append(
            Notice(
                "warning",
                f"Training diverged {rollbacks} time{'s' * (rollbacks > 1)} and went back to a checkpoint with half the learning rate: start with a "
                "smaller --lr, with --precision fp32, and look for extreme values in the data.",
            )
        )
    return found


def _course(course: Course, description: dict[str, Any]) -> list[Notice]:
    if len(course.validation) < 3:
        return [Notice("hint", "The run has fewer than three validations, too few to say whether it learned enough: give it more --epochs.")]
    best, last, gain = course.best, len(course.validation) - 1, course.gain
    if gain <= 0:
        return [
            Notice("warning", "The validation never got better than it was at first: try a smaller --lr, and look at the data with `vaekit data`.")
        ]
    fall = course.validation[best] - course.validation[last]
    first, final = course.training[best], course.training[last]
    kept = "the last weights are kept" if description.get("select") == "last" else "the best weights are kept"
    at = f"epoch {course.epochs[best]:g} of {course.epochs[last]:g}"
    if fall > FALL * gain and first is not None and final is not None and final > first:
        return [
            Notice(
                "warning",
                f"Overfitting: since {at} the validation fell by {number(fall, 3)} nats while training rose by {number(final - first, 3)} "
                f"({kept}). More images help most; else --augment (whatever leaves your images what they are), --weight-decay 0.1, a smaller "
                "--scale, or fewer --epochs.",
            )
        ]
    if fall > FALL * gain:
        return [
            Notice(
                "warning",
                f"The validation fell by {number(fall, 3)} nats since {at}, and training did not rise ({kept}): the objective may be after something "
                "else than the ELBO (beta, a penalty); if not, try a smaller --lr or --schedule cosine.",
            )
        ]
    reached = next(i for i, value in enumerate(course.validation) if value > course.validation[best] - 0.005 * gain)
    if course.epochs[reached] < 0.6 * course.epochs[last]:
        return [
            Notice(
                "hint",
                f"At epoch {course.epochs[reached]:g} of {course.epochs[last]:g} it was as good as at the end: --epochs "
                f"{max(1, round(course.epochs[reached] * 1.2))} would do, or a larger --scale would use the time better.",
            )
        ]
    earlier = max(i for i in range(last) if course.epochs[i] <= 0.9 * course.epochs[last] or i == 0)
    late = course.validation[last] - course.validation[earlier]
    if late > RISE * gain:
        return [
            Notice(
                "hint",
                f"It was still improving at the end (by {number(late, 3)} nats since epoch {course.epochs[earlier]:g}): more --epochs, or --minutes, "
                "make it better.",
            )
        ]
    return []


def _latent(measured: Measured) -> list[Notice]:
    latent = measured.latent
    collapse = collapse_warning(latent)
    if collapse is not None:
        return [Notice("warning", collapse)]
    active, dimensions = latent.active_units, latent.latent_dim
    if len(latent.layers) != 1 or active is None or not latent.layers[0].stochastic:
        return []
    if active < 0.5 * dimensions:
        return [
            Notice(
                "hint",
                f"{active} of {dimensions} latent dimensions are in use: the others are switched off and do no harm. If reconstructions miss detail, "
                "try --warmup 0.3, --free-bits 0.1 or --beta 0.5; else a smaller --latent does the same.",
            )
        ]
    rates = latent.rate_per_dim
    if active == dimensions and rates is not None and len(rates) == dimensions and float(rates.min()) > 0.5:
        return [Notice("hint", f"All {dimensions} latent dimensions are full (at least {float(rates.min()):.2f} nats each): try a larger --latent.")]
    return []


def _likelihood(kind: str, levels: int | None, measured: Measured, recipe: str) -> list[Notice]:
    if not measured.bound.bounded:
        return [Notice("hint", "The code of an image is a point: there is a distortion, but no ELBO and no rate to compare with other models.")]
    if kind not in ("density", "energy"):
        return []
    name = "bernoulli" if levels == 2 else "logistic"
    fixed = levels is None or recipe in TOKENIZERS
    cure = "" if fixed else f" --likelihood {name} is a probability of the pixels' whole numbers, and has them."
    what = "a density" if kind == "density" else "an energy without its normalizing constant"
    return [Notice("hint", f"The likelihood is {what} and no probability of whole numbers: there are no bits per dimension.{cure}")]


def _data(notes: Sequence[str], same_data: bool) -> list[Notice]:
    found = []
    if not same_data:
        found.append(
            Notice("warning", "The data are not those that the run was trained on (another fingerprint): images of its training may be among these.")
        )
    for note in notes:
        if "cannot be read" in note or "cannot be unpacked" in note:
            found.append(Notice("warning", f"{note} `vaekit data` lists them all."))
        elif "exact copies" in note:
            found.append(Notice("hint", f"{note} They weigh more than others: remove them if that is not meant."))
    return found


def _coarse(measured: Measured) -> list[Notice]:
    n = len(measured.bound)
    if n >= FEW:
        return []
    se = mean_and_se(measured.bound.distortion)[1]
    known = "" if se is None else f" (the distortion is known to ± {number(1.96 * se, 2)} nats)"
    return [Notice("hint", f"The figures come from only {n} images{known}: differences between runs that are smaller mean nothing.")]
