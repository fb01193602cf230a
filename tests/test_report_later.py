"""What a report shows when the run, or what was measured of it, has gone on since."""

import json
from pathlib import Path

import pytest
import torch

import vaekit
from tests.contracts.examples import vae
from tests.report_page import read
from vaekit.finish import _has_plane
from vaekit.latents import DiagonalGaussian
from vaekit.report import shown, write_report
from vaekit.report.advice import Course
from vaekit.report.quality import _figures
from vaekit.training import Interrupted, Silent
from vaekit.training.loop import Trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> vaekit.Run:
    return vaekit.fit("mlp", "digits", epochs=1, scale=0.1, latent=4, out=tmp_path_factory.mktemp("runs") / "run", watcher=Silent(), page=False)


def test_the_hardest_images_are_the_hardest(run: vaekit.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked at in an order of chance, and shown by their place in the split."""
    data = vaekit.reopen(run)
    bands = shown._bands
    titles = []

    def noted(part: vaekit.Batch, *rest: object) -> object:
        titles.append((rest[-2], part))
        return bands(part, *rest)

    monkeypatch.setattr(shown, "_bands", noted)
    write_report(run, data, images=60, quick=True)
    hardest = next(part for title, part in titles if title == "The hardest ones")
    looked = data.positions("validation", 60)[0][1]
    with torch.no_grad():
        torch.manual_seed(0)
        distortion = torch.stack([run.model(data.batch("validation", looked)).distortion[0] for _ in range(8)]).mean(0)
    mine = distortion[[int((data.index("validation")[looked] == i).nonzero()) for i in hardest.index]]
    assert mine.min() > distortion.sort(descending=True).values[: 3 * len(mine)].min() and set(hardest.index.tolist()) <= set(
        data.index("validation")[looked].tolist()
    )


def test_a_report_of_a_part_of_a_run_gives_way_to_that_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"epochs": 2, "scale": 0.05, "latent": 2, "limit": 300, "out": tmp_path / "run", "watcher": Silent(), "save_seconds": 0.0}
    validate = Trainer._validate

    def stopping(self: Trainer) -> None:
        validate(self)
        self._save()
        raise Interrupted("stopped", 15)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Trainer, "_validate", stopping)
        vaekit.fit("mlp", "digits", **options)
    part = vaekit.load(tmp_path / "run")
    assert "The run is not finished" in read(write_report(part, vaekit.reopen(part), quick=True)).text
    whole = vaekit.fit("mlp", "digits", **options)
    assert "The run is not finished" not in read(whole.path / "report.html").text
    (whole.path / "report.html").write_text("mine")
    vaekit.fit("mlp", "digits", **options)
    assert (whole.path / "report.html").read_text() == "mine"


def test_measures_of_a_part_of_a_run_are_not_those_of_the_whole(run: vaekit.Run) -> None:
    place = run.path / "quality.json"
    for finished, shown_ in ((False, False), (True, True)):
        place.write_text(json.dumps({"measures": {}, "finished": finished}))
        assert (_figures(run) is not None) == shown_
    place.unlink()


def test_one_validation_that_is_not_finite_does_not_change_the_figure() -> None:
    rows = [{"epoch": i, "val_elbo_nats": None if i == 1 else -float(i), "val_distortion_nats": 9.0 - i} for i in range(4)]
    assert Course.of(rows).validation == (0.0, -2.0, -3.0)
    assert Course.of([row | {"val_elbo_nats": None} for row in rows]).validation == (-9.0, -8.0, -7.0, -6.0)


def test_only_two_numbers_are_a_plane() -> None:
    """A map of two channels and one place has two numbers as well, and no map of its codes can be drawn."""

    class OfAMap(DiagonalGaussian):
        @property
        def event_shape(self) -> tuple[int, ...]:
            return (2, 1, 1)

    model = vae("mlp", latent=2)
    assert _has_plane(model)
    model.latent.posterior.__class__ = OfAMap
    assert not _has_plane(model)
