"""Arrays, tensors, torch data sets, array files, built-in sets."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

import vaekit.data.pack
from vaekit.data import fashion as fashion_module
from vaekit.data import from_arrays, open_data, scan
from vaekit.errors import UserError

SPLITS = ("train", "validation", "test")


def whole(data) -> torch.Tensor:
    return data.pixels(torch.arange(sum(data.size(s) for s in SPLITS)))


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 12), st.integers(5, 9), st.integers(5, 9), st.integers(1, 4), st.sampled_from(["hw", "hwc", "chw"]), st.integers(0, 99))
def test_layouts(n, h, w, c, layout, seed):
    chw = np.random.RandomState(seed).randint(0, 256, (n, 1 if layout == "hw" else c, h, w)).astype(np.uint8)
    given_ = {"hw": chw[:, 0], "hwc": chw.transpose(0, 2, 3, 1), "chw": chw}[layout]
    data = open_data(given_)
    assert data.spec.shape == chw.shape[1:] and torch.equal(whole(data), torch.from_numpy(chw))
    assert sum(data.size(s) for s in SPLITS) == n and min(data.size(s) for s in SPLITS) >= 1
    if layout != "hwc":
        assert torch.equal(whole(open_data(torch.from_numpy(given_.copy()))), torch.from_numpy(chw))


@pytest.mark.parametrize("shape", [(5, 8), (5, 3, 3, 3), (5, 8, 8, 8), (5,), (0, 8, 8), (5, 1, 8, 8, 8)])
def test_shapes_that_are_no_images(shape):
    with pytest.raises(UserError):
        open_data(np.zeros(shape, np.uint8))


def test_values():
    rng = np.random.RandomState(0)
    eight = rng.randint(0, 256, (20, 6, 6)).astype(np.uint8)
    cases = [
        (eight, 256, torch.uint8, "8-bit"),
        (eight.astype(np.int64), 256, torch.uint8, "8-bit"),
        (eight % 2, 2, torch.uint8, "binary"),
        (eight > 100, 2, torch.uint8, "binary"),
        ((eight > 100).astype(np.float32), 2, torch.uint8, "binary"),
        (eight.astype(np.uint16) * 200, 65536, torch.int32, "16-bit"),
        (eight.astype(np.float32) / 255, 256, torch.uint8, "k/255"),
        (eight / 255, 256, torch.uint8, "k/255"),
        (eight.astype(np.float32) * np.float32(1 / 255), 256, torch.uint8, "k/255"),
        (eight.astype(np.float32), None, torch.float32, "whole numbers"),
        (rng.randn(20, 6, 6), None, torch.float32, "continuous"),
        (rng.rand(20, 6, 6).astype(np.float32), None, torch.float32, "continuous"),
    ]
    for array, levels, dtype, note in cases:
        data = open_data(array)
        assert data.spec.levels == levels and data.spec.kind == ("values" if levels is None else "pixels")
        assert whole(data).dtype == dtype
        assert any(note in n for n in data.notes), data.notes
    assert torch.equal(whole(open_data(eight / 255)), torch.from_numpy(eight)[:, None])
    assert whole(open_data(eight.astype(np.uint16) * 257)).max() > 32767


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none(bad):
    array = np.random.RandomState(0).rand(5, 6, 6)
    array[3, 2, 1] = bad
    with pytest.raises(UserError, match="NaN"):
        open_data(array)
    with pytest.raises(UserError, match="reach from"):
        open_data(np.full((5, 6, 6), -3))
    with pytest.raises(UserError):
        open_data(np.full((5, 6, 6), "a"))
    with pytest.raises(UserError, match="two different"):
        open_data(np.zeros((5, 6, 6), np.uint8))
    with pytest.raises(UserError, match="not a data set"):
        open_data(3)


def test_labels():
    x = np.random.RandomState(0).randint(0, 256, (9, 6, 6)).astype(np.uint8)
    data = from_arrays(x, [2, 2, 5, 5, 5, -1, 2, 5, 2])
    assert data.spec.classes == ("2", "5") and data.labels.tolist() == [0, 0, 1, 1, 1, -1, 0, 1, 0]
    assert from_arrays(x, np.array(list("abcabcabc"))).spec.classes == ("a", "b", "c")
    assert open_data((x, torch.arange(9))).labels.tolist() == list(range(9))
    assert open_data((x, torch.arange(9)[:, None])).labels.tolist() == list(range(9))
    with pytest.raises(UserError, match="one per image"):
        from_arrays(x, [1, 2])
    with pytest.raises(UserError, match="fractions"):
        from_arrays(x, np.linspace(0, 1, 9))


class Pairs(torch.utils.data.Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


class Stream(IterableDataset):
    def __init__(self, images):
        self.images = images

    def __iter__(self):
        return iter(self.images)


def test_torch_data_sets(monkeypatch):
    x = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8)
    y = torch.arange(30) % 4
    reference = open_data((x, y))
    for data in (
        TensorDataset(x, y),
        Pairs(x, y),
        Pairs(x / 255, y),
        Pairs([Image.fromarray(i.permute(1, 2, 0).numpy()) for i in x], y.tolist()),
        list(zip(x, y, strict=True)),
    ):
        opened = open_data(data)
        assert torch.equal(whole(opened), x) and torch.equal(opened.labels, y)
        assert torch.equal(opened.index("test"), reference.index("test"))
    assert torch.equal(whole(open_data(Stream(x))), x) and open_data(Stream(x)).labels is None
    monkeypatch.setattr(vaekit.data.pack, "IN_MEMORY_BYTES", 1000)
    assert torch.equal(whole(open_data(Pairs(x, y))), x)
    with pytest.raises(UserError, match="differ"):
        open_data([x[0], x[1, :, :5]])
    with pytest.raises(UserError, match="holds no images"):
        open_data([])
    with pytest.raises(UserError, match="An item of the data set is a str"):
        open_data(["a", "b"])


def test_pil_images_of_several_sizes_need_a_size():
    images = [Image.fromarray(np.random.RandomState(i).randint(0, 256, (10 + i, 12, 3)).astype(np.uint8)) for i in range(5)]
    with pytest.raises(UserError, match="differ"):
        open_data(images)
    assert open_data(images, size=8).spec.shape == (3, 8, 8)


def test_validation_data():
    x, v = np.random.RandomState(0).randint(0, 256, (2, 12, 6, 6)).astype(np.uint8)
    data = open_data((x, np.arange(12) % 3), validation_data=(v[:4], np.array([2, 3, 2, 3])))
    assert [data.size(s) for s in SPLITS] == [12, 4, 0]
    assert data.spec.classes == ("0", "1", "2", "3") and next(data.batches("validation", 9)).label.tolist() == [2, 3, 2, 3]
    assert torch.equal(next(data.batches("validation", 9)).x[:, 0], torch.from_numpy(v[:4]))
    assert list(data.batches("test", 4)) == []
    with pytest.raises(UserError, match="differ"):
        open_data(x, validation_data=v / 255)


def test_size_and_channels_of_arrays():
    x = np.random.RandomState(0).randint(0, 256, (9, 12, 10, 3)).astype(np.uint8)
    assert open_data(x, size=(6, 5)).spec.shape == (3, 6, 5)
    grey = open_data(x, channels=1)
    assert grey.spec.shape == (1, 12, 10)
    assert (whole(grey)[:, 0].numpy() - x @ np.array([0.299, 0.587, 0.114])).__abs__().max() <= 0.5
    assert open_data(x[..., 0], channels=3).spec.shape == (3, 12, 10)
    assert open_data(np.concatenate([x, x[..., :1]], -1), channels=3).spec.shape == (3, 12, 10)
    with pytest.raises(UserError, match="cannot be given 4"):
        open_data(x, channels=4)
    binary = open_data((x[..., 0] > 128), size=6)
    assert set(whole(binary).unique().tolist()) <= {0, 1}


def test_statistics():
    x = np.random.RandomState(0).randint(0, 256, (60, 8, 8, 3)).astype(np.uint8)
    x[..., 2] = 7
    data = open_data(x)
    train = data.pixels(data.index("train")).double()
    assert np.allclose(data.spec.mean, train.mean((0, 2, 3))) and data.spec.count == len(train)
    assert np.allclose(data.spec.std[:2], train.std((0, 2, 3), correction=0)[:2]) and data.spec.std[2] == 1.0


def test_fingerprint():
    x = np.random.RandomState(0).randint(0, 256, (20, 8, 8)).astype(np.uint8)
    first = open_data(x)
    assert open_data(x.copy()).fingerprint == first.fingerprint and first.name.startswith("array-")
    changed = x.copy()
    changed[3, 3, 3] ^= 1
    others = [
        open_data(changed),
        open_data(x, size=4),
        open_data(x, binarize=True),
        from_arrays(x, np.arange(20)),
        from_arrays(x, np.arange(20), condition="class"),
        open_data(x, limit=10),
    ]
    assert len({first.fingerprint, *(d.fingerprint for d in others)}) == 7


def test_npy_and_npz(tmp_path, monkeypatch):
    x = np.random.RandomState(0).randint(0, 256, (40, 8, 8)).astype(np.uint8)
    y = np.arange(40) % 3
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "b.npz", x=x, y=y, attributes=np.stack([y, y * 2], 1))
    np.savez_compressed(tmp_path / "c.npz", pictures=x)
    np.savez(tmp_path / "mnist.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    np.save(tmp_path / "o.npy", np.array([None, {}], object), allow_pickle=True)
    assert scan(np.concatenate([x[:5], x[2:4]])).duplicates == [["2", "5"], ["3", "6"]]
    for limit in (vaekit.data.pack.IN_MEMORY_BYTES, 100):
        monkeypatch.setattr(vaekit.data.pack, "IN_MEMORY_BYTES", limit)
        assert torch.equal(whole(open_data(tmp_path / "a.npy"))[:, 0], torch.from_numpy(x))
        labelled = open_data(tmp_path / "b.npz", condition="attributes")
        assert labelled.labels.tolist() == y.tolist() and labelled.spec.attributes == ("attribute 1", "attribute 2")
        assert next(labelled.batches("train", 3)).condition.shape == (3, 2)
        assert torch.equal(whole(open_data(tmp_path / "c.npz"))[:, 0], torch.from_numpy(x))
        assert open_data(tmp_path / "mnist.npz").size("test") == 10
    assert scan(tmp_path / "b.npz").classes == {"0": 14, "1": 13, "2": 13}
    for bad in ("o.npy", "text.npy", "text.npz"):
        if bad.startswith("text"):
            (tmp_path / bad).write_text("x")
        with pytest.raises(UserError):
            open_data(tmp_path / bad)
    np.savez(tmp_path / "two.npz", a=x, b=x)
    with pytest.raises(UserError, match="name the images"):
        open_data(tmp_path / "two.npz")


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def four(folder: Path, compress: bool = True) -> np.ndarray:
    folder.mkdir()
    rng = np.random.RandomState(0)
    x, y = rng.randint(0, 256, (120, 8, 8)).astype(np.uint8), rng.randint(0, 3, 120)
    for name, array in (("train-images-idx3", x[:100]), ("train-labels-idx1", y[:100]), ("t10k-images-idx3", x[100:]), ("t10k-labels-idx1", y[100:])):
        content = idx(array)
        (folder / f"{name}-ubyte{'.gz' if compress else ''}").write_bytes(gzip.compress(content) if compress else content)
    return x


def test_idx(tmp_path):
    x = four(tmp_path / "four")
    data = open_data(tmp_path / "four")
    assert [data.size(s) for s in SPLITS] == [84, 16, 20] and torch.equal(whole(data)[:, 0], torch.from_numpy(x))
    assert open_data(four_plain(tmp_path)).fingerprint == data.fingerprint
    one = open_data(tmp_path / "four" / "train-images-idx3-ubyte.gz")
    assert torch.equal(whole(one)[:, 0], torch.from_numpy(x[:100])) and one.spec.classes == ("0", "1", "2")
    cut = tmp_path / "cut-images-idx3-ubyte"
    cut.write_bytes(idx(x)[:-5])
    with pytest.raises(UserError, match="not a whole IDX"):
        open_data(cut)
    cut.write_bytes(b"\0")
    with pytest.raises(UserError, match="not a whole IDX"):
        open_data(cut)


def four_plain(folder: Path) -> Path:
    four(folder / "plain" if (folder / "plain").parent.exists() else folder, compress=False)
    return folder / "plain"


def test_digits():
    data = open_data("digits")
    assert data.spec.levels == 17 and data.spec.shape == (1, 8, 8) and len(data.spec.classes) == 10
    assert sum(data.size(s) for s in SPLITS) == 1797 and whole(data).max() == 16
    assert open_data("digits", size=16).spec.shape == (1, 16, 16) and open_data("digits", channels=3).spec.shape == (3, 8, 8)
    assert open_data("digits", binarize=True).spec.levels == 2
    with pytest.raises(UserError):
        open_data("digits:5")


def test_shapes():
    data = open_data("shapes:300")
    assert data.spec.levels == 2 and data.spec.shape == (1, 64, 64) and data.spec.classes == ("square", "ellipse", "heart")
    assert data.attributes.shape == (300, 5) and data.spec.attributes == ("shape", "scale", "orientation", "x", "y")
    x = whole(data).float()
    assert x[:, :, 0].max() == 0 and x[:, :, -1].max() == 0 and x.flatten(1).sum(1).min() > 20  # whole, and inside
    grid = torch.arange(64.0)
    for axis, column in ((2, 3), (1, 4)):
        centre = (x[:, 0] * (grid[None, None, :] if axis == 2 else grid[None, :, None])).sum((1, 2)) / x.sum((1, 2, 3))
        assert torch.corrcoef(torch.stack([centre, data.attributes[:, column]]))[0, 1] > 0.99
    assert torch.equal(whole(open_data("shapes:300")), whole(data))
    for bad in ("shapes:1", "shapes:x", "shapes:99999999"):
        with pytest.raises(UserError):
            open_data(bad)


fashion = pytest.mark.skipif(not fashion_module.holds_four(fashion_module.DEBIAN), reason="the package dataset-fashion-mnist is not here")


@fashion
def test_fashion_mnist():
    data = open_data("fashion-mnist", binarize=True)
    assert [data.size(s) for s in SPLITS] == [50_000, 10_000, 10_000] and data.spec.classes[0] == "T-shirt/top" and data.spec.levels == 2
    grey = data.pixels(torch.arange(50_000, 70_000)).numpy().reshape(20_000, -1) / 255
    stream = np.random.RandomState(777)
    validation, test = stream.binomial(1, grey[:10_000]), stream.binomial(1, grey[10_000:])
    for split, bits in (("validation", validation), ("test", test)):
        assert np.array_equal(torch.cat([b.x for b in data.batches(split, 4096)]).flatten(1).numpy(), bits)
    p = grey[10_000:]
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum(p * np.log(p), 1) - np.nansum((1 - p) * np.log1p(-p), 1)
    assert abs(entropy.mean() - 189.86) < 0.005
    few = open_data("fashion-mnist", binarize=True, limit=700)
    assert [few.size(s) for s in SPLITS] == [500, 100, 100]
    lookup = {row.tobytes(): i for i, row in enumerate(np.round(grey * 255).astype(np.uint8))}
    for split in ("validation", "test"):
        batch = next(few.batches(split, 5))
        places = [lookup[row.numpy().tobytes()] for row in few.pixels(batch.index).flatten(1)]
        assert np.array_equal(batch.x.flatten(1).numpy(), np.concatenate([validation, test])[places])


def test_fashion_mnist_is_fetched_and_checked(tmp_path, monkeypatch):
    four(tmp_path / "server")
    sums = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in (tmp_path / "server").iterdir()}
    url = (tmp_path / "server").as_uri()
    fashion_module.fetch(tmp_path / "got", url, sums)
    assert open_data(tmp_path / "got").size("test") == 20
    with pytest.raises(UserError, match="MD5"):
        fashion_module.fetch(tmp_path / "wrong", url)
    assert not list((tmp_path / "wrong").glob("*.gz"))
    with pytest.raises(UserError, match="cannot be reached"):
        fashion_module.fetch(tmp_path / "none", (tmp_path / "nowhere").as_uri())
    monkeypatch.setenv("VAEKIT_FASHION_MNIST", str(tmp_path / "got"))
    assert open_data("fashion-mnist").size("train") == 84
    monkeypatch.setenv("VAEKIT_FASHION_MNIST", str(tmp_path))
    with pytest.raises(UserError, match="four files"):
        open_data("fashion-mnist")
