"""What a finished run is seen by: its pictures and its report."""

import torch
from PIL.Image import Image

from vaekit import pictures
from vaekit.data import Dataset
from vaekit.evaluation.samples.aggregate import conditions
from vaekit.latents import Flat
from vaekit.model import VAE
from vaekit.report import NAME, write_report
from vaekit.run import Run
from vaekit.training import Watcher
from vaekit.training.order import reproducible
from vaekit.training.tune import reason


def finish(run: Run, dataset: Dataset, page: bool, watcher: Watcher, afresh: bool = False) -> None:
    """The pictures of a run and with `page` its report, where they are not there yet: on a GPU if it was trained on one, and that has the memory.

    Args:
        afresh: the run has been trained just now: a report that is there was of a part of it, and is made anew.
    """
    if afresh and (run.path / NAME).exists():
        (run.path / NAME).unlink()
        page = True
    made = Run(run.path, "auto" if run.description["plan"].get("device", "cpu") != "cpu" else "cpu")
    try:
        _show(made, dataset, page, watcher)
    except RuntimeError as error:  # too little memory has more than one name
        if made.device == run.device:
            raise
        watcher.say(f"The GPU could not make the pictures ({reason(error)}): the processor makes them.")
        _show(run, dataset, page, watcher)


def _show(run: Run, dataset: Dataset, page: bool, watcher: Watcher) -> None:
    illustrate(run, dataset)
    if page and not (run.path / NAME).exists():
        if dataset.size("validation") < 2:
            watcher.say("No report: it looks at 2 or more validation images, and there is only one.")
        else:
            write_report(run, dataset, quick=True)


def new_images(run: Run, dataset: Dataset) -> Image:
    """A grid of 64 new images."""
    condition = conditions(run.model, dataset, dataset.index("validation")[dataset.positions("validation", 64)[0][1]])
    with reproducible("pictures"):
        return pictures.grid(run.model.sample(64, condition=_repeated(condition, 64)), dataset.spec)


def illustrate(run: Run, dataset: Dataset) -> None:
    """Draws `samples.png`, `reconstructions.png` and `curves.png`, and `map.png` of a two-dimensional latent, where they are not there yet."""
    model, spec = run.model, dataset.spec
    batch = next(dataset.batches("validation", 64, 64))
    condition = batch.condition
    with reproducible("pictures"):
        for name, draw in {
            "samples.png": lambda: new_images(run, dataset),
            **(
                {"reconstructions.png": lambda: pictures.reconstructions(batch.x[:32], model.reconstruct(batch[:32]), spec)}
                if model.encoder is not None
                else {}
            ),
            **({"map.png": lambda: pictures.manifold(model, spec, condition=_repeated(condition, 1))} if _has_plane(model) else {}),
        }.items():
            if not (run.path / name).exists():
                pictures.save(run.path / name, draw())
    if not (run.path / "curves.png").exists():
        pictures.curves(run.history, run.path / "curves.png")


def _repeated(condition: torch.Tensor | None, n: int) -> torch.Tensor | None:
    """Attributes must be given to sample; classes take turns by themselves."""
    return None if condition is None or condition.dim() == 1 else condition[torch.arange(n) % len(condition)]


def _has_plane(model: VAE) -> bool:
    """Whether its codes are points of a plane."""
    return isinstance(model.latent, Flat) and model.latent.posterior.support == "reals" and tuple(model.latent.posterior.event_shape) == (2,)
