"""Folders, archives, tables and lists as they come: what is between the lines of a data set, and what a run finds of it later."""

import errno
import io
import os
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from tests.test_data_files import fill
from vaekit.data import open_data, scan
from vaekit.data.archive import unpack
from vaekit.data.arrays import understand_labels
from vaekit.data.decode import fit_image
from vaekit.data.files import list_images
from vaekit.errors import UserError
from vaekit.export.target import target, whole
from vaekit.training import Silent


@pytest.mark.parametrize("side", [28, 44, 52, 56, 60, 100, 224])
def test_every_size_can_be_cropped(side: int) -> None:
    """Rounding made the border of some crops -1e-14 wide, which Pillow refuses: at 44 x 64 that of photos of 600 x 400."""
    for length in range(side, 1000):
        fit_image(Image.new("L", (length, side + 1)), (side, side), "crop", "black")
    for width, height in ((600, 400), (300, 200), (1200, 800), (2400, 1600), (400, 600)):
        fit_image(Image.new("L", (width, height)), (44, 64), "crop", "black")


def test_runs_within_the_data_are_no_data(tmp_path: Path) -> None:
    """As after `cd photos && vaekit train .`."""
    for name in ("cat", "dog"):
        fill(tmp_path / name, 5)
    before = open_data(tmp_path, condition="class")
    run = fill(tmp_path / "runs" / "photos-conv-1", 3)
    (run / "run.json").write_text("{}")
    after = open_data(tmp_path, condition="class")
    assert after.spec.classes == ("cat", "dog") and after.fingerprint == before.fingerprint
    assert any("photos-conv-1 is a run of vaekit" in note for note in after.notes)


def test_links_do_not_take_the_place_of_folders(tmp_path: Path) -> None:
    fill(tmp_path / "d" / "cats", 4)
    fill(tmp_path / "d" / "dogs", 4)
    outside = fill(tmp_path / "elsewhere", 4)
    os.symlink(tmp_path / "d" / "cats", tmp_path / "d" / "best")
    os.symlink(tmp_path / "d", tmp_path / "d" / "again")
    os.symlink(outside, tmp_path / "d" / "mice")
    fill(tmp_path / "d" / ".store" / "rats", 4)
    os.symlink(tmp_path / "d" / ".store" / "rats", tmp_path / "d" / "rats")
    assert open_data(tmp_path / "d").spec.classes == ("cats", "dogs", "mice", "rats")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "a", 4)
    fill(tmp_path / "b", 4)
    os.chmod(tmp_path / "b", 0)
    try:
        assert any("b cannot be opened" in note for note in open_data(tmp_path).notes)
    finally:
        os.chmod(tmp_path / "b", 0o755)


def test_a_folder_that_the_walk_cannot_open_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "a", 4)
    (tmp_path / "b").mkdir()
    scandir = os.scandir

    def refused(place: str) -> object:
        if os.fspath(place).endswith("/b"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refused)
    assert list_images(tmp_path).notes == ["b cannot be opened: what is in there is left out."]


@pytest.mark.parametrize("stray", ["cover.png", "more/x.png"])
def test_what_lies_beside_a_split_is_asked_about(tmp_path: Path, stray: str) -> None:
    for part in ("train", "val", "test"):
        fill(tmp_path / part, 4)
    (tmp_path / stray).parent.mkdir(exist_ok=True)
    Image.new("RGB", (16, 16)).save(tmp_path / stray)
    with pytest.raises(UserError, match=f"The folders test, train, val are a split, and {stray} lies beside them"):
        open_data(tmp_path)
    (tmp_path / stray).unlink()
    assert open_data(tmp_path).official


def test_copies_across_an_official_split_are_told(tmp_path: Path) -> None:
    fill(tmp_path / "train", 8)
    fill(tmp_path / "test", 4, first=6)
    assert any("exact duplicates: 2 (2 of the originals have copies in another part of the split)" in line for line in scan(tmp_path).lines())
    x = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    x[11] = x[0]
    np.savez(tmp_path / "x.npz", x_train=x[:8], x_test=x[8:])
    report = scan(tmp_path / "x.npz")
    assert report.duplicates == [["0", "11"]] and report.astray == 1


def test_what_could_not_be_read_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is the same: its permissions are not, or the memory is free again."""
    from vaekit.data import survey

    fill(tmp_path, 6)
    found = survey._found

    def starved(*_: object) -> object:
        raise MemoryError

    monkeypatch.setattr(survey, "_found", starved)
    with pytest.raises(UserError, match="too large for the memory"):
        scan(tmp_path)
    monkeypatch.setattr(survey, "_found", found)
    assert scan(tmp_path).images == 6


def test_names_in_archives(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("L", (8, 8)).save(picture, "png")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("Screenshot 12:30:05.png", "a.png", "é" * 200 + ".png", "C:/b.png"):
            archive.writestr(name, picture.getvalue())
    folder, notes = unpack(tmp_path / "x.zip")
    assert sorted(list_images(folder).images) == ["Screenshot 12:30:05.png", "a.png"]
    assert notes[0].startswith("2 members of the archive")


@pytest.mark.parametrize("error", [zlib.error("invalid stored block lengths"), EOFError("ended early")], ids=["zlib", "end"])
def test_a_stream_that_breaks_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fill(tmp_path / "d", 2)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "d", "d")

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("vaekit.data.archive.shutil.copyfileobj", broken)
    with pytest.raises(UserError, match="is damaged"):
        unpack(tmp_path / "x.tar")


def test_tables_number_the_rows_of_the_whole_array(tmp_path: Path) -> None:
    """Also where a part of them is used, and never those of other images."""
    x = np.random.default_rng(0).integers(0, 256, (100, 8, 8), dtype=np.uint8)
    x[:, 0, 0] = np.arange(100)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "other.npy", x[::-1].copy())
    (tmp_path / "t.csv").write_text("row,number\n" + "".join(f"{i},{i}\n" for i in range(100)))
    data = open_data(tmp_path / "x.npy", condition=tmp_path / "t.csv", limit=20)
    batch = next(data.batches("train", 100))
    assert torch.equal(batch.condition[:, 0], batch.x[:, 0, 0, 0].float())
    data.read_attributes(tmp_path / "t.csv")
    assert torch.equal(data.attributes[data.index("train"), 0], batch.x[:, 0, 0, 0].float())
    run = vaekit.fit(
        "mlp", tmp_path / "x.npy", condition=tmp_path / "t.csv", scale=0.05, latent=2, epochs=1, out=tmp_path / "run", watcher=Silent(), page=False
    )
    assert vaekit.reopen(run, tmp_path / "x.npy").fingerprint == run.description["data"]["fingerprint"]
    with pytest.raises(UserError, match="numbers the rows of its own images"):
        vaekit.reopen(run, tmp_path / "other.npy")


def test_the_split_of_a_run_is_kept(tmp_path: Path) -> None:
    """Images that were given for validation are not forgotten, and images of the run that have moved are not scored as new ones."""
    x = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x[:50])
    np.save(tmp_path / "v.npy", x[50:])
    few = {"scale": 0.05, "latent": 2, "epochs": 1, "watcher": Silent(), "page": False}
    run = vaekit.fit("mlp", tmp_path / "x.npy", validation_data=tmp_path / "v.npy", out=tmp_path / "given", **few)
    again = vaekit.reopen(run)
    assert (again.size("train"), again.size("validation")) == (50, 10) and again.fingerprint == run.description["data"]["fingerprint"]
    unnamed = vaekit.fit("mlp", tmp_path / "x.npy", validation_data=x[50:], out=tmp_path / "array", **few)
    with pytest.raises(UserError, match="trained on an array"):
        vaekit.reopen(unnamed)
    plain = vaekit.fit("mlp", tmp_path / "x.npy", limit=40, out=tmp_path / "plain", **few)
    os.rename(tmp_path / "x.npy", tmp_path / "moved.npy")
    figures = vaekit.api.evaluate(plain, tmp_path / "moved.npy", samples=0)
    assert figures["split"] == "test" and figures["images"] == vaekit.reopen(plain, tmp_path / "moved.npy").size("test") < 10
    assert vaekit.api.evaluate(plain, tmp_path / "v.npy", samples=0)["split"] == "all"
    assert vaekit.api.evaluate(run, tmp_path / "moved.npy", samples=0, split="validation")["images"] == 60 // 6
    os.rename(tmp_path / "moved.npy", tmp_path / "x.npy")
    os.remove(tmp_path / "v.npy")
    with pytest.raises(UserError, match=r"validation images of this run were in .*v.npy, which is gone"):
        vaekit.reopen(run)


def test_other_data_need_no_labels(tmp_path: Path) -> None:
    """Those that the run was shown few of are its own."""
    x = np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=x, labels=np.arange(80) % 2)
    np.save(tmp_path / "other.npy", x[::-1].copy())
    run = vaekit.fit(
        "semi-supervised", tmp_path / "x.npz", labels=20, epochs=1, scale=0.05, latent=2, out=tmp_path / "run", watcher=Silent(), page=False
    )
    assert vaekit.api.evaluate(run, tmp_path / "other.npy", samples=0)["images"] == 80


def test_a_data_set_that_is_open_takes_no_options() -> None:
    data = open_data("digits")
    with pytest.raises(UserError, match="opened already: give binarize, limit to open_data"):
        vaekit.fit("mlp", data, binarize=True, limit=50, condition=None)
    with pytest.raises(UserError, match="give validation_data to open_data"):
        vaekit.fit("mlp", data, validation_data=np.zeros((4, 8, 8), np.uint8))


def test_a_part_of_a_folder_has_all_its_classes(tmp_path: Path) -> None:
    """The first images are those of the first class; the part is the same each time, and in proportion where there are several splits."""
    for k, name in enumerate("abcd"):
        fill(tmp_path / name, 40, first=1000 * k)
    data = open_data(tmp_path)
    part = torch.cat([batch.label for batch in data.batches("train", 7, 40)])
    assert len(part) == 40 and set(part.tolist()) == {0, 1, 2, 3}
    assert torch.equal(part, torch.cat([batch.label for batch in data.batches("train", 9, 40)]))
    counts = [len(rows) for _, rows in data.positions(("train", "validation", "test"), 50)]
    assert sum(counts) == 50 and counts[0] > 30 and min(counts) > 0
    assert sum(len(batch) for batch in data.batches("validation", 7, 10**6)) == data.size("validation")
    whole = torch.cat([batch.index for batch in data.batches("train", 7)])
    assert torch.equal(whole, data.index("train"))


def test_labels_that_are_missing_are_no_class() -> None:
    nan = float("nan")
    assert understand_labels(np.array(["cat", None, nan, "dog"], object), 4)[1] == ("cat", "dog")
    ids, classes = understand_labels(np.array([7, None, 3], object), 3)
    assert ids.tolist() == [1, -1, 0] and classes == ("3", "7")
    assert understand_labels(np.array([True, None, False], object), 3)[1] == ("0", "1")
    assert understand_labels(np.array([10.0, None, 2.0], object), 3)[1] == ("2", "10")
    with pytest.raises(UserError, match="fractions"):
        understand_labels(np.array([np.float32(0.5), None, np.float32(1.25)], object), 3)

    class Unknown:  # as pandas' NA
        def __eq__(self, other: object) -> "Unknown":  # type: ignore[override]
            return self

        def __bool__(self) -> bool:
            raise TypeError("boolean value of NA is ambiguous")

    assert understand_labels(np.array(["cat", Unknown(), "dog"], object), 3)[0].tolist() == [0, -1, 1]
    listed = np.empty(2, object)
    listed[:] = [[0, 1], [1, 2]]
    with pytest.raises(UserError, match="these are lists"):
        understand_labels(listed, 2)
    images = [(Image.new("L", (8, 8), 9 * i), label) for i, label in enumerate(["cat", None, "dog", "cat"])]
    data = open_data(images)
    assert data.spec.classes == ("cat", "dog") and data.labels.tolist() == [0, -1, 1, 0]


def test_pictures_in_a_list_are_fitted_as_asked() -> None:
    images = [Image.new("L", (16, 8), 255) for _ in range(6)]
    images[0].putpixel((8, 4), 0)
    data = open_data(images, size=8, fit="pad")
    assert data.options["fit"] == "pad" and (data.pixels(torch.arange(6))[:, 0, 0] == 0).all()
    assert (open_data(images, size=8, fit="crop").pixels(torch.arange(1, 6)) == 255).all()


def test_a_page_with_names_that_are_no_text_is_written(tmp_path: Path) -> None:
    from vaekit.saving import save_text

    save_text(tmp_path / "page.html", "caf\udce9")
    assert (tmp_path / "page.html").read_text() == "caf?"


def test_an_empty_folder_is_filled_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a mount point, which cannot be replaced, or the only place that may be written to."""
    mine = tmp_path / "above" / "mine"
    mine.mkdir(parents=True)

    def refused(self: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(self))

    monkeypatch.setattr(Path, "rmdir", refused)
    assert target(mine) == mine
    with whole(mine) as place:
        (place / "train").mkdir()
        (place / "train" / "z.npy").write_text("z")
        assert mine in place.parents
    assert [p.name for p in mine.iterdir()] == ["train"] and (mine / "train" / "z.npy").read_text() == "z"
