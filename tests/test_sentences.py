"""What is said where something cannot be: before the work rather than after it, and with a cure that works."""

import contextlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import vaekit
from vaekit.cli import main
from vaekit.errors import UserError
from vaekit.part import build
from vaekit.report.advice import _likelihood
from vaekit.report.measure import Measured
from vaekit.training import Silent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    vaekit.fit("mlp", "digits", limit=200, epochs=1, scale=0.05, latent=2, out=out, watcher=Silent(), page=False)
    return out


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("command", ["sample", "quality", "compare"])
def test_a_picture_without_a_place_is_refused_before_the_work(
    run: Path, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def worked(*_: object, **__: object) -> None:
        raise AssertionError("the work was begun")

    monkeypatch.setattr("vaekit.api.load", worked)
    runs = [str(run)] * (2 if command == "compare" else 1)
    message = said(capsys, command, *runs, "--out", str(tmp_path / "near"))
    assert "ends in .png or .jpg" in message and (command != "sample" or "a folder's in /" in message)
    assert list(tmp_path.iterdir()) == []


def test_a_class_of_a_model_without_any_can_be_fitted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"fit one with 'vaekit fit-prior {run} --condition class'" in said(capsys, "sample", str(run), "--class", "3", "--out", "x.png")


def test_what_a_row_of_the_data_is_told_is_its_own(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "have their own" in said(capsys, "traverse", str(run), "--class", "3")


def test_images_that_have_changed_are_named_and_not_an_option(tmp_path: Path) -> None:
    """Sizes, levels and passes that come of the images are not what somebody typed."""
    few = {"epochs": 1, "scale": 0.05, "latent": 2, "out": tmp_path / "run", "watcher": Silent(), "page": False}
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    vaekit.fit("mlp", x, **few)
    with pytest.raises(UserError, match=r"holds a run on other images .or labels., or on these before they were changed: choose another folder"):
        vaekit.fit("mlp", x[:30], **few)
    with pytest.raises(UserError, match=r"or with another --size \(it was \[8, 8\], now \[9, 8\]\)"):
        vaekit.fit("mlp", np.zeros((40, 9, 8), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None], **few)
    with pytest.raises(UserError, match=r"another value of --latent \(it was 2, now 3\)"):
        vaekit.fit("mlp", x[:30], **few | {"latent": 3})


def test_a_part_whose_module_is_not_there() -> None:
    with pytest.raises(UserError, match=r"no_such_module cannot be imported .* PYTHONPATH"):
        build({"part": "no_such_module:Posterior", "arguments": {}})


def test_a_table_that_is_gone(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    table = tmp_path / "t.csv"
    table.write_text("row,age\n" + "".join(f"{i},{i}\n" for i in range(30)))
    run = vaekit.fit("mlp", tmp_path / "x.npy", condition=table, epochs=1, scale=0.05, latent=2, out=tmp_path / "run", watcher=Silent(), page=False)
    table.unlink()
    with pytest.raises(UserError, match="which is gone: put it there again"):
        vaekit.reopen(run)


def test_tokenizers_are_not_advised_another_likelihood() -> None:
    measured = object.__new__(Measured)
    object.__setattr__(measured, "bound", SimpleNamespace(bounded=True))
    assert "--likelihood logistic" in _likelihood("density", 256, measured, "conv")[0].text
    assert "--likelihood" not in _likelihood("density", 256, measured, "tokenizer-kl")[0].text


def test_knobs_are_shown_as_they_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        main(["recipes", "geco"])
    shown = capsys.readouterr().out
    assert "--set target=..." in shown and "None" not in shown


def test_figures_are_printed_where_they_cannot_be_kept(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from vaekit.commands import quality

    monkeypatch.setattr(quality, "measure_samples", lambda *_, **__: {"measures": {}, "notes": []})
    monkeypatch.setattr(quality.os, "access", lambda place, how: how != os.W_OK)
    with contextlib.suppress(SystemExit):
        main(["quality", str(run), "--json"])
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"measures": {}, "notes": []} and "not kept for the report" in shown.err
    assert not (run / "quality.json").exists()


def test_a_picture_can_be_written_where_it_could_be(tmp_path: Path) -> None:
    from vaekit.pictures import writable

    writable(None)
    writable(tmp_path / "new" / "folder" / "x.png")
    Image.new("L", (2, 2)).save(tmp_path / "x.png")
    writable(tmp_path / "x.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.png"]
