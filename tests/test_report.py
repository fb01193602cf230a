"""Whole reports: what they say of every kind of model, and that the page is well-formed and alone."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import vaekit
from tests.contracts.examples import vae
from tests.report_page import Page, read
from vaekit import api
from vaekit.cli import main
from vaekit.data import Dataset, open_data
from vaekit.errors import UserError
from vaekit.report import write_report
from vaekit.report.about import repeat
from vaekit.report.content import Charts
from vaekit.report.course import curves
from vaekit.report.page import page
from vaekit.report.quality import notices, quality
from vaekit.run import Run
from vaekit.training import Silent


def digits(folder: Path | None, recipe: str, **options: object) -> tuple[Run, Dataset]:
    """A tiny run; without a folder, in one that is deleted at the end, and without pictures beside it."""
    data = open_data("digits", limit=300, **{k: options.pop(k) for k in ("binarize", "condition", "labels", "missing") if k in options})
    run = api.fit(recipe, data, out=folder, watcher=Silent(), epochs=1, batch_size=64, precision="fp32", **options)
    return run, data


def command(*words: str) -> None:
    """Runs a command that ends well."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code == 0


# ---- every kind of run

KINDS = {
    "tutorial": ({"binarize": True, "latent": 4}, ["Rate of each dimension", "Traversals", "bits per dimension", "dimension "]),
    "ladder": ({"scale": 0.25, "condition": "class"}, ["Rate of each layer", "layers kept", "the columns are its classes"]),
    "vq-ema": ({"scale": 0.25}, ["Use of the codebook", "one of countably many", "A traversal needs one real code"]),
    "rae-l2": ({"scale": 0.25, "binarize": True}, ["a point has no rate", "no ELBO and no rate"]),
    "semi-supervised": ({"scale": 0.25, "labels": 40}, ["names the class of", "layer 2"]),
}


@pytest.mark.parametrize("recipe", KINDS)
def test_every_kind_of_model_has_a_report(recipe: str) -> None:
    options, says = KINDS[recipe]
    run, data = digits(None, recipe, **options)
    path = write_report(run, data, quick=True)
    assert path == run.path / "report.html"
    parsed = read(path)
    expected = [
        "What was trained",
        "Curves",
        "Samples",
        "Reconstructions",
        "Use of the latent",
        "Map of the codes",
        "Likelihood",
        "Quality of samples",
    ]
    for words in [*expected, *says, recipe, "Principal components", "t-SNE", "Not measured yet", "fewer than three validations"]:
        assert words in parsed.text, words
    assert vaekit.recipes.RECIPES[recipe].url in parsed.links
    assert ("bits per dimension, ELBO" in parsed.text) == (run.model.likelihood.kind == "pmf" and recipe != "rae-l2")
    if recipe == "tutorial":
        content = path.read_bytes()
        write_report(run, data, quick=True)
        assert path.read_bytes() == content, "the same run and data give the same file"


def test_a_critic_has_a_curve_of_its_own() -> None:
    run, _ = digits(None, "factor", scale=0.25, knobs={"nets": "mlp"})
    (section,) = [block for block in curves(run).blocks if isinstance(block, Charts)]
    drawn = "".join(str(chart) for chart in section.charts)
    assert "critic_code" in run.history and "Loss of the critic" in drawn


def test_a_gan_has_no_curves_of_codes() -> None:
    run, _ = digits(None, "gan", scale=0.1)
    (section,) = [block for block in curves(run).blocks if isinstance(block, Charts)]
    drawn = "".join(str(chart) for chart in section.charts)
    assert "Loss of the critic" in drawn and "ELBO" not in drawn and "Active" not in drawn


def test_colour_floats_with_holes_from_an_array() -> None:
    x = np.random.default_rng(0).normal(size=(80, 6, 5, 3)).astype(np.float32)
    x[:, :2, :2] = np.nan
    data = open_data(x, missing="nan")
    run = api.fit("tutorial", data, watcher=Silent(), epochs=1, latent=2, precision="fp32")
    parsed = read(write_report(run, data, quick=True))
    for words in ("no command repeats it", "Missing pixels have no error", "floating-point values", "not coloured", "no bits per dimension"):
        assert words in parsed.text, words
    assert "--likelihood logistic" not in parsed.text, "floats have no likelihood of whole numbers"


def test_a_model_without_an_encoder_and_one_with_two_dimensions() -> None:
    run, data = digits(None, "tutorial", latent=2, binarize=True)
    assert "No latent dimension is used" in read(write_report(run, data, quick=True, images=9)).text, "after one epoch"
    run.model.latent.posterior.head.weight.data *= 30
    text = read(write_report(run, data, quick=True, images=9)).text
    assert "The plane of the two dimensions" in text and re.search(r"dimension [01], [\d.]+ nats", text)
    run.model.encoder = None
    parsed = read(write_report(run, data, quick=True))
    assert "no encoder and only generates" in parsed.text and "likelihood" not in parsed.anchors and "samples" in parsed.anchors


# ---- the command that repeats a run, and the command that reports it


def test_the_command_repeats_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "run")
    options = shlex.split("--recipe beta --limit 120 --scale 0.25 --binarize --beta 2.5 --epochs 2 --lr 0.004 --seed 3 --clip 150 --precision fp32")
    command("train", "digits", *options, "--out", folder)
    told = repeat(Run(folder))
    assert told is not None and told.startswith("vaekit train digits --recipe beta")
    before = (tmp_path / "run" / "run.json").read_text()
    capsys.readouterr()
    command(*shlex.split(told)[1:], "--out", folder)
    assert "is finished: nothing to do" in capsys.readouterr().err
    assert (tmp_path / "run" / "run.json").read_text() == before
    for wanted in ("--clip 150", "--beta 2.5", "--lr 0.004", "--seed 3", "--binarize", "--limit 120"):
        assert wanted in told
    assert "--optimizer" not in told, "what is the recipe's own is left out"
    description = json.loads(before)
    # The recipe of now has another network than the run's.
    (tmp_path / "run" / "run.json").write_text(json.dumps(description | {"parameters": description["parameters"] - 1}))
    assert repeat(Run(folder)) is None
    # A model made by hand has no command.
    description["options"]["recipe"] = "custom"
    (tmp_path / "run" / "run.json").write_text(json.dumps(description))
    assert repeat(Run(folder)) is None


def test_the_command_line_writes_it_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = digits(tmp_path / "run", "tutorial", binarize=True, latent=3)
    command("report", str(run.path), "--quick", "--images", "12", "--json")
    told = json.loads(capsys.readouterr().out)
    assert Path(told["report"]).stat().st_size == told["bytes"]
    assert "12 validation images" in read(Path(told["report"])).text and "of the sharpness" not in read(Path(told["report"])).text
    measures = {"sharpness": {"value": 0.2, "floor": 1.0, "better": "near 1", "space": "pixels"}}
    measured = {"measures": measures, "prior": None, "images": 60, "compared": "means", "data": "digits", "floor": "others"}
    (run.path / "quality.json").write_text(json.dumps(measured))
    command("report", str(run.path), "--quick", "--images", "12")
    assert "New images have 20 % of the sharpness of real ones" in read(Path(told["report"])).text
    with pytest.raises(SystemExit):
        main(["report", str(run.path), "--images", "1"])
    assert "2 or more validation images" in capsys.readouterr().err
    with pytest.raises(UserError, match="is not a run"):
        write_report(Run(tmp_path), open_data("digits"))


# ---- sample measures


def test_the_quality_of_samples(tmp_path: Path) -> None:
    run = Run(tmp_path / "a run")
    run.describe(prior=None)
    section = quality(run)
    text = page("t", [section], "")
    assert "Not measured yet" in text and "vaekit quality &#x27;" in text
    row = {"value": 12.345678, "error": 0.5, "floor": 1.5, "floor_error": None, "space": "laplacian", "better": "lower"}
    figures = {
        "measures": {"frechet_distance": row},
        "images": 1000,
        "compared": "means beside test images",
        "data": "digits",
        "floor": "other images",
    }
    (run.path / "quality.json").write_text(json.dumps(figures | {"notes": ["A note."]}))
    words = Page(page("t", [quality(run)], "")).text
    assert "frechet distance 12.35 ± 0.5 1.5 lower laplacian" in words.replace("  ", " ") and "A note." in words
    run.describe(prior={"kind": "gmm"})
    assert "Measured before the prior was fitted" in Page(page("t", [quality(run)], "")).text
    run.describe(prior=None)
    for broken in ("{", "[]", "{}"):
        (run.path / "quality.json").write_text(broken)
        assert "is damaged" in Page(page("t", [quality(run)], "")).text


def test_what_stands_out_in_the_measures_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path / "run")
    run.describe(prior=None)
    monkeypatch.setattr(Run, "model", vae())
    assert notices(run) == []
    fine = {"memorization": (0.04, 0.01), "coverage": (0.6, 0.97), "sharpness": (0.8, 1.0)}
    bad = {"memorization": (0.4, 0.01), "coverage": (0.3, 0.97), "sharpness": (0.3, 1.0)}
    for values, said in ((fine, 0), (bad, 3)):
        measures = {name: {"value": value, "floor": floor} for name, (value, floor) in values.items()}
        (run.path / "quality.json").write_text(json.dumps({"measures": measures, "prior": None}))
        assert len(notices(run)) == said
    text = " ".join(notice.text for notice in notices(run))
    for sentence in ("40 % of new images lie nearer", "near 30 % of the real ones", "Try `vaekit fit-prior`", "30 % of the sharpness"):
        assert sentence in text
    assert "--pixels draw" in text
    (run.path / "quality.json").write_text(json.dumps({"measures": measures, "prior": None, "pixels": "draw"}))
    assert "--pixels draw" not in " ".join(notice.text for notice in notices(run))
    run.describe(prior={"kind": "gmm"})  # they were of other samples
    assert notices(run) == []
    (run.path / "quality.json").write_text("{")
    assert notices(run) == []
