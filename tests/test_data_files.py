"""Image files: formats, modes, orientation, damage, policy, folders, archives."""

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaekit.data import open_data, read_images, scan
from vaekit.data.decode import read_array
from vaekit.data.folder import folder_source
from vaekit.errors import UserError

SIZE = 16
GREY = {"size": (SIZE, SIZE), "fit": "crop", "channels": 1, "levels": 256, "fill": "black"}
COLOUR = {**GREY, "channels": 3}


def noise(channels: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """Smooth random colours [H, W, C] uint8, which lossy formats keep nearly."""
    coarse = np.random.RandomState(seed).randint(0, 256, (4, 4, channels)).astype(np.uint8)
    planes = [np.asarray(Image.fromarray(coarse[..., c]).resize((size, size), Image.Resampling.BICUBIC)) for c in range(channels)]
    return np.stack(planes, -1)


def fill(folder: Path, count: int = 30, mode: str = "RGB", suffix: str = ".png", size: int = SIZE, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        values = noise(len(mode), i, size)
        Image.fromarray(values[..., 0] if mode == "L" else values, mode).save(folder / f"{i:04d}{suffix}")
    return folder


def test_a_folder_with_the_name_of_a_built_in_set(tmp_path, monkeypatch):
    """As after `vaekit train digits --out digits`, which opens the same data again."""
    monkeypatch.chdir(tmp_path)
    fill(Path("digits"))
    built_in = open_data("digits")
    assert scan("digits").kind == "built-in" and scan("./digits").kind == "folder"
    assert built_in.spec.shape == (1, 8, 8) and built_in.source == "digits" and any("./digits opens" in note for note in built_in.notes)
    for mine in ("./digits", Path("digits")):
        opened = open_data(mine)
        assert opened.spec.shape == (3, SIZE, SIZE) and opened.source == str(tmp_path / "digits")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp", ".jpg", ".gif"])
def test_formats(tmp_path, suffix):
    values = noise(3)
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    Image.fromarray(values).save(tmp_path / f"x{suffix}", **options)
    read = read_array(tmp_path / f"x{suffix}", **COLOUR).transpose(1, 2, 0).astype(int)
    tolerance = {".jpg": 8, ".gif": 60}.get(suffix, 0)
    assert np.abs(read - values).max() <= tolerance


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.fromarray(np.full((8, 8), v, np.uint8)) for v in (40, 200)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert (read_array(tmp_path / "x.gif", **{**GREY, "size": (8, 8)}) == 40).all()


def test_modes(tmp_path):
    rgb, alpha = noise(3), np.zeros((SIZE, SIZE, 1), np.uint8)
    alpha[: SIZE // 2] = 255
    white = np.where(alpha > 0, rgb, 255)
    rgba = Image.fromarray(np.concatenate([rgb, alpha], -1))
    rgba.save(tmp_path / "rgba.png")
    assert (read_array(tmp_path / "rgba.png", **COLOUR).transpose(1, 2, 0) == white).all()
    kept = read_array(tmp_path / "rgba.png", **{**COLOUR, "channels": 4})
    assert (kept[3] == alpha[..., 0]).all() and (kept[:3, : SIZE // 2] == rgb.transpose(2, 0, 1)[:, : SIZE // 2]).all()

    grey = rgb[..., 0]
    Image.fromarray(np.stack([grey, alpha[..., 0]], -1)).save(tmp_path / "la.png")
    assert (read_array(tmp_path / "la.png", **GREY)[0] == np.where(alpha[..., 0] > 0, grey, 255)).all()
    assert read_array(tmp_path / "la.png", **{**GREY, "channels": 2}).shape == (2, SIZE, SIZE)

    flat = Image.fromarray(np.tile(np.uint8([[0, 1], [2, 1]]), (SIZE // 2, SIZE // 2)))
    flat.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    flat.save(tmp_path / "p.png")
    assert read_array(tmp_path / "p.png", **COLOUR)[:, 0, :2].T.tolist() == [[255, 0, 0], [0, 255, 0]]
    flat.save(tmp_path / "pt.png", transparency=1)
    assert read_array(tmp_path / "pt.png", **COLOUR)[:, 0, :2].T.tolist() == [[255, 0, 0], [255, 255, 255]]

    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100, subsampling=0)
    assert np.abs(read_array(tmp_path / "cmyk.jpg", **COLOUR).transpose(1, 2, 0).astype(int) - rgb).max() < 12
    Image.fromarray(grey > 127).save(tmp_path / "one.png")
    assert (read_array(tmp_path / "one.png", **{**GREY, "levels": 2})[0] == (grey > 127)).all()


def test_sixteen_bits(tmp_path):
    values = (np.arange(SIZE * SIZE).reshape(SIZE, SIZE) * 257 + 3).astype(np.uint16)
    for i in range(12):
        Image.fromarray(np.roll(values, i)).save(tmp_path / f"{i}.{'png' if i % 2 else 'tif'}")
    data = open_data(tmp_path)
    assert data.spec.levels == 65536 and data.spec.shape == (1, SIZE, SIZE)
    seen = {tuple(row) for split in ("train", "validation", "test") for row in next(data.batches(split, 20)).x.flatten(1).tolist()}
    assert tuple(values.reshape(-1).tolist()) in seen
    assert next(data.batches("train", 2)).x.dtype == torch.int32
    fill(tmp_path / "eight", 3, "L")
    mixed = open_data(tmp_path)
    assert mixed.spec.levels == 256 and any("reduced to 8 bits" in n for n in mixed.notes)
    half = open_data(tmp_path, size=8)
    assert half.spec.shape == (1, 8, 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, orientation):
    upright = np.zeros((8, 16), np.uint8)
    upright[:4, :4] = 255
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = Image.fromarray(upright) if back is None else Image.fromarray(upright).transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    read = read_array(tmp_path / "x.png", **{**GREY, "size": (8, 16)})
    assert (read[0] == upright).all()
    stored.save(tmp_path / "x.jpg", exif=exif, quality=100)
    assert np.abs(read_array(tmp_path / "x.jpg", **{**GREY, "size": (8, 16)})[0].astype(int) - upright).max() < 60
    deep = Image.fromarray(np.asarray(stored).astype(np.uint16) * 257)
    deep.save(tmp_path / "deep.png", exif=exif)
    assert (read_array(tmp_path / "deep.png", **{**GREY, "size": (8, 16), "levels": 65536})[0] == upright.astype(int) * 257).all()


def damaged(folder: Path) -> Path:
    fill(folder, 12)
    whole = (folder / "0000.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    Image.fromarray(np.ones((4, 4), np.float32)).save(folder / "float.tiff")
    return folder


def test_damaged_files_are_named_and_passed_over(tmp_path):
    folder = damaged(tmp_path / "d")
    report = scan(folder)
    assert report.images == 12
    assert set(report.unreadable) == {"cut.png", "empty.jpg", "text.png", "float.tiff"}
    assert "cut off" in report.unreadable["cut.png"] and "empty" in report.unreadable["empty.jpg"] and "floating" in report.unreadable["float.tiff"]
    assert any("cut.png" in line for line in report.lines())
    json.dumps(report.to_json())
    data = open_data(folder)
    assert sum(data.size(s) for s in ("train", "validation", "test")) == 12
    assert any("4 of 16 files cannot be read" in n for n in data.notes)


def test_nothing_to_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    for use in (scan, open_data):
        with pytest.raises(UserError, match=r"None of the 1 .* a\.png"):
            use(tmp_path)
    with pytest.raises(UserError, match="no images"):
        open_data(tmp_path / "..", limit=None) if not any(tmp_path.parent.rglob("*.png")) else open_data(fill_nothing(tmp_path / "b"))
    with pytest.raises(UserError, match="There is no 'nowhere'"):
        open_data("nowhere")
    Image.fromarray(noise(3)).save(tmp_path / "one.png")
    with pytest.raises(UserError, match="single image"):
        open_data(tmp_path / "one.png")


def fill_nothing(folder: Path) -> Path:
    folder.mkdir()
    (folder / "readme.txt").write_text("")
    return folder


def test_scan_is_remembered(tmp_path, monkeypatch):
    folder = fill(tmp_path / "d", 5)
    first = scan(folder)
    monkeypatch.setattr("vaekit.data.survey.look", lambda *a: pytest.fail("looked again"))
    assert scan(folder) == first
    monkeypatch.undo()
    Image.fromarray(noise(1)[..., 0]).save(folder / "0002.png")
    assert scan(folder).modes == {"RGB": 4, "grey": 1}


def test_scan_memory_survives_a_torn_line(tmp_path):
    folder = fill(tmp_path / "d", 5)
    first = scan(folder)
    for memory in (Path(os.environ["VAEKIT_CACHE"]) / "scans").glob("*.jsonl"):
        memory.write_bytes(memory.read_bytes()[:-20])
    assert scan(folder) == first
    assert scan(folder) == first


def test_duplicates(tmp_path):
    folder = fill(tmp_path / "d", 20)
    for i in range(10):
        Image.open(folder / f"{i:04d}.png").save(folder / f"copy{i}.bmp")  # the same pixels in another file
    report = scan(folder)
    assert sorted(map(sorted, report.duplicates)) == [[f"{i:04d}.png", f"copy{i}.bmp"] for i in range(10)]
    data = open_data(folder)
    rows = {s: {r.numpy().tobytes() for r in data.pixels(data.index(s))} for s in ("train", "validation", "test")}
    assert not rows["train"] & rows["validation"] and not rows["train"] & rows["test"] and not rows["validation"] & rows["test"]
    assert any("10 images are exact copies" in n for n in data.notes)


def test_classes_and_official_split(tmp_path):
    for split, count in (("train", 10), ("val", 4), ("test", 3)):
        for k, name in enumerate(("cat", "dog")):
            fill(tmp_path / "d" / split / name, count, first=100 * k + {"train": 0, "val": 20, "test": 40}[split])
    data = open_data(tmp_path / "d", condition="class")
    assert [data.size(s) for s in ("train", "validation", "test")] == [20, 8, 6]
    assert data.spec.classes == ("cat", "dog") and data.spec.count == 20
    batch = next(data.batches("train", 100))
    assert torch.equal(batch.label, batch.condition) and sorted(batch.label.tolist()) == [0] * 10 + [1] * 10
    assert scan(tmp_path / "d").split == {"train": 20, "validation": 8, "test": 6}
    for part in ("val", "test"):
        (tmp_path / "d" / part).rename(tmp_path / part)
    (tmp_path / "test").rename(tmp_path / "d" / "test")
    carved = open_data(tmp_path / "d")
    assert carved.size("test") == 6 and carved.size("validation") >= 1 and carved.size("train") + carved.size("validation") == 20


def test_images_without_a_class(tmp_path):
    fill(tmp_path / "a", 6)
    fill(tmp_path, 6, first=50)
    data = open_data(tmp_path)
    assert data.spec.classes == ("a",) and sorted(data.labels.tolist()) == [-1] * 6 + [0] * 6
    with pytest.raises(UserError, match="no class"):
        open_data(tmp_path, condition="class")
    flat = fill(tmp_path.parent / f"{tmp_path.name}-flat", 6)
    assert next(open_data(flat).batches("train", 2)).label is None
    with pytest.raises(UserError, match="no classes"):
        open_data(flat, condition="class")


def test_table_of_attributes(tmp_path):
    folder = fill(tmp_path / "d", 8)
    table = tmp_path / "t.csv"
    table.write_text("file;age;height\n" + "".join(f"{i:04d}.png;{i};{i / 2}\n" for i in range(8)))
    data = open_data(folder, condition=table)
    batch = next(data.batches("train", 8))
    assert data.spec.attributes == ("age", "height") and batch.condition.shape == (data.size("train"), 2)
    assert torch.equal(batch.condition[:, 0], batch.index.float()) and torch.equal(batch.condition[:, 1] * 2, batch.condition[:, 0])
    for text, message in (
        ("file,age\n0000.png,1\n", "no row for 7 of 8"),
        ("file,age\n0000.png,old\n", "not a number"),
        ("file,age\n0000.png,1\n0000.png,2\n", "twice"),
        ("file,age\n0000.png\n", "cells"),
        ("", "needs a header"),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=message):
            open_data(folder, condition=table)
    with pytest.raises(UserError, match="cannot be read"):
        open_data(folder, condition=tmp_path / "none.csv")


def pack_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def pack_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("flowers/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_archives(tmp_path, suffix):
    folder = fill(tmp_path / "flowers" / "rose", 6).parent
    fill(folder / "tulip", 6, first=50)
    members = {f"flowers/{p.relative_to(folder).as_posix()}": p.read_bytes() for p in folder.rglob("*.png")}
    evil = {"../evil.png": members["flowers/rose/0000.png"], "/tmp/vaekit-evil.png": members["flowers/rose/0000.png"], "flowers/notes.txt": b""}
    path = (pack_zip if suffix == ".zip" else pack_tar)(tmp_path / f"set{suffix}", {**members, **evil})
    data = open_data(path)
    assert data.name == "set" and data.spec.classes == ("rose", "tulip")
    assert sum(data.size(s) for s in ("train", "validation", "test")) == 12
    assert torch.equal(torch.sort(data.labels).values, torch.sort(open_data(folder).labels).values)
    assert not list(Path(os.environ["VAEKIT_CACHE"]).rglob("evil.png")) and not Path("/tmp/vaekit-evil.png").exists()
    assert any("point outside" in n for n in data.notes)
    assert scan(path).kind == "archive"


def test_damaged_archives(tmp_path):
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"PK no")
    with pytest.raises(UserError, match="damaged"):
        open_data(bad)
    bad_tar = tmp_path / "bad.tgz"
    bad_tar.write_bytes(b"no")
    with pytest.raises(UserError, match="damaged"):
        open_data(bad_tar)
    with pytest.raises(UserError, match="holds no images"):
        open_data(pack_zip(tmp_path / "e.zip", {"a.txt": b"1"}))


def test_automatic_choices(tmp_path):
    small = open_data(fill(tmp_path / "small", 6, "L", size=28))
    assert small.spec.shape == (1, 28, 28) and any("keep that size" in n for n in small.notes)
    large = open_data(fill(tmp_path / "large", 6, size=200))
    assert large.spec.shape == (3, 64, 64)
    portrait = tmp_path / "portrait"
    portrait.mkdir()
    for i in range(6):
        Image.fromarray(noise(3, i, 218)[:, :178]).save(portrait / f"{i}.png")
    assert open_data(portrait).spec.shape == (3, 64, 52)
    assert open_data(portrait, size="32x16").options["size"] == [32, 16]
    mixed = fill(tmp_path / "mixed", 6, size=20)
    for i in range(6):
        Image.fromarray(noise(3, i, 120)[: 20 + 100 * (i % 2), : 120 - 100 * (i % 2)]).save(mixed / f"m{i}.png")
    data = open_data(mixed)
    assert data.options["fit"] == "pad" and any("enlarged" in n for n in data.notes)
    colourless = tmp_path / "colourless"
    colourless.mkdir()
    for i in range(6):
        Image.fromarray(np.repeat(noise(1, i), 3, -1)).save(colourless / f"{i}.png")
    assert open_data(colourless).spec.shape[0] == 1 and open_data(colourless, channels=3).spec.shape[0] == 3


def test_fits(tmp_path):
    values = np.zeros((20, 40), np.uint8)
    values[:, 10:30] = 200
    Image.fromarray(values).save(tmp_path / "x.png")
    crop = read_array(tmp_path / "x.png", **{**GREY, "size": (10, 10)})[0]
    pad = read_array(tmp_path / "x.png", **{**GREY, "size": (10, 10), "fit": "pad", "fill": "white"})[0]
    stretch = read_array(tmp_path / "x.png", **{**GREY, "size": (10, 10), "fit": "stretch"})[0]
    assert crop[:, 1:-1].min() > 180
    assert (pad[:2] == 255).all() and (pad[-2:] == 255).all() and abs(int(pad[5, 5]) - 200) < 8 and pad[5, 0] < 10
    assert stretch[5, 0] < 10 and abs(int(stretch[5, 5]) - 200) < 8


def test_a_huge_image_is_brought_down_in_bands(tmp_path):
    rgb = noise(4, size=3000)
    rgb[..., 3] = np.where(rgb[..., 3] > 128, 255, 0)
    image = Image.fromarray(rgb)
    image.save(tmp_path / "x.png", compress_level=1)
    reference = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB").resize((32, 32), Image.Resampling.LANCZOS)
    read = read_array(tmp_path / "x.png", **{**COLOUR, "size": (32, 32)}).transpose(1, 2, 0)
    assert np.abs(read.astype(int) - np.asarray(reference)).mean() < 1


@pytest.mark.parametrize("bad", [{"size": "big"}, {"size": 0}, {"size": (1, 2, 3)}, {"fit": "squash"}, {"channels": 5}, {"limit": 1}])
def test_bad_options(tmp_path, bad):
    with pytest.raises(UserError):
        open_data(fill(tmp_path / "d", 4), **bad)


def test_limit_takes_from_all_classes(tmp_path):
    for k in range(3):
        fill(tmp_path / "d" / f"c{k}", 30, first=100 * k)
    data = open_data(tmp_path / "d", limit=30)
    assert sum(data.size(s) for s in ("train", "validation", "test")) == 30 and set(data.labels.tolist()) == {0, 1, 2}


def test_loose_images_are_prepared_as_the_training_images(tmp_path):
    folder = fill(tmp_path / "d", 8, size=90)
    data = open_data(folder, size=24)
    x = read_images([folder / f"{i:04d}.png" for i in range(8)], data.spec, data.options)
    assert torch.equal(x, data.pixels(torch.arange(8)))
    bits = open_data(folder, size=24, binarize=True, channels=1)
    assert read_images([folder / "0000.png"], bits.spec, bits.options).unique().tolist() == [0, 1]
    with pytest.raises(UserError, match=r"none\.png cannot be read"):
        read_images([tmp_path / "none.png"], data.spec, data.options)


def test_names_that_are_not_unicode(tmp_path):
    folder = fill(tmp_path / "d", 6)
    try:
        os.rename(folder / "0000.png", os.fsencode(folder) + b"/\xff\xe9.png")
    except OSError:
        pytest.skip("the file system takes only Unicode")
    assert sum(open_data(folder).size(s) for s in ("train", "validation", "test")) == 6
    (folder / "0001.png").write_bytes(b"")
    os.rename(folder / "0001.png", os.fsencode(folder) + b"/\xfe.png")
    "\n".join(scan(folder).lines()).encode()


def test_a_file_that_goes_between_scan_and_pack(tmp_path):
    folder = fill(tmp_path / "d", 4)
    source = folder_source(folder, "d", [])
    (folder / "0002.png").unlink()
    with pytest.raises(UserError, match="run the command again"):
        source.read(np.arange(4))
