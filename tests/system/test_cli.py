"""The command line, in process: what is printed, what is written, and what is said when something is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaekit.cli import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            main([str(a) for a in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour pictures of two classes and of mixed sizes, with one broken file."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for name, channel in (("reds", 0), ("blues", 2)):
        (folder / name).mkdir()
        for i in range(30):
            pixels = generator.integers(0, 60, (20 + i % 5, 24, 3), dtype=np.uint8)
            pixels[5:15, 5:15, channel] = 200 + i
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    (folder / "reds" / "broken.png").write_bytes(b"\x89PNG not really")
    return folder


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "photos"
    options = ["--recipe", "tutorial", "--scale", "0.25", "--size", "16x12", "--condition", "class", "--likelihood", "logistic", "--latent", "2"]
    try:
        main(["train", str(photos), "--out", str(out), "--epochs", "3", "--precision", "fp32", *options])
    except SystemExit as stop:
        assert not stop.code
    return out


def test_train_makes_the_run_folder(trained: Path) -> None:
    names = {p.name for p in trained.iterdir()}
    assert names >= {"model.safetensors", "run.json", "metrics.jsonl", "checkpoints", "samples.png", "reconstructions.png", "curves.png", "map.png"}
    assert {p.name for p in (trained / "checkpoints").iterdir()} == {"best.safetensors", "last.safetensors"}
    description = json.loads((trained / "run.json").read_text())
    assert description["options"]["latent"] == 2 and description["plan"]["precision"] == "fp32" and description["finished"]
    for name in ("samples.png", "curves.png"):
        with Image.open(trained / name) as picture:
            assert min(picture.size) > 50


def test_evaluate_prints_one_object(trained: Path, call: Call) -> None:
    code, out, _ = call("evaluate", trained, "--samples", 8, "--json")
    assert code == 0
    figures = json.loads(out)
    expected = [
        "elbo_nats",
        "elbo_nats_se",
        "rate_nats",
        "distortion_nats",
        "iw_bound_nats",
        "iw_bound_nats_se",
        "iw_samples",
        "bits_per_dim",
        "active_units",
        "latent_dim",
    ]
    assert set(expected) | {"psnr_db", "ssim", "sharpness", "images"} <= set(figures)
    assert figures["elbo_nats"] == pytest.approx(-(figures["rate_nats"] + figures["distortion_nats"]))
    assert figures["elbo_nats"] <= figures["iw_bound_nats"] + 0.5 and figures["iw_bound_nats"] <= 0
    assert figures["bits_per_dim"] == pytest.approx(-figures["elbo_nats"] / (3 * 16 * 12 * np.log(2)))
    assert figures["latent_dim"] == 2 and figures["iw_samples"] == 8


def test_evaluate_other_data(trained: Path, photos: Path, tmp_path: Path, call: Call) -> None:
    """All of it; of the run's own images, wherever they are, the test split."""
    shutil.copytree(photos, tmp_path / "moved")
    code, out, err = call("evaluate", trained, tmp_path / "moved", "--samples", 0, "--json")
    assert code == 0 and json.loads(out)["split"] == "test" and json.loads(out)["images"] < 20, err
    Image.new("RGB", (12, 16), (1, 2, 3)).save(tmp_path / "moved" / "reds" / "another.png")
    code, out, err = call("evaluate", trained, tmp_path / "moved", "--samples", 0, "--json")
    assert code == 0, err
    assert json.loads(out)["images"] == 61 and json.loads(out)["iw_bound_nats"] is None


def test_sample(trained: Path, tmp_path: Path, call: Call) -> None:
    assert call("sample", trained, "-n", 6, "--class", "blues", "--out", tmp_path / "grid.png")[0] == 0
    assert call("sample", trained, "-n", 6, "--class", "blues", "--out", tmp_path / "again.png")[0] == 0
    assert call("sample", trained, "-n", 6, "--class", "blues", "--seed", 1, "--out", tmp_path / "other.png")[0] == 0
    grid, again, other = ((tmp_path / f"{n}.png").read_bytes() for n in ("grid", "again", "other"))
    assert grid == again != other
    assert call("sample", trained, "-n", 3, "--pixels", "draw", "--temperature", 0.5, "--out", f"{tmp_path}/images/")[0] == 0
    with Image.open(next((tmp_path / "images").iterdir())) as picture:
        assert picture.size == (12, 16) and len(list((tmp_path / "images").iterdir())) == 3


def test_reconstruct(trained: Path, photos: Path, tmp_path: Path, call: Call) -> None:
    code, out, err = call(
        "reconstruct", trained, photos / "reds" / "1.png", photos / "reds" / "2.png", "--class", "reds", "--out", tmp_path / "r.png"
    )
    assert code == 0 and "2 images" in out, err
    assert (tmp_path / "r.png").exists()


def test_data(photos: Path, call: Call) -> None:
    code, out, _ = call("data", photos)
    assert code == 0 and "broken.png" in out and "reds" in out
    code, out, _ = call("data", photos, "--json")
    report = json.loads(out)
    assert report["images"] == 60 and len(report["unreadable"]) == 1


def test_recipes(call: Call) -> None:
    code, out, _ = call("recipes", "--json")
    rows = json.loads(out)
    assert code == 0 and {"name", "year", "paper", "data"} <= set(rows[0])
    assert {"tutorial", "conv", "resnet"} <= {row["name"] for row in rows}


ERRORS = {
    "no such data": (["train", "nowhere"], "nowhere"),
    "no such recipe": (["train", "digits", "--recipe", "magic"], "tutorial"),
    "no such likelihood": (["train", "digits", "--likelihood", "magic"], "bernoulli"),
    "bernoulli on grey pixels": (["train", "digits", "--likelihood", "bernoulli"], "--binarize"),
    "sigma of a bernoulli": (["train", "digits", "--binarize", "--sigma", "1"], "sigma"),
    "epochs and minutes": (["train", "digits", "--epochs", "1", "--minutes", "1"], "one of them"),
    "negative epochs": (["train", "digits", "--epochs", "-1"], "epochs"),
    "latent of nothing": (["train", "digits", "--latent", "0"], "latent"),
    "no classes": (["train", "{empty}", "--condition", "class"], "{empty}"),
    "precision": (["train", "digits", "--precision", "fp8"], "bf16"),
    "augmentation": (["train", "digits", "--augment", "melt"], "flip"),
    "not a run": (["sample", "{empty}"], "vaekit train"),
    "no run at all": (["evaluate", "nowhere"], "vaekit train"),
    "into a folder that is no run": (["train", "digits", "--out", "{full}"], "--out"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_one_sentence(name: str, call: Call, tmp_path: Path) -> None:
    arguments, hint = ERRORS[name]
    places = {"{empty}": tmp_path / "empty", "{full}": tmp_path / "full"}
    for place in places.values():
        place.mkdir()
    (places["{full}"] / "letter.txt").write_text("dear all")
    arguments = [str(places.get(a, a)) for a in arguments]
    hint = str(places.get(hint, hint))
    if arguments[0] == "train" and "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "run")]
    code, out, err = call(*arguments)
    message = err.split("Error:")[-1]
    assert code == 2 and hint in message and "Traceback" not in err, err
    assert message.strip().count("\n") == 0 and out == ""
    assert not (tmp_path / "run").exists(), "a refused command leaves nothing behind"


def test_what_is_told_is_asked_for(trained: Path, photos: Path, call: Call) -> None:
    image = next((photos / "reds").glob("[0-9]*.png"))
    code, _, error = call("reconstruct", trained, image)
    assert code == 2 and "say it with --class (blues, reds)" in error
    for name in (".DS_Store", "notes.txt"):
        (photos / "blues" / name).write_text("no image")
    code, out, _ = call("reconstruct", trained, photos / "blues", "--class", "blues", "-o", trained / "back.png")
    assert code == 0 and out.startswith("30 images")


def test_attributes(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """A model that is told attributes: a map, samples, and its table found again from another folder."""
    rows = [f"{p.relative_to(photos).as_posix()},{i % 3},{i % 2}" for i, p in enumerate(sorted(photos.rglob("[0-9]*.png")))]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("\n".join(["file,bright,round", *rows]))
    options = ["--recipe", "mlp", "--scale", "0.1", "--size", "8", "--latent", "2", "--epochs", "1", "--condition", "table.csv"]
    assert call("train", photos, "--out", "run", *options)[0] == 0
    run, image = tmp_path / "run", next((photos / "reds").glob("[0-9]*.png"))
    assert {"map.png", "report.html"} <= {p.name for p in run.iterdir()}
    monkeypatch.chdir(photos)
    assert call("sample", run, "-n", "4", "--attributes", "bright=0.5,round=1", "-o", tmp_path / "new.png")[0] == 0
    assert call("reconstruct", run, image, "--attributes", "bright=0.5,round=1", "-o", tmp_path / "back.png")[0] == 0
    assert call("evaluate", run, "--samples", "2")[0] == 0
    for wrong in (["--attributes", "bright=0.5"], ["--class", "0"], []):
        code, _, error = call("sample", run, *wrong)
        assert code == 2 and "--attributes bright=...,round=..." in error


def test_a_file_where_a_folder_should_be(trained: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "file").write_text("")
    for command in (
        ["train", "digits", "--out", tmp_path / "file"],
        ["sample", trained, "-o", tmp_path / "file" / "x.png"],
        ["sample", tmp_path / "file"],
    ):
        code, _, error = call(*command)
        assert code == 2 and "file" in error and "fault" not in error


def test_wrong_numbers_and_names_come_before_the_images(tmp_path: Path, call: Call) -> None:
    for options, sentence in (
        (["--recipe", "vam"], "did you mean vamp?"),
        (["--likelihood", "poisson"], "There is no likelihood 'poisson'"),
        (["--clip", "-1"], "clip is a limit"),
        (["--beta", "-1"], "--beta is a number of at least 0"),
        (["--warmup", "2"], "--warmup is a fraction"),
        (["--lr", "inf"], "lr must be a number above 0"),
        (["--epochs", "inf"], "epochs must be a number above 0"),
    ):
        code, _, error = call("train", tmp_path / "nowhere", *options)
        assert code == 2 and sentence in error
    code, _, error = call("train", tmp_path / "nowhere")
    assert code == 2 and "There is no" in error


def test_a_class_that_does_not_exist(trained: Path, call: Call) -> None:
    code, _, err = call("sample", trained, "--class", "greens")
    assert code == 2 and "reds" in err


def test_debug_shows_the_traceback(call: Call) -> None:
    from vaekit import UserError

    with pytest.raises(UserError):
        call("--debug", "train", "nowhere")
