"""Codes in files are those of the model, row by row, and say whose they are."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from tests.contracts.examples import raw, scrambled, spec_of
from vaekit.cli import main
from vaekit.errors import UserError
from vaekit.export import write_codes
from vaekit.recipes import build_recipe


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures in two folders, which are their classes."""
    place = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for kind in "ab":
        (place / kind).mkdir()
        for i in range(20):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(place / kind / f"{i}.png")
    return place


def test_codes_stand_by_their_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = vaekit.fit("mlp", str(folder), scale=0.05, latent=3, epochs=0.5, precision="fp32", out=tmp_path / "run")
    assert command("encode", str(run.path), str(tmp_path / "codes"), "--json") == 0
    about = json.loads(capsys.readouterr().out)
    assert about == json.loads((tmp_path / "codes" / "codes.json").read_text()) and sum(about["splits"].values()) == 40
    data = vaekit.reopen(run)
    for split, count in about["splits"].items():
        z, rows, labels = (np.load(tmp_path / "codes" / split / f"{name}.npy", mmap_mode="r") for name in ("z", "rows", "labels"))
        names = json.loads((tmp_path / "codes" / split / "names.json").read_text())
        assert z.shape == (count, 3) and z.dtype == np.float32 and len(names) == count
        with torch.no_grad():
            expected = run.model.encode(vaekit.Batch(data.pixels(torch.tensor(rows))))[0]
        assert np.allclose(z, expected.numpy(), atol=1e-5)
        assert [name.split("/")[0] for name in names] == ["ab"[label] for label in labels]
        shown = np.stack([np.asarray(Image.open(folder / name)) for name in names])
        assert np.array_equal(shown, data.pixels(torch.tensor(rows))[:, 0].numpy()), "the file of each row is the image that was encoded"
    first = np.load(tmp_path / "codes" / "train" / "z.npy")
    assert about["arrays"]["z"] == {"shape": [3], "dtype": "float32", "mean": pytest.approx(first.mean()), "std": pytest.approx(first.std())}
    assert command("encode", str(run.path), str(tmp_path / "codes")) == 2 and "exists" in capsys.readouterr().err
    assert command("encode", str(run.path), str(tmp_path / "new"), "--split", "some") == 2 and "A split is" in capsys.readouterr().err
    assert command("encode", str(run.path), str(tmp_path / "test"), "--split", "test", "--sample") == 0
    assert "standard deviation" in capsys.readouterr().out and not (tmp_path / "test" / "train").exists()
    drawn = np.load(tmp_path / "test" / "test" / "z.npy")
    assert drawn.shape == (about["splits"]["test"], 3) and not np.allclose(drawn, np.load(tmp_path / "codes" / "test" / "z.npy"), atol=1e-3)


@pytest.mark.parametrize("name", ["ladder", "vq"])
def test_layers_and_indices(name: str, tmp_path: Path) -> None:
    """One file for each layer; indices are whole numbers, which have no mean."""
    model, data = build_recipe(name, spec_of([1, 8, 8]), scale=0.25).model, vaekit.open_data(raw(300, [1, 8, 8]))
    with torch.no_grad():
        scrambled(model.encoder)
        scrambled(model.latent)
    about = write_codes(model, data, tmp_path / "codes", splits=("train",))
    code = model.encode(data.batch("train", torch.arange(data.size("train"))))
    names = [f"z{i}" for i in range(len(code))] if name == "ladder" else ["z"]
    assert list(about["arrays"]) == names and not (tmp_path / "codes" / "train" / "names.json").exists()
    for key, z in zip(names, code, strict=True):
        file = np.load(tmp_path / "codes" / "train" / f"{key}.npy")
        assert file.shape == (data.size("train"), *about["arrays"][key]["shape"])
        if name == "vq":
            assert file.dtype == np.int64 and np.array_equal(file, z.numpy()) and "mean" not in about["arrays"][key]
        else:
            assert np.allclose(file, z.numpy(), atol=1e-4) and file.std() > 1e-3


def test_a_model_without_an_encoder_is_refused(tmp_path: Path) -> None:
    model = build_recipe("gan", spec_of([1, 8, 8]), scale=0.25).model
    with pytest.raises(UserError, match="no encoder"):
        write_codes(model, vaekit.open_data(raw(40, [1, 8, 8])), tmp_path / "codes")
    assert not (tmp_path / "codes").exists()


def test_nothing_is_left_of_what_failed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = vaekit.fit("mlp", str(folder), scale=0.05, latent=3, epochs=0.1, precision="fp32")
    with pytest.raises(UserError, match="precision"):
        vaekit.encode(run, tmp_path / "codes", precision="fp16")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="The disk is full: nothing was written"):
        patch.setattr("vaekit.export.codes.Array.append", full)
        vaekit.encode(run, tmp_path / "codes")
    assert list(tmp_path.iterdir()) == []
    assert vaekit.encode(run, tmp_path / "codes", str(folder / "a"))["splits"] and (tmp_path / "codes" / "train" / "z.npy").exists()


def test_odd_names_and_hidden_labels(tmp_path: Path) -> None:
    """A name that is no text keeps its bytes; a label that training is not shown is not told."""
    rng = np.random.default_rng(1)
    for kind in "ab":
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "pictures" / kind / f"{i}.png")
    odd = os.fsencode(tmp_path / "pictures" / "a") + b"/caf\xe9.png"
    os.rename(os.fsencode(tmp_path / "pictures" / "a" / "0.png"), odd)
    data = vaekit.open_data(str(tmp_path / "pictures"), labels=4)
    model = build_recipe("mlp", data.spec, scale=0.05, latent=3).model
    write_codes(model, data, tmp_path / "codes")
    names = [name for split in ("train", "validation", "test") for name in json.loads((tmp_path / "codes" / split / "names.json").read_text())]
    assert os.fsencode("a/") + b"caf\xe9.png" in [os.fsencode(name) for name in names] and len(names) == 40
    labels = np.load(tmp_path / "codes" / "train" / "labels.npy")
    assert (labels >= 0).sum() == 4 and (labels < 0).any()
