"""The measures of samples that `vaekit quality` made, where its JSON stands in the run's folder."""

import json
import shlex
from typing import Any

from vaekit.latents.support import UNFITTED, supports
from vaekit.report.content import Block, Command, Notice, Prose, Section, Table
from vaekit.report.svg import number
from vaekit.run import Run

NAME = "quality.json"
COPIED = 0.05
"""Share of samples nearer to a training image than nearly all held-out images are, beyond that of other real images, from which on it is said."""
DROPPED, BLURRED = 0.6, 0.7
"""Coverage and sharpness below these shares of what real images have are said."""
NOTED = ("memorization", "coverage", "sharpness")


def quality(run: Run) -> Section:
    """A line for each measure, with its floor; or the command that makes them."""
    title, path = "Quality of samples", run.path / NAME
    command = Command(f"vaekit quality {shlex.quote(str(run.path))}")
    if not path.exists():
        return Section(title, (Prose("Not measured yet. This compares new images with real ones, and the next report shows it:"), command))
    try:
        figures = _figures(run)
        if figures is None:
            return Section(title, (Prose("Measured before the prior was fitted that samples now come from; this measures them anew:"), command))
        rows = tuple(_row(name, row) for name, row in figures["measures"].items())
        about = f"{figures['images']:,} samples, {figures['compared']} of {figures['data']}. The floor: {figures['floor']}."
    except (ValueError, KeyError, TypeError, AttributeError):
        return Section(title, (Prose(f"{path.name} is damaged, or not what `vaekit quality` writes; this makes it anew:"), command))
    blocks: list[Block] = [Prose(about), Table(("measure", "value", "floor", "better", "space"), rows)]
    blocks += [Prose(str(note)) for note in figures.get("notes", ())]
    return Section(title, tuple(blocks))


def notices(run: Run) -> list[Notice]:
    """What stands out in the measures, where they are of the samples as they are now."""
    try:
        figures = _figures(run)
        measures = {} if figures is None else figures["measures"]
        found = {name: (float(measures[name]["value"]), float(measures[name]["floor"])) for name in NOTED if name in measures}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # the section of the measures says so
    said = []
    if "memorization" in found:
        copies, usual = found["memorization"]
        if copies > usual + COPIED:
            what = f"{100 * copies:.0f} % of new images lie nearer to a training image than nearly all held-out images do"
            why = f"copies, or a blur that is near to everything ({100 * usual:.0f} % of other real images do)"
            cure = "`vaekit quality RUN --out near.png` shows them. More images help most; else --augment, a smaller --scale, or fewer --epochs."
            said.append(Notice("hint", f"{what}: {why}. {cure}"))
    if "coverage" in found:
        covered, full = found["coverage"]
        if covered < DROPPED * full:
            what = f"New images come near {100 * covered:.0f} % of the real ones only (other real images near {100 * full:.0f} %)"
            model = run.model
            fittable = model.sampler is None and model.encoder is not None and supports(model.latent)[0] not in UNFITTED
            cure = "`vaekit fit-prior` first, then a longer training" if fittable else "a longer training, or another --recipe"
            said.append(Notice("hint", f"{what}: kinds are missing, or not drawn well enough. Try {cure}."))
    if "sharpness" in found:
        sharp, usual = found["sharpness"]
        if sharp < BLURRED * usual:
            what = f"New images have {100 * sharp / usual:.0f} % of the sharpness of real ones"
            drawn = figures is not None and figures.get("pixels") == "draw"
            noise = "" if drawn else "draws (--pixels draw) have the noise that the model believes in, and "
            cure = f"{noise}--recipe pixel-vae has the texture"
            said.append(Notice("hint", f"{what}: {cure}."))
    return said


def _figures(run: Run) -> dict[str, Any] | None:
    """What was measured; None where that was of another prior's samples, or before the run was trained to its end.

    Raises what a missing or damaged file raises.
    """
    figures: dict[str, Any] = json.loads((run.path / NAME).read_text(encoding="utf-8"))
    early = run.finished and not figures.get("finished", True)
    return figures if figures.get("prior") == run.description.get("prior") and not early else None


def _row(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    value = _cell(row["value"], row.get("error")) + (f" (p = {row['p_value']:.2g})" if "p_value" in row else "")
    return name.replace("_", " "), value, _cell(row["floor"], row.get("floor_error")), str(row["better"]), str(row["space"])


def _cell(value: float | None, error: float | None) -> str:
    """A figure with its standard error."""
    if value is None:
        return "-"
    return number(value) if error is None else f"{number(value)} ± {number(error, 2)}"
