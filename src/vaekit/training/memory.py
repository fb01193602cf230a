"""Memory that a training step frees is wanted again by the next one."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""The names that glibc's malloc.h gives these numbers."""


def keep_freed_memory() -> None:
    """Tells glibc to keep what is freed (up to 1 GB) and to map only blocks above 32 MB; does nothing elsewhere.

    Otherwise each step gives its activations back to the system, and pays a page fault for each 4 kB when it asks for them again.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, 1 << 30)
        mallopt(_TOP_PAD, 64 << 20)
