"""One image file to one array: formats, modes, transparency, orientation, resampling."""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageOps

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"}
FITS = ("crop", "pad", "stretch")
_LARGE = 8_000_000  # pixels from which images are worked on in bands, and by one thread at a time, to bound the memory
_turn = threading.Lock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what decoders have to say of large images and odd metadata. For the thread that starts others: filters are shared by all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def opened(source: Any) -> Iterator[tuple[Image.Image, str]]:
    """The first frame of the file, decoded and upright, in one of the modes 1, L, LA, RGB, RGBA and I;16, and the mode it is stored in.

    `source` is a path or a file object. An alpha channel is kept only where some pixel is not opaque.
    Raises OSError, ValueError, SyntaxError and the like for what cannot be read: `reason` says it in words.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(Image.open(source))
        if file.width * file.height > _LARGE:
            stack.enter_context(_turn)
        mode = file.mode
        file.load()
        yield canonical(_upright(file)), mode


def _upright(image: Image.Image) -> Image.Image:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # a broken EXIF block says nothing of the orientation; the pixels are good
        return image
    return image


def canonical(image: Image.Image) -> Image.Image:
    """The image in one of the modes of `open_image`; an alpha channel that is opaque everywhere is dropped."""
    mode = image.mode
    if mode.startswith("I"):
        return _sixteen(np.asarray(image))
    if mode == "F":
        raise ValueError("floating-point pixels: convert it to 8 or 16 bits, or give the values as an array (.npy)")
    if mode in ("P", "PA", "RGBa", "La") or "transparency" in image.info:
        clear = mode != "P" or "transparency" in image.info
        grey = mode in ("L", "La", "1")
        image = image.convert(("LA" if mode != "1" else "L") if grey else "RGBA" if clear else "RGB")
    elif mode not in ("1", "L", "LA", "RGB", "RGBA"):
        image = image.convert("RGB")
    if image.mode in ("LA", "RGBA") and image.getchannel("A").getextrema()[0] == 255:
        image = image.convert(image.mode[:-1])
    return image


def _sixteen(values: np.ndarray) -> Image.Image:
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit pixels outside of 0..65535: convert it to 16 bits")
    return Image.fromarray(np.ascontiguousarray(values.astype(np.uint16)))


def reason(error: BaseException) -> str:
    """Why a file could not be read, in a few words without its path."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        return "the file is gone"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, Image.DecompressionBombError):
        return "the image is too large (more than 178 million pixels)"
    if "cannot identify image file" in text:
        return "not an image, or damaged at its beginning"
    if "truncated" in text.lower():
        return "cut off before its end"
    return (text.splitlines() or [""])[0][:120] or type(error).__name__


def bands(image: Image.Image, multiple: int = 1) -> Iterator[Image.Image]:
    """The image in horizontal bands of a bounded number of pixels; all but the last have a height that is a multiple of `multiple`."""
    step = max(1, _LARGE // 4 // image.width // multiple) * multiple
    if step >= image.height:
        yield image
        return
    for top in range(0, image.height, step):
        yield image.crop((0, top, image.width, min(top + step, image.height)))


def is_grey(image: Image.Image) -> bool:
    """Whether the image, as `opened` gave it and seen on white, has no colour."""
    return image.mode not in ("RGB", "RGBA") or all(_is_grey(band) for band in bands(image))


def _is_grey(image: Image.Image) -> bool:
    red, green, blue = on_white(image).split()
    return ImageChops.difference(red, green).getbbox() is None and ImageChops.difference(red, blue).getbbox() is None


def on_white(image: Image.Image) -> Image.Image:
    """L or RGB: what is transparent shows white."""
    if image.mode not in ("LA", "RGBA"):
        return image
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    white.alpha_composite(image.convert("RGBA"))
    return white.convert(image.mode[:-1])


def to_array(image: Image.Image, *, size: tuple[int, int], fit: str, channels: int, levels: int, fill: str) -> np.ndarray:
    """An image of `opened` as ``[channels, H, W]``: uint8, or uint16 where `levels` is more than 256.

    Values are ``0 .. levels - 1``. With two or four channels the last one is alpha, and a border is transparent.
    """
    sixteen = levels > 256
    if image.mode == "I;16" and not sixteen:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "1":
        image = image.convert("L")
    image = _reduced(image, size)
    if sixteen:
        if image.mode != "I;16":
            image = Image.fromarray(np.asarray(on_white(image).convert("L")).astype(np.uint16) * 257)
    elif channels in (2, 4):
        image = image.convert("RGBA").convert("LA" if channels == 2 else "RGBA")
    else:
        image = on_white(image).convert("L" if channels == 1 else "RGB")
    values = np.asarray(fit_image(image, size, fit, fill))
    values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    if len(values) != channels:  # 16 bits in several channels
        values = np.repeat(values, channels, axis=0)
    if levels not in (256, 65536):
        values = np.rint(values.astype(np.float32) * ((levels - 1) / (65535 if sixteen else 255))).astype(np.uint16 if sixteen else np.uint8)
    return np.ascontiguousarray(values)


def fit_image(image: Image.Image, size: tuple[int, int], fit: str, fill: str) -> Image.Image:
    """The image at `size` (height, width): its centre, all of it on a border of colour `fill`, or stretched. Antialiased."""
    height, width = size
    if image.size == (width, height):
        return image
    if image.mode == "I;16":
        real = fit_image(Image.fromarray(np.asarray(image).astype(np.float32)), size, fit, fill)
        return Image.fromarray(np.rint(np.clip(np.asarray(real), 0, 65535.0)).astype(np.uint16))
    w, h = image.size
    if fit == "stretch":
        return image.resize((width, height), Image.Resampling.LANCZOS)
    if fit == "crop":
        scale = min(w / width, h / height)
        cw, ch = scale * width, scale * height
        left, top = max(0.0, (w - cw) / 2), max(0.0, (h - ch) / 2)  # rounding can make them negative
        return image.resize((width, height), Image.Resampling.LANCZOS, box=(left, top, min(left + cw, w), min(top + ch, h)))
    scale = min(width / w, height / h)
    inner = (max(1, min(width, round(w * scale))), max(1, min(height, round(h * scale))))
    canvas = Image.new(image.mode, (width, height), _border(image.mode, fill))
    canvas.paste(image.resize(inner, Image.Resampling.LANCZOS), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def _reduced(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A large image averaged over squares first, so far that the final resampling still has three pixels for each of its own."""
    factor = min(image.width // size[1], image.height // size[0]) // 3
    if image.width * image.height <= _LARGE or factor < 2 or image.mode == "I;16":
        return image
    small = Image.new(image.mode, (-(-image.width // factor), -(-image.height // factor)))
    top = 0
    for band in bands(image, factor):
        premultiplied = band.convert({"RGBA": "RGBa", "LA": "La"}.get(band.mode, band.mode))
        part = premultiplied.reduce(factor).convert(image.mode)
        small.paste(part, (0, top))
        top += part.height
    return small


def _border(mode: str, fill: str) -> Any:
    if mode == "F":
        return 65535.0 if fill == "white" else 0.0
    level = 255 if fill == "white" else 0
    return {"L": level, "RGB": (level,) * 3, "LA": (level, 0), "RGBA": (level, level, level, 0)}[mode]


def read_array(path: Path, **options: Any) -> np.ndarray:
    """The file as an array ``[C, H, W]``; see `to_array`."""
    with opened(path) as (image, _):
        return to_array(image, **options)
