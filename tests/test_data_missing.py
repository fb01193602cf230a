"""Missing pixels and few labels in the data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from vaekit.cli import main
from vaekit.data import open_data
from vaekit.data.loose import read_holes
from vaekit.errors import UserError
from vaekit.recipes import missing as recipe_module  # noqa: F401 (registers the recipe)
from vaekit.training import Silent
from vaekit.training.task import Task

SPLITS = ("train", "validation", "test")


def images(n: int = 60, h: int = 6, w: int = 7, c: int = 0, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (n, h, w, c) if c else (n, h, w)).astype(np.uint8)


def everything(data: vaekit.Dataset) -> vaekit.Batch:
    """All images in the order of the whole set."""
    parts = [data.batch(s, torch.arange(data.size(s))) for s in SPLITS]
    order = torch.cat([p.index for p in parts]).argsort()
    names = ("x", "mask", "condition", "label", "index")
    joined = [None if getattr(parts[0], k) is None else torch.cat([getattr(p, k) for p in parts])[order] for k in names]
    return vaekit.Batch(*joined)


# ---- a share


def test_a_hidden_share_is_the_same_in_every_pass() -> None:
    x = images(400, 10, 12, 3)
    data = open_data(x, missing=0.3)
    first = data.batch("train", torch.arange(50), seed=1, epoch=0)
    later = data.batch("train", torch.arange(50).flip(0), seed=2, epoch=5)
    assert torch.equal(first.mask, later.mask.flip(0)) and torch.equal(first.x, later.x.flip(0))
    whole = everything(data)
    share = (~whole.mask).float().mean().item()
    assert abs(share - 0.3) < 5 * (0.21 / (400 * 120)) ** 0.5
    assert (whole.mask == whole.mask[:, :1]).all(), "a pixel is hidden in all of its channels"
    assert not torch.equal(whole.mask[0], whole.mask[1]), "each image misses pixels of its own"
    again = everything(open_data(x, missing="0.3"))
    assert torch.equal(whole.mask, again.mask) and torch.equal(whole.x, again.x)


def test_hidden_pixels_are_gone_from_the_batch_and_observed_ones_are_untouched() -> None:
    x = images(200)
    data, raw = open_data(x, missing=0.5), open_data(x)
    batch, plain = everything(data), everything(raw)
    assert torch.equal(batch.x[batch.mask], plain.x[batch.mask]) and plain.mask is None
    hidden = batch.x[~batch.mask]
    assert hidden.unique().numel() == 1 and hidden[0] == round(data.spec.mean[0])
    train = data.index("train")
    seen = batch.mask[train]
    assert data.spec.mean[0] == pytest.approx(plain.x[train][seen].double().mean().item())
    assert data.spec.std[0] == pytest.approx(plain.x[train][seen].double().std(correction=0).item())
    assert torch.equal(data.pixels(torch.arange(5)), raw.pixels(torch.arange(5)))


def test_without_the_option_nothing_changes() -> None:
    x = images()
    plain, again = open_data(x), open_data(x, missing=None, labels=None)
    assert plain.fingerprint == again.fingerprint != open_data(x, missing=0.5).fingerprint
    assert open_data(x, missing=0.5).options["missing"] == 0.5 and plain.options["missing"] is None
    assert plain.batch("train", torch.arange(3)).mask is None


def test_binary_images_with_holes() -> None:
    x = images()
    data, plain = open_data(x, binarize=True, missing=0.4), open_data(x, binarize=True)
    for split in SPLITS:
        a, b = (d.batch(split, torch.arange(d.size(split)), seed=3, epoch=2) for d in (data, plain))
        assert torch.equal(a.x[a.mask], b.x[b.mask if b.mask is not None else a.mask]), "the bits of observed pixels are the same"
        assert a.x[~a.mask].unique().numel() == 1 and a.x.dtype == b.x.dtype
    assert data.spec.levels == 2


def test_the_mask_moves_with_its_image() -> None:
    x = images(80, 12, 12)
    data, plain = open_data(x, missing=0.3), open_data(x)
    a = data.batch("train", torch.arange(40), augment="flip,crop", seed=1, position=7)
    b = plain.batch("train", torch.arange(40), augment="flip,crop", seed=1, position=7)
    still = data.batch("train", torch.arange(40))
    assert torch.equal(a.x[a.mask], b.x[a.mask]) and not torch.equal(a.mask, still.mask)
    assert abs(a.mask.float().mean() - still.mask.float().mean()) < 0.03
    # What was hidden stays hidden: each observed value of a flipped image was observed before.
    flipped = data.batch("train", torch.arange(40), augment="flip", seed=1, position=7)
    for mask, before in zip(flipped.mask, still.mask, strict=True):
        assert torch.equal(mask, before) or torch.equal(mask, before.flip(-1))
    turned = data.batch("train", torch.arange(40), augment="rotate,colour", seed=1, position=7)
    assert 0 < turned.mask.float().mean() < still.mask.float().mean(), "a value mixed with a missing one is not observed"


@pytest.mark.parametrize("bad", [0, 1, -0.5, 1.5, "half", "0"])
def test_a_share_is_between_0_and_1(bad: object) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        open_data(images(), missing=bad)


# ---- NaN


def test_nan_is_missing() -> None:
    x = np.random.RandomState(0).randn(60, 3, 6, 7).astype(np.float32) + np.array([0, 5, -5], np.float32)[:, None, None]
    holes = np.random.RandomState(1).rand(*x.shape) < 0.2
    data = open_data(torch.from_numpy(np.where(holes, np.nan, x)), missing="nan")
    batch = everything(data)
    assert torch.equal(batch.mask, torch.from_numpy(~holes)) and torch.isfinite(batch.x).all()
    assert torch.equal(batch.x[batch.mask], torch.from_numpy(x)[batch.mask]) and data.spec.levels is None
    train = data.index("train").numpy()
    for c in range(3):
        seen = x[train, c][~holes[train, c]]
        assert data.spec.mean[c] == pytest.approx(seen.mean(), abs=1e-4) and data.spec.std[c] == pytest.approx(seen.std(), rel=1e-4)
        assert (batch.x[:, c][~batch.mask[:, c]] - data.spec.mean[c]).abs().max() < 1e-6
    assert any("NaN" in n for n in data.notes) and any("% of the values" in n for n in data.notes)
    grey = open_data(torch.from_numpy(np.where(holes, np.nan, x)), missing="nan", channels=1, limit=30)
    assert grey.spec.shape == (1, 6, 7)
    assert everything(grey).mask.shape == (30, 1, 6, 7)
    assert everything(grey).mask.float().mean() == pytest.approx(0.8**3, abs=0.05)


def test_nan_in_pixels_and_only_where_it_is_asked_for() -> None:
    x = images(40).astype(np.float64) / 255
    x[:, 2, 3] = np.nan
    data = open_data(x, missing="nan")
    assert data.spec.levels == 256 and data.pixels(torch.arange(2)).dtype == torch.uint8
    assert not everything(data).mask[:, 0, 2, 3].any() and everything(data).mask.float().mean() == pytest.approx(41 / 42)
    with pytest.raises(UserError, match="--missing nan"):
        open_data(x)
    with pytest.raises(UserError, match="NaN"):
        open_data(x, missing=0.5)
    x[0, 0, 0] = np.inf
    with pytest.raises(UserError, match="infinite"):
        open_data(x, missing="nan")
    with pytest.raises(UserError, match="nothing but NaN"):
        open_data(np.full((20, 4, 4), np.nan), missing="nan")
    with pytest.raises(UserError, match="only floating-point"):
        open_data(images(), missing="nan")
    with pytest.raises(UserError, match="only floating-point"):
        open_data("digits", missing="nan")


def test_a_channel_without_values() -> None:
    x = np.random.RandomState(0).randn(30, 3, 5, 5)
    x[:, 1] = np.nan
    with pytest.raises(UserError, match="missing everywhere"):
        open_data(torch.from_numpy(x), missing="nan")


def test_holes_do_not_bleed_when_images_are_made_smaller() -> None:
    x = np.full((30, 16, 16), 7.5, np.float32) + np.random.RandomState(0).randn(30, 1, 1).astype(np.float32)
    level = x[:, 0, 0].copy()
    x[:, :8, :8] = np.nan
    batch = everything(open_data(x, missing="nan", size=8))
    assert batch.x.shape == (30, 1, 8, 8)
    for image, mask, value in zip(batch.x, batch.mask, level, strict=True):
        assert (image[mask] - value).abs().max() < 1e-4, "an observed value is made of observed values"
        assert not mask[0, :4, :4].any() and mask[0, 4:, :].all() and mask[0, :, 4:].all()
    padded = everything(open_data(x, missing="nan", size=(8, 12), fit="pad"))
    assert not padded.mask[:, :, :, :2].any() and not padded.mask[:, :, :, -2:].any(), "a border is missing"


# ---- transparency


def transparent(folder: Path, n: int = 30, grey: bool = False) -> np.ndarray:
    """RGBA files whose left third is clear, over random colours."""
    rng = np.random.RandomState(0)
    values = rng.randint(0, 256, (n, 6, 9, 4)).astype(np.uint8)
    if grey:
        values[..., :3] = values[..., :1]
    values[..., 3] = 255
    values[:, :, :3, 3] = 0
    folder.mkdir(parents=True, exist_ok=True)
    for i, v in enumerate(values):
        Image.fromarray(v).save(folder / f"{i:03d}.png")
    return values


@pytest.mark.parametrize("grey", [False, True])
def test_transparent_pixels_are_missing(tmp_path: Path, grey: bool) -> None:
    values = transparent(tmp_path / "a", grey=grey)
    data = open_data(tmp_path / "a", missing="alpha")
    c = 1 if grey else 3
    assert data.spec.shape == (c, 6, 9) and data.options["channels"] == c and data.spec.levels == 256
    batch = everything(data)
    assert not batch.mask[..., :3].any() and batch.mask[..., 3:].all()
    truth = torch.from_numpy(values).permute(0, 3, 1, 2)[:, :c]
    assert torch.equal(batch.x[..., 3:], truth[..., 3:])
    assert any("transparent" in n for n in data.notes)
    again = open_data(tmp_path / "a", missing="alpha", channels=c, size=(6, 9))
    assert again.fingerprint == data.fingerprint
    limited = open_data(tmp_path / "a", missing="alpha", limit=10)
    assert everything(limited).mask.shape == (10, c, 6, 9) and not everything(limited).mask[..., :3].any()


def test_transparency_in_arrays() -> None:
    x = images(40, 6, 7, 4)
    data = open_data(x, missing="alpha")
    batch = everything(data)
    seen = torch.from_numpy(x[..., 3] >= 128)
    assert data.spec.shape == (3, 6, 7) and torch.equal(batch.mask, seen[:, None].expand(-1, 3, -1, -1))
    assert torch.equal(batch.x[batch.mask], torch.from_numpy(x[..., :3]).permute(0, 3, 1, 2)[batch.mask])
    assert open_data(x, missing="alpha", channels=1).spec.shape == (1, 6, 7)


def test_alpha_that_is_not_there(tmp_path: Path) -> None:
    transparent(tmp_path / "clear")
    for i, v in enumerate(images(10, c=3)):
        (tmp_path / "opaque").mkdir(exist_ok=True)
        Image.fromarray(v).save(tmp_path / "opaque" / f"{i}.png")
    with pytest.raises(UserError, match="in none of these is a pixel transparent"):
        open_data(tmp_path / "opaque", missing="alpha")
    with pytest.raises(UserError, match="alpha channel"):
        open_data(images(), missing="alpha")
    with pytest.raises(UserError, match="drops the alpha channel"):
        open_data(tmp_path / "clear", missing="alpha", channels=4)


# ---- labels


def labelled(n: int = 300, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    return images(n), np.random.RandomState(1).randint(0, classes, n)


def test_few_labels_are_shared_out_evenly_and_shown_in_training_alone() -> None:
    x, y = labelled()
    data = open_data((x, y), labels=22)
    train = data.batch("train", torch.arange(data.size("train")))
    kept = train.label >= 0
    assert kept.sum() == 22 and torch.bincount(train.label[kept]).tolist() == [6, 6, 5, 5]
    assert torch.equal(train.label[kept], torch.from_numpy(y)[train.index[kept]])
    for split in ("validation", "test"):
        b = data.batch(split, torch.arange(data.size(split)))
        assert torch.equal(b.label, torch.from_numpy(y)[b.index])
    assert torch.equal(data.labels, torch.from_numpy(y).long()) and any("22 of" in n for n in data.notes)
    assert data.fingerprint != open_data((x, y)).fingerprint and data.options["labels"] == 22


def test_which_labels_are_kept_is_told_by_the_content() -> None:
    x, y = labelled()
    order = np.random.RandomState(5).permutation(len(x))
    kept = []
    for a, b in ((x, y), (x[order], y[order])):
        data = open_data((a, b), labels=20)
        train = data.batch("train", torch.arange(data.size("train")))
        kept.append({row.numpy().tobytes() for row in train.x[train.label >= 0]})
    assert kept[0] == kept[1] and len(kept[0]) == 20


def test_a_small_class_gives_what_it_has() -> None:
    x = images(200)
    y = np.zeros(200, int)
    y[::40] = 1
    data = open_data((x, y), labels=60)
    shown = data.batch("train", torch.arange(data.size("train"))).label
    rare = int((data.labels[data.index("train")] == 1).sum())
    assert (shown == 1).sum() == rare and (shown == 0).sum() == 60 - rare


def test_errors_of_labels() -> None:
    x, y = labelled()
    for bad, match in ((1000, "more than the"), (3, "at least 4"), (0, "at least 1"), ("few", "at least 1"), (2.5, "at least 1")):
        with pytest.raises(UserError, match=match):
            open_data((x, y), labels=bad)
    with pytest.raises(UserError, match="needs classes"):
        open_data(x, labels=10)
    with pytest.raises(UserError, match="choose one of the two"):
        open_data((x, y), labels=20, condition="class")


@pytest.mark.parametrize("name", ["unlabeled", "Unlabelled"])
@pytest.mark.parametrize("split", [False, True])
def test_a_folder_of_unlabelled_images_is_no_class(tmp_path: Path, name: str, split: bool) -> None:
    for i, v in enumerate(images(90)):
        place = tmp_path / ("train" if split and i < 60 else "test" if split else "") / ("cat", "dog")[i % 2] if i < 70 else tmp_path / name
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(v).save(place / f"{i:03d}.png")
    data = open_data(tmp_path)
    assert data.spec.classes == ("cat", "dog") and data.official == split
    assert (data.labels == -1).sum() == 20 and (data.labels >= 0).sum() == 70
    if split:
        assert data.size("test") == 10 and data.size("train") + data.size("validation") == 80
    with pytest.raises(UserError, match="have no class"):
        open_data(tmp_path, condition="class")
    few = open_data(tmp_path, labels=8)
    assert (few.batch("train", torch.arange(few.size("train"))).label >= 0).sum() == 8


# ---- loose images with holes


def test_loose_images(tmp_path: Path) -> None:
    values = transparent(tmp_path / "a")
    data = open_data(tmp_path / "a", missing="alpha")
    paths = sorted((tmp_path / "a").glob("*.png"))[:3]
    x, seen = read_holes(paths, data.spec, data.options, alpha=True)
    assert not seen[..., :3].any() and seen[..., 3:].all()
    assert torch.equal(x[..., 3:], torch.from_numpy(values[:3, :, 3:, :3]).permute(0, 3, 1, 2))
    _, boxed = read_holes(paths, data.spec, data.options, box="1,2,3,4")
    assert (~boxed).sum() == 3 * 3 * 12 and not boxed[:, :, 2:6, 1:4].any()
    hole = np.zeros((6, 9), np.uint8)
    hole[4:, :2] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    _, masked = read_holes(paths, data.spec, data.options, mask=tmp_path / "mask.png")
    assert torch.equal(masked[0, 0], torch.from_numpy(hole == 0)) and masked.shape == x.shape
    for how, match in (
        ({}, "three ways"),
        ({"alpha": True, "box": "0,0,1,1"}, "three ways"),
        ({"box": "0,0,1,7"}, "does not lie within"),
        ({"box": "a"}, "--box is"),
        ({"mask": tmp_path / "none.png"}, "cannot be read"),
    ):
        with pytest.raises(UserError, match=match):
            read_holes(paths, data.spec, data.options, **how)


# ---- runs


def test_a_run_with_holes_is_resumed_evaluated_and_fills_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder of half-transparent images to a picture of answers; a stopped run is the same run."""
    transparent(tmp_path / "a", 40, grey=True)
    common = ["train", str(tmp_path / "a"), "--recipe", "missing", "--missing", "alpha", "--epochs", "3", "--precision", "fp32", "--no-report"]
    small = ["--scale", "0.1", "--latent", "2", "--batch-size", "8", "--save-seconds", "0"]
    _main([*common, *small, "--out", str(tmp_path / "whole")])
    forward, calls = Task.forward, [0]

    class Killed(Exception):
        pass

    def dying(self: object, b: vaekit.Batch) -> object:
        calls[0] += 1
        if calls[0] == 6:
            raise Killed
        return forward(self, b)

    monkeypatch.setattr(Task, "forward", dying)
    with pytest.raises(SystemExit):
        _main([*common, *small, "--out", str(tmp_path / "stopped")])
    monkeypatch.setattr(Task, "forward", forward)
    _main([*common, *small, "--out", str(tmp_path / "stopped")])
    one, two = (vaekit.load(tmp_path / name).model.state_dict() for name in ("whole", "stopped"))
    assert all(torch.equal(one[k], two[k]) for k in one)
    run = vaekit.load(tmp_path / "whole")
    figures = vaekit.api.evaluate(run, samples=2, split="all")
    assert figures["observed_fraction"] == pytest.approx(2 / 3) and "observed" in figures["units"]
    assert vaekit.reopen(run).fingerprint == run.description["data"]["fingerprint"]
    with pytest.raises(SystemExit):
        _main([*common, *small, "--missing", "0.5", "--out", str(tmp_path / "whole")])
    assert "--missing" in capsys.readouterr().err
    picture, files = tmp_path / "answers.png", [str(tmp_path / "a" / f"00{i}.png") for i in range(2)]
    _main(["impute", str(tmp_path / "whole"), *files, "-n", "3", "-o", str(picture), "--json"])
    assert '"answers": 3' in capsys.readouterr().out
    with Image.open(picture) as shown:
        assert shown.width > shown.height
    with pytest.raises(SystemExit):
        _main(["impute", str(tmp_path / "whole"), str(tmp_path / "a" / "000.png"), "--box", "0,0,99,1"])
    assert "does not lie within" in capsys.readouterr().err


def _main(arguments: list[str]) -> None:
    """The command line without leaving, unless it fails."""
    try:
        main(arguments)
    except SystemExit as end:
        if end.code:
            raise


def test_any_recipe_trains_on_images_with_holes() -> None:
    run = vaekit.fit("tutorial", images(50, 8, 8), missing=0.5, epochs=1, scale=0.1, watcher=Silent())
    assert run.history["val_elbo_nats"][-1] is not None


def test_what_is_scored_is_counted() -> None:
    """Of a pixel whose channels are scored together, none is where one is missing."""
    from vaekit.evaluation.observed import observed_fraction
    from vaekit.likelihoods import Gaussian, Mixture

    mask = torch.ones(2, 3, 4, 5, dtype=torch.bool)
    mask[0, 1, :2] = False
    batch = vaekit.Batch(torch.zeros(2, 3, 4, 5), mask)
    assert observed_fraction([batch], Gaussian.joint) == pytest.approx(110 / 120)
    assert observed_fraction([batch], Mixture.joint) == pytest.approx(90 / 120)
