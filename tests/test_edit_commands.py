"""The commands of `vaekit edit`, as one types them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vaekit
from tests.test_traverse import call
from vaekit import editing
from vaekit.data import open_data
from vaekit.latents.support import supports


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    options = ["--recipe", "mlp", "--scale", "0.25", "--latent", "8", "--precision", "fp32", "--beta", "0.2", "--epochs", "6", "--lr", "0.005"]
    assert call("train", "digits", *options, "--no-report", "--out", out) == 0
    return out


def told(capfd: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capfd.readouterr().out)


def test_a_path_along_a_fitted_prior(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    assert call("fit-prior", run, "--prior", "gmm", "--epochs", "0.1", "--quiet") == 0, capfd.readouterr().err
    capfd.readouterr()
    least = {}
    for prior in (None, "gmm", "own"):
        chosen = [] if prior is None else ["--prior", prior]
        assert call("edit", "interpolate", run, "test:0", "test:1", "--how", "density", *chosen, "--out", tmp_path / "p.png", "--json") == 0
        least[prior] = told(capfd)["least_log_p_nats"]
    assert least[None] == least["gmm"] != least["own"]
    assert call("edit", "interpolate", run, "test:0", "test:1", "--prior", "flow") == 2
    assert "there are own, gmm" in capfd.readouterr().err


def test_the_commands(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: object) -> dict:
        assert call("edit", arguments[0], trained, *arguments[1:], "--json") == 0, capfd.readouterr().err
        return told(capfd)

    capfd.readouterr()
    picture = tmp_path / "p.png"
    said = run("interpolate", "test:0", "test:1", "--how", "density", "--out", tmp_path / "p.gif")
    assert said["how"] == "density" and said["least_log_p_nats"] <= said["least_log_p_of_ends_nats"] and (tmp_path / "p.gif").exists()
    said = run("traverse", "test:0", "--principal", 2, "--out", picture)
    assert len(said["share_of_variance"]) == 2 and said["share_of_variance"][0] >= said["share_of_variance"][1]
    assert run("traverse", "test:0", "--dim", 1, "--dim", 3, "--out", picture)["dimensions"] == [1, 3]
    said = run("attribute", "test:0", "--to", "0", "--from", "1", "--strengths", "0,1,2", "--out", picture)
    assert [row["strength"] for row in said["strengths"]] == [0.0, 1.0, 2.0] and said["attribute"] == "0"
    hits = [row["hit"] for row in said["strengths"]]
    assert hits[0] < 0.2 and hits[2] > 0.8 and said["strengths"][0]["judge_accuracy"] > 0.9
    with Image.open(picture) as shown_:
        assert shown_.width > 3.5 * (shown_.height - 16), "the image and three strengths in one row"
    said = run("attribute", "test:0", "--to", "0", "--apart", "6", "--how", "logistic", "--hide", "0,0,8,4", "--feather", 1, "--out", picture)
    assert all(row["outside_same"] for row in said["strengths"]) and "kept_6" in said["strengths"][0] and "6" in said["cosines"]
    assert len(run("arithmetic", "test:0", "test:1", "test:2", "--out", picture)) == 4
    said = run("arithmetic", "test:0", "test:1", "test:2", "--hide", "0,0,8,4", "--out", picture)
    assert said["outside_same"] and said["change_outside"] == 0 and said["change_inside"] > said["change_from_c"] > 0
    assert call("edit", "traverse", trained, "test:0", "--dim", 1, "--feather", 1) == 2
    assert "name one with --mask or --hide" in capfd.readouterr().err
    said = run("inpaint", "test:0", "test:3", "--hide", "2,2,4,4", "-n", 2, "--steps", 5, "--out", picture)
    assert said["outside_same"] and said["how"] == "chains" and said["change_inside"] > 0
    # From files: an image of the run's data is the same as its file.
    x = open_data("digits").batch("test", torch.arange(4)).x
    folders: Sequence[Path] = (tmp_path / "yes", tmp_path / "no")
    for i, image in enumerate(x):
        folders[i % 2].mkdir(exist_ok=True)
        Image.fromarray((image[0].numpy().astype(float) * 255 / 16).round().astype(np.uint8)).save(folders[i % 2] / f"{i}.png")
    said = run("attribute", folders[0] / "0.png", "--yes", folders[0], "--no", folders[1], "--strengths", "1", "--out", picture)
    assert said["examples"] == [2, 2] and said["measured_on"] == "these images" and "hit" not in said["strengths"][0]
    Image.fromarray(np.pad(np.full((4, 8), 255, np.uint8), ((0, 4), (0, 0)))).save(tmp_path / "mask.png")
    args = ("inpaint", trained, folders[0] / "0.png", "--mask", tmp_path / "mask.png", "--how", "weighted", "--samples", 20, "--out", picture)
    assert call("edit", *args) == 0
    assert "outside_same True" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("names", "owner"),
    [
        (("interpolate", "test:0", "test:1", "--steps", 3), "test:0"),
        (("traverse", "test:0", "--dim", 1, "--steps", 3), "test:0"),
        (("traverse", "test:0", "--dim", 1, "--dim", 2, "--steps", 3), "test:0"),
        (("arithmetic", "test:0", "test:1", "test:2"), "test:2"),
    ],
)
def test_a_command_keeps_the_rest(names: tuple, owner: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []
    monkeypatch.setattr(editing, "save_strip", lambda out, images, *_: drawn.append(images))
    for part in ((), ("--hide", "0,0,8,4")):
        assert call("edit", names[0], trained, *names[1:], *part) == 0
    free, held = (images[:, -1] if names[0] == "arithmetic" else images[:, 1:-1] for images in drawn)
    original = open_data("digits").batch("test", torch.tensor([int(owner.partition(":")[2])])).x[0].float()
    outside, inside = (..., slice(4, 8), slice(None)), (..., slice(0, 4), slice(None))
    assert torch.equal(held[outside], original[outside].expand_as(held[outside])) and not torch.equal(free[outside], held[outside])
    assert torch.equal(held[inside], free[inside])
    assert call("edit", names[0], trained, *names[1:], "--hide", "0,0,8,4", "--feather", 1) == 0
    soft = drawn[-1][:, -1] if names[0] == "arithmetic" else drawn[-1][:, 1:-1]
    edge, further = (..., slice(3, 4), slice(None)), (..., slice(0, 3), slice(None))
    assert torch.allclose(soft[edge], (free[edge] + original[edge]) / 2) and torch.equal(soft[further], free[further])


def test_one_image_is_traversed_at_a_time(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for i in range(2):
        Image.fromarray(np.full((8, 8), 100 * i, np.uint8)).save(tmp_path / f"{i}.png")
    assert call("edit", "traverse", trained, tmp_path, "--dim", 1) == 2
    assert "has 2: name a file" in capfd.readouterr().err


def test_what_the_prior_alone_knows(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A model that was told nothing and a prior that was told the class: answers for a hidden part are of the class that is named."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    hidden = (
        "edit",
        "inpaint",
        run,
        "test:0",
        "--hide",
        "0,0,8,7",
        "--how",
        "weighted",
        "--samples",
        64,
        "-n",
        40,
        "--json",
        "--out",
        tmp_path / "p.png",
    )
    assert call(*hidden, "--class", 3) == 2 and "not trained with a condition" in capfd.readouterr().err
    assert call("edit", "traverse", run, "test:0", "--dim", 0, "--class", 3) == 2 and "not trained with a condition" in capfd.readouterr().err
    assert call("fit-prior", run, "--prior", "gmm", "--condition", "class", "--epochs", 0.1, "--quiet") == 0
    capfd.readouterr()
    spread = {}
    for name in (None, "0", "1"):
        assert call(*hidden, *(() if name is None else ("--class", name))) == 0, capfd.readouterr().err
        spread[name] = told(capfd)["deviation_between_answers"]
    assert len(set(spread.values())) == 3
    assert spread["0"] < spread[None], "all kinds of digits differ more than one kind does"
    assert call("edit", "traverse", run, "test:0", "--dim", 0, "--class", 3) == 2, "the model itself was told nothing"


def test_rows_bring_their_attributes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run, picture = tmp_path / "shapes", tmp_path / "p.png"
    options = ("--size", 16, "--recipe", "mlp", "--condition", "attributes", "--epochs", 0.5, "--precision", "fp32", "--no-report")
    assert call("train", "shapes:100", *options, "--out", run) == 0
    assert call("edit", "traverse", run, "test:0", "--dim", 0, "--out", picture) == 0, capfd.readouterr().err


def test_layers_are_mixed_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    run, picture = tmp_path / "ladder", tmp_path / "mix.png"
    assert (
        call("train", "digits", "--recipe", "ladder", "--scale", "0.25", "--epochs", "0.2", "--precision", "fp32", "--no-report", "--out", run) == 0
    )
    capfd.readouterr()
    assert call("edit", "mix", run, "test:0", "test:1", "--json", "--out", picture) == 0
    layers = len(supports(vaekit.load(run).model.latent))
    assert [row["coarse_layers"] for row in told(capfd)["layers"]] == list(range(layers + 1)) and layers > 1
    with Image.open(picture) as shown_:
        assert shown_.width > (layers + 2) * (shown_.height - 16), "both ends, and a mix for each number of layers"
    drawn: list[Tensor] = []
    monkeypatch.setattr(editing, "save_strip", lambda out, images, *_: drawn.append(images[0]))
    assert call("edit", "mix", run, "test:0", "test:1", "--hide", "0,0,8,4") == 0
    below = drawn[0][1:-1, :, 4:]
    assert torch.equal(below, open_data("digits").batch("test", torch.tensor([0])).x[0, :, 4:].float().expand_as(below))


def test_the_data_may_have_moved(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    about = json.loads((run / "run.json").read_text())
    about["data"]["source"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(about))
    arguments = ("edit", "traverse", run, "test:0", "--principal", 2, "--out", tmp_path / "p.png")
    assert call(*arguments) == 2 and "is gone: name where they are now" in capfd.readouterr().err
    assert call(*arguments, "--data", "digits") == 0 and (tmp_path / "p.png").exists()


def test_what_the_commands_refuse(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    for arguments, message in (
        (("interpolate", trained, "test:0", "test:9999"), "test:0 to test:"),
        (("interpolate", trained, "test:0", "test:1", "--how", "wavy"), "not 'wavy'"),
        (("traverse", trained, "test:0"), "in one way"),
        (("attribute", trained, "test:0"), "in one way"),
        (("attribute", trained, "test:0", "--to", "0", "--strengths", "high"), "takes numbers"),
        (("attribute", trained, "test:0", "--to", "0", "--hide", "0,0,9,4"), "does not lie within"),
        (("mix", trained, "test:0", "test:1"), "this model has one layer"),
        (("inpaint", trained, "test:0"), "in one way"),
        (("inpaint", trained, "test:0", "--hide", "corner"), "--hide is x,y,width,height"),
        (("inpaint", trained, "test:0", "--mask", tmp_path / "black.png"), "black everywhere"),
    ):
        assert call("edit", *arguments) == 2, arguments
        assert message in capfd.readouterr().err, arguments
