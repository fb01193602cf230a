"""Splits, packs, binarization, augmentation: what a batch holds and that it holds it again."""

import errno
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vaekit.data.pack
from vaekit.data import open_data
from vaekit.data.augment import parse
from vaekit.data.binarize import binarize, random_bits
from vaekit.data.cache import digest
from vaekit.data.pack import pack, store
from vaekit.data.source import Source
from vaekit.data.split import complete, split_by_content
from vaekit.errors import UserError

SPLITS = ("train", "validation", "test")
digests = st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=200)


def images(n: int = 60, size: int = 12, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (n, channels, size, size)).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(digests)
def test_split_of_anything(values):
    array = np.array(values, np.uint64)
    distinct = len(set(values))
    if distinct < 2:
        with pytest.raises(UserError):
            split_by_content(array)
        return
    split = split_by_content(array)
    assert set(split.tolist()) == ({0, 1, 2} if distinct > 2 else {0, 1})
    for value in set(values):  # copies stay together
        assert len(set(split[array == np.uint64(value)].tolist())) == 1
    official, _ = complete(np.zeros(len(array), np.int8), array)
    assert (official == 0).any()


def test_split_shares_and_stability():
    rng = np.random.RandomState(0)
    array = rng.randint(0, 2**63, 20_000).astype(np.uint64) * np.uint64(2) + rng.randint(0, 2, 20_000).astype(np.uint64)
    split = split_by_content(array)
    assert np.allclose(np.bincount(split) / len(split), [0.8, 0.1, 0.1], atol=0.01)
    assert np.array_equal(split_by_content(array[:9000]), split[:9000])


def test_adding_images_moves_none():
    x = images(300)
    few, many = open_data(x[:200]), open_data(x)
    for s in SPLITS:
        assert set(few.index(s).tolist()) == {i for i in many.index(s).tolist() if i < 200}


def source_of(x: np.ndarray, name: str = "s", **changes) -> Source:
    base = Source(name, digest(x.tobytes()), x.shape[1:], x.dtype, 256, len(x), lambda rows: x[rows], on_disk=True)
    return replace(base, **changes)


def test_mapped_rows_equal_rows_in_memory(monkeypatch):
    for dtype in (np.uint8, np.uint16, np.float32):
        x = (images(50).astype(np.float32) * (200 if dtype == np.uint16 else 1)).astype(dtype)
        inside, facts = store(source_of(x))
        monkeypatch.setattr(vaekit.data.pack, "IN_MEMORY_BYTES", 10)
        mapped, facts2 = store(source_of(x))
        monkeypatch.undo()
        direct, facts3 = store(source_of(x, on_disk=False))
        assert mapped._memory is None and inside._memory is not None
        for _ in range(5):
            rows = torch.randint(0, 50, (20,))
            expected = torch.from_numpy(x[rows.numpy()].astype(np.int32 if dtype == np.uint16 else dtype))
            for s in (inside, mapped, direct):
                assert torch.equal(s.gather(rows), expected)
        for f in (facts2, facts3):
            assert np.array_equal(f.digests, facts.digests) and np.allclose(f.squares, facts.squares)


KILLED = """
import os, sys, numpy as np
import vaekit.data.pack as p
from vaekit.data.source import Source
p._SYNC_SECONDS = 0
x = np.random.RandomState(3).randint(0, 256, (400, 1, 64, 64)).astype(np.uint8)
p._CHUNK_BYTES = 64 * 64 * 10
done = [0]
def read(rows):
    done[0] += 1
    if done[0] == int(sys.argv[1]):
        os.kill(os.getpid(), 9)
    print(rows[0], flush=True)
    return x[rows]
p.pack(Source("killed", sys.argv[2], (1, 64, 64), x.dtype, 256, 400, read, on_disk=True))
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(script), *arguments], capture_output=True, text=True)


def test_a_killed_pack_is_continued():
    first = run(KILLED, "15", "some")
    assert first.returncode == -9 and len(first.stdout.split()) == 14
    folder = next((Path(os.environ["VAEKIT_CACHE"]) / "packs").glob("killed-*[!k]"))
    assert not (folder / "pack.json").exists()
    with open(folder / "images.bin", "ab") as handle:
        handle.write(b"torn")  # a row that was half written
    second = run(KILLED, "1000", "some")
    assert second.returncode == 0, second.stderr
    assert int(second.stdout.split()[0]) >= 130 and len(second.stdout.split()) <= 27
    assert (folder / "images.bin").read_bytes() == np.random.RandomState(3).randint(0, 256, (400, 1, 64, 64)).astype(np.uint8).tobytes()
    unread = Source("killed", "some", (1, 64, 64), np.dtype(np.uint8), 256, 400, lambda rows: pytest.fail("read again"), on_disk=True)
    assert pack(unread) == folder


def test_two_processes_build_one_pack():
    code = textwrap.dedent(KILLED)
    both = [subprocess.Popen([sys.executable, "-c", code, "1000", "both"], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = sum(len(p.communicate()[0].split()) for p in both)
    assert [p.returncode for p in both] == [0, 0] and lines == 40


def test_a_damaged_pack_is_built_again():
    x = images(40, seed=8)
    folder = pack(source_of(x, "damaged"))
    (folder / "images.bin").write_bytes(x.tobytes()[:-100])
    assert torch.equal(store(source_of(x, "damaged"))[0].gather(torch.arange(40)), torch.from_numpy(x))


def test_full_disk(monkeypatch):
    x = images(40, seed=9)

    def full(rows):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="is full"):
        pack(source_of(x, "full", read=full))
    assert torch.equal(store(source_of(x, "full"))[0].gather(torch.arange(40)), torch.from_numpy(x))
    monkeypatch.setattr(vaekit.data.pack.shutil, "disk_usage", lambda p: type("U", (), {"free": 10})())
    with pytest.raises(UserError, match="free some space"):
        pack(source_of(x, "fuller"))


def test_progress_is_told():
    seen = []
    pack(source_of(images(40, seed=10), "progress"), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (40, 40)


@pytest.mark.parametrize("levels", [2, 17, 256, 65536, None])
def test_frequencies_of_bits(levels):
    top = 1 if levels is None else levels - 1
    grey = np.linspace(0, top, 17) if levels is None else np.round(np.linspace(0, top, 17))
    dtype = {None: torch.float32, 65536: torch.int32}.get(levels, torch.uint8)
    x = torch.from_numpy(grey).to(dtype).repeat(20, 1, 10, 1)
    total = sum(binarize(x, torch.arange(20), levels, seed=1, epoch=e).double() for e in range(40)).mean((0, 1, 2)) / 40
    p = grey / top
    assert np.all(np.abs(total.numpy() - p) <= 5 * np.sqrt(p * (1 - p) / 8000))


def test_bits_are_uniform_and_independent():
    h = random_bits(np.arange(2000), 500, 3, 4)
    assert len(np.unique(h)) > 0.9998 * h.size * (1 - h.size / 2**33)
    u = h / 2.0**32
    assert abs(u.mean() - 0.5) < 5 / np.sqrt(12 * h.size)
    counts = np.bincount((h >> 24).reshape(-1), minlength=256)
    assert ((counts - h.size / 256) ** 2 / (h.size / 256)).sum() < 255 + 6 * np.sqrt(510)
    others = [
        random_bits(np.arange(2000), 500, 3, 5),
        random_bits(np.arange(2000), 500, 4, 4),
        random_bits(np.arange(1, 2001), 500, 3, 4),
        np.roll(h, 1, 1),
    ]
    for other in others:
        assert abs(np.corrcoef(u.reshape(-1), other.reshape(-1) / 2.0**32)[0, 1]) < 5 / np.sqrt(h.size)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 39), min_size=1, max_size=20), st.integers(0, 2**63), st.integers(0, 1000))
def test_bits_do_not_depend_on_the_batch(rows, seed, epoch):
    data = open_data(images(60), binarize=True)
    alone = [data.batch("train", torch.tensor([r]), seed=seed, epoch=epoch).x for r in rows]
    assert torch.equal(data.batch("train", np.array(rows), seed=seed, epoch=epoch).x, torch.cat(alone))


def test_bits_of_the_splits():
    data = open_data(images(80), binarize=True)
    assert data.spec.levels == 2 and data.raw_spec.levels == 256
    rows = torch.arange(8)
    first = data.batch("train", rows, seed=1, epoch=0).x
    assert set(first.unique().tolist()) == {0, 1}
    assert torch.equal(first, data.batch("train", rows, seed=1, epoch=0).x)
    assert not torch.equal(first, data.batch("train", rows, seed=1, epoch=1).x)
    assert not torch.equal(first, data.batch("train", rows, seed=2, epoch=0).x)
    for split in ("validation", "test"):
        rows = torch.arange(data.size(split))
        assert torch.equal(data.batch(split, rows, seed=1, epoch=0).x, data.batch(split, rows, seed=2, epoch=3).x)
    with pytest.raises(UserError, match=r"0\.\.1"):
        open_data(np.random.RandomState(0).randn(30, 4, 4), binarize=True)
    assert open_data(np.random.RandomState(0).rand(30, 4, 4), binarize=True).spec.kind == "pixels"


def test_batches_go_through_a_split_in_order():
    data = open_data(images(60))
    for split in SPLITS:
        got = list(data.batches(split, 7))
        assert torch.equal(torch.cat([b.index for b in got]), data.index(split)) and sum(len(b) for b in got) == data.size(split)
        assert torch.equal(torch.cat([b.x for b in got]), data.pixels(data.index(split)))
    assert sum(len(b) for b in data.batches("train", 7, limit=10)) == 10
    with pytest.raises(UserError, match="split"):
        data.size("dev")


@pytest.mark.parametrize("names", ["flip", "crop", "rotate", "colour", "flip,crop,rotate,color"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_augmentation(names, channels):
    pytest.importorskip("kornia")
    data = open_data(torch.from_numpy(images(40, 16, channels)))
    rows = torch.arange(16)
    plain = data.batch("train", rows).x
    state = torch.get_rng_state()
    x = data.batch("train", rows, augment=names, seed=1, position=5).x
    assert torch.equal(torch.get_rng_state(), state)
    assert x.dtype == torch.uint8 and x.shape == plain.shape and not torch.equal(x, plain)
    assert torch.equal(x, data.batch("train", rows, augment=names, seed=1, position=5).x)
    assert not torch.equal(x, data.batch("train", rows, augment=names, seed=1, position=6).x)
    assert not torch.equal(x, data.batch("train", rows, augment=names, seed=2, position=5).x)
    assert torch.equal(data.batch("test", rows[:2], augment=names).x, data.batch("test", rows[:2]).x)
    if names == "flip":
        assert all(torch.equal(a, b) or torch.equal(a, b.flip(-1)) for a, b in zip(x, plain, strict=True))


def test_augmentation_of_other_values(monkeypatch):
    pytest.importorskip("kornia")
    deep = open_data(images(40, 16).astype(np.uint16)[:, 0] * 257)
    assert deep.batch("train", torch.arange(4), augment="rotate").x.dtype == torch.int32
    real = open_data(np.random.RandomState(0).randn(30, 8, 8))
    assert real.batch("train", torch.arange(4), augment="flip,crop").x.dtype == torch.float32
    with pytest.raises(UserError, match="colour"):
        real.batch("train", torch.arange(4), augment="colour")
    bits = open_data(images(40, 16), binarize=True)
    assert set(bits.batch("train", torch.arange(4), augment="rotate").x.unique().tolist()) == {0, 1}


def test_augmentation_is_named_rightly(monkeypatch):
    assert parse("crop, flip,color") == ("flip", "crop", "colour") and parse(None) == () == parse("")
    with pytest.raises(UserError, match="not known"):
        parse("mirror")
    monkeypatch.setitem(sys.modules, "kornia.augmentation", None)
    vaekit.data.augment._pipeline.cache_clear()
    with pytest.raises(UserError, match=r"vaekit\[augment\]"):
        open_data(images(20)).batch("train", torch.arange(2), augment="flip")
