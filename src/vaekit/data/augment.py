"""Random changes of training images, by kornia: flip, crop, rotate, colour."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch

from vaekit.errors import UserError

NAMES = ("flip", "crop", "rotate", "colour")


def parse(augment: str | Iterable[str] | None) -> tuple[str, ...]:
    """``"flip,crop"`` or a list -> names in a fixed order. Raises `UserError` for a name that is not known."""
    if not augment:
        return ()
    names = [n.strip().lower() for n in (augment.split(",") if isinstance(augment, str) else augment)]
    names = ["colour" if n == "color" else n for n in names if n]
    for name in names:
        if name not in NAMES:
            raise UserError(f"The augmentation '{name}' is not known: choose among {', '.join(NAMES)}.")
    return tuple(n for n in NAMES if n in names)


@lru_cache(maxsize=8)
def _pipeline(names: tuple[str, ...], size: tuple[int, int], coloured: bool) -> Any:
    try:
        import kornia.augmentation as K
    except ImportError:
        raise UserError("Augmentation needs kornia: install it with  pip install 'vaekit[augment]'  or leave --augment out.") from None
    pad = max(1, max(size) // 8)
    parts = {
        "flip": lambda: K.RandomHorizontalFlip(p=0.5),
        "crop": lambda: K.RandomCrop(size, padding=min(pad, min(size) - 1), padding_mode="reflect" if min(size) > 1 else "constant", p=1.0),
        "rotate": lambda: K.RandomRotation(15.0, p=1.0),
        "colour": lambda: K.ColorJiggle(0.2, 0.2, 0.2 if coloured else 0.0, 0.05 if coloured else 0.0, p=1.0),
    }
    return [(name, parts[name]()) for name in names]


def augment(x: torch.Tensor, names: tuple[str, ...], levels: int | None, *, seed: int, position: int) -> torch.Tensor:
    """Raw values [B, C, H, W] changed at random and rounded back to raw values of the same type.

    The changes are a function of (seed, position). Floats (`levels` None) have no colours: "colour" is refused for them.
    """
    channels = x.shape[1]
    if "colour" in names and levels is None:
        raise UserError("The augmentation 'colour' is for pixels, and these are continuous values: leave it out.")
    pipeline = _pipeline(names, (x.shape[2], x.shape[3]), channels >= 3)
    top = 1.0 if levels is None else float(levels - 1)
    real = x.to(torch.float32) / top
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((seed * 0x9E3779B1 + position * 0x85EBCA77 + 0xC2B2AE3D) % 2**63)
        for name, change in pipeline:
            real = _recolour(real, change) if name == "colour" else change(real)
    if levels is None:
        return real
    return (real.clamp(0, 1) * top).round().to(x.dtype)


def _recolour(x: torch.Tensor, change: Any) -> torch.Tensor:
    """Colour changes of the colour channels; a last channel of two or four is alpha and stays."""
    colours = 3 if x.shape[1] in (3, 4) else 1 if x.shape[1] <= 2 else 0
    if not colours:
        return x
    changed = change(x[:, :colours].expand(-1, 3, -1, -1))[:, :colours]
    return torch.cat([changed, x[:, colours:]], 1)
