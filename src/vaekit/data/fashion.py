"""Fashion-MNIST: 70,000 grey images 28x28 of ten kinds of clothes, with its official split."""

import contextlib
import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data.arrayfiles import holds_four, read_four
from vaekit.data.arrays import ArraySet
from vaekit.data.cache import cache_folder, lock, write_atomically, writing
from vaekit.errors import UserError

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
OFFICIAL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where the package dataset-fashion-mnist puts it
CHECKSUMS = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


def load(progress: Callable[[int, int], Any] | None = None) -> ArraySet:
    """From ``$VAEKIT_FASHION_MNIST``, the system's package, or the cache, where it is fetched to if need be."""
    named = os.environ.get("VAEKIT_FASHION_MNIST")
    if named and not holds_four(Path(named)):
        raise UserError(f"VAEKIT_FASHION_MNIST is {named}, which does not hold the four files {', '.join(CHECKSUMS)}.")
    folder = Path(named) if named else DEBIAN if holds_four(DEBIAN) else cache_folder("fashion-mnist")
    if not holds_four(folder):
        fetch(folder, progress=progress)
    return read_four(folder, "fashion-mnist", CLASSES)


def fetch(folder: Path, source: str = OFFICIAL, checksums: dict[str, str] | None = None, progress: Callable[[int, int], Any] | None = None) -> None:
    """Fetches the four files from the URL `source` into `folder`; each is kept only if its MD5 sum is right.

    Raises `UserError` if the source cannot be reached or a sum is wrong.
    """
    checksums = checksums or CHECKSUMS
    with lock(folder / "fetch.lock"):
        for number, (name, md5) in enumerate(checksums.items()):
            target = folder / name
            if not (target.is_file() and hashlib.md5(target.read_bytes()).hexdigest() == md5):
                content = _get(source.rstrip("/") + "/" + name)
                if hashlib.md5(content).hexdigest() != md5:
                    raise UserError(
                        f"What {source} gave as {name} is not Fashion-MNIST (its MD5 sum is wrong): "
                        "try again later, or put the file into a folder and name that."
                    )
                write_atomically(target, content)
            if progress:
                progress(number + 1, len(checksums))


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read()
    except (OSError, urllib.error.URLError) as error:
        raise UserError(
            f"Fashion-MNIST is not on this machine and {url} cannot be reached ({getattr(error, 'reason', error)}): "
            "connect it, or set VAEKIT_FASHION_MNIST to a folder with the four files."
        ) from error


def published_bits(images: ArraySet) -> tuple[np.ndarray, np.ndarray]:
    """The fixed binarization of the validation and the test images: rows [20000] of the set, and bits [20000, 1, 28, 28].

    ``RandomState(777).binomial(1, x / 255)``, validation first, then test, from one stream.
    """
    rows = np.arange(50_000, 70_000)
    memory = cache_folder("bits") / "fashion-mnist-777.bin"
    size = len(rows) * 28 * 28 // 8
    with contextlib.suppress(OSError):
        packed = np.fromfile(memory, np.uint8)
        if len(packed) == size:
            return rows, np.unpackbits(packed).reshape(-1, 1, 28, 28)
    stream = np.random.RandomState(777)
    bits = np.empty((len(rows), 1, 28, 28), np.uint8)
    for start in range(0, len(rows), 1000):  # the stream is the same as in one draw
        grey = images.take(rows[start : start + 1000]).astype(np.float64) / 255
        bits[start : start + 1000, 0] = stream.binomial(1, grey)
    with writing(memory):
        write_atomically(memory, np.packbits(bits).tobytes())
    return rows, bits
