"""How maps lie in memory, and that what is freed is kept."""

import ctypes
import os
import sys

import torch
from jaxtyping import Float
from torch import Tensor, nn

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""The names that glibc's malloc.h gives these numbers."""


def keep_freed_memory() -> None:
    """Tells glibc to keep what is freed (up to 1 GB) and to map only blocks above 32 MB; does nothing elsewhere.

    Otherwise each pass gives its activations back to the system, and pays a page fault for each 4 kB when the next one asks for them again.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, 1 << 30)
        mallopt(_TOP_PAD, 64 << 20)


def ask_for_huge_pages() -> None:
    """Asks PyTorch for pages of 2 MB under maps of at least that size, where the system leaves it to the program; heard before the first tensor only.

    With pages of 4 kB a step waits for the processor's table of them: 4 to 6 % of `pixel-vae`'s.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def channels_last(module: nn.Module) -> None:
    """Puts the kernels of a module into channels-last order, which many of a processor's kernels prefer; its maps follow (`laid_out`)."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)


def laid_out(x: Float[Tensor, "N C H W"], like: Float[Tensor, "O I k l"]) -> Float[Tensor, "N C H W"]:
    """The map in the memory layout of a kernel or of another map, which dense layers, views and `pixel_unshuffle` lose.

    An operation between maps of two layouts takes several times as long, and hands one of them on: backward, nearly every activation met its gradient
    in the other layout.
    """
    last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    return x.to(memory_format=torch.channels_last) if last else x
