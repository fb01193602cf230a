"""How training went: the curves."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vaekit.report import charts
from vaekit.report.content import Block, Chart, Charts, Prose, Section
from vaekit.run import Run

PANELS = (
    ("elbo_nats", "ELBO: a lower bound on log p(x), higher is better", "nats per image", {"settled": True}),
    ("loss_nats", "Loss: what is minimized", "nats per image", {"settled": True}),
    ("rate_nats", "Rate: KL(q(z|x) || p(z)), what the codes carry", "nats per image", {"settled": True}),
    ("distortion_nats", "Distortion: -log p(x|z), what the codes miss", "nats per image", {"settled": True}),
    ("active_units", "Active latent dimensions", "dimensions", {"from_zero": True}),
    ("codebook_perplexity", "Codebook entries in use (perplexity)", "entries", {"from_zero": True}),
    ("beta", "Weight of the rate", "beta", {"from_zero": True}),
    ("lr", "Learning rate", "step size", {"from_zero": True}),
)
SPLITS = {"validation": "val_", "training": "train_", "": ""}


def curves(run: Run) -> Section:
    """One chart for each quantity that the history has."""
    history = run.history
    made: list[Chart] = []
    critics: list[tuple[str, str, str, dict[str, Any]]] = [
        (name, f"Loss of the critic '{name.removeprefix('critic_')}'", "its own", {}) for name in history if name.startswith("critic_")
    ]
    of_codes = {"elbo_nats", "rate_nats", "distortion_nats", "active_units"} if run.model.encoder is None else set()
    for name, title, unit, how in (*PANELS, *critics):
        if name in of_codes:  # of draws of the prior, which say nothing of these images
            continue
        series = {split: points for split, prefix in SPLITS.items() if (points := _points(history, prefix + name)) is not None}
        if len(series) > 1 or "validation" in series or "" in series:
            made.append(charts.lines(title, series, "epochs", unit, **how))
        elif series:
            made.append(charts.lines(f"{title} (training)", series, "epochs", unit, **how))
    blocks: list[Block] = [Charts(tuple(made))] if made else [Prose("There is no validation yet: run the training command again to go on.")]
    if made:
        blocks.append(
            Prose(
                "Training figures are means over the steps since the last validation, while the weights still moved; those of validation are of the "
                "weights at that moment (of their average, where there is one). So validation may look better than training."
            )
        )
    return Section("Curves", tuple(blocks))


def _points(history: Mapping[str, Sequence[Any]], name: str) -> tuple[list[float], list[float]] | None:
    """The epochs and values that are finite numbers."""
    pairs = [
        (float(epoch), float(value))
        for epoch, value in zip(history.get("epoch", ()), history.get(name, ()), strict=name in history)
        if value is not None and math.isfinite(value)
    ]
    return ([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None
