"""Binary pixels drawn with the grey value as the probability, by a hash of (seed, image, pass, pixel).

No state and no order: an image's bits do not depend on the batch it is in, nor on the number of processes.
"""

from typing import Any

import numpy as np
import torch

EVALUATION_SEED = 777  # of validation and test bits, which are drawn once
_GOLDEN = 0x9E3779B97F4A7C15
_counters = np.empty(0, np.uint32)


def _mix64(x: Any) -> Any:
    """A bijection of uint64 whose output bits each depend on all input bits (the finalizer of splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _mix32(h: np.ndarray, t: np.ndarray) -> None:
    """A bijection of uint32 with low bias, in place; `t` is scratch of the same shape."""
    for shift, factor in ((16, 0x21F0AAAD), (15, 0xD35A2D97)):
        np.right_shift(h, np.uint32(shift), out=t)
        np.bitwise_xor(h, t, out=h)
        np.multiply(h, np.uint32(factor), out=h)
    np.right_shift(h, np.uint32(15), out=t)
    np.bitwise_xor(h, t, out=h)


def random_bits(index: np.ndarray, pixels: int, seed: int, epoch: int) -> np.ndarray:
    """[B] row numbers -> [B, pixels] uniform uint32, a function of (seed, epoch, row, pixel) alone."""
    global _counters
    if len(_counters) < pixels:
        _counters = np.arange(pixels, dtype=np.uint32) * np.uint32(0x9E3779B9)
    with np.errstate(over="ignore"):
        key = _mix64(np.uint64(seed % 2**64) + np.uint64(_GOLDEN))
        key = _mix64(key ^ _mix64(np.uint64(epoch % 2**64) + np.uint64(_GOLDEN)))
        key = _mix64(key + _mix64(index.astype(np.uint64) * np.uint64(_GOLDEN)))
        h = np.bitwise_xor(_counters[:pixels], key.astype(np.uint32)[:, None])
        scratch = np.empty_like(h)
        _mix32(h, scratch)
        np.bitwise_xor(h, (key >> np.uint64(32)).astype(np.uint32)[:, None], out=h)
        _mix32(h, scratch)
    return h


def binarize(x: torch.Tensor, index: torch.Tensor, levels: int | None, *, seed: int, epoch: int) -> torch.Tensor:
    """Raw values [B, C, H, W] -> bits of the same shape, uint8, with P(1) = x / (levels - 1), or x itself for floats in [0, 1].

    The probabilities are exact to 2^-24 (2^-32 for more than 8 bits); 0 and the highest level are certain.
    """
    values = x.numpy().reshape(len(x), -1)
    h = random_bits(index.numpy(), values.shape[1], seed, epoch)
    if levels is None:
        bits = h < np.rint(values.astype(np.float64) * 2.0**32)
    elif levels <= 256:
        np.right_shift(h, np.uint32(8), out=h)
        np.multiply(h, np.uint32(levels - 1), out=h)
        grey = values.astype(np.uint32)
        np.left_shift(grey, np.uint32(24), out=grey)
        bits = np.less(h, grey)
    else:
        bits = h.astype(np.uint64) * np.uint64(levels - 1) < values.astype(np.uint64) << np.uint64(32)
    return torch.from_numpy(bits.view(np.uint8).reshape(x.shape))
