"""Files that are never half written, and models in one file: weights and the JSON that builds them, with no pickle."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vaekit import __version__
from vaekit.errors import UserError
from vaekit.part import Part, build, spec

FORMAT = "vaekit 1"


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a temporary file beside `path`, forces it to disk, and renames it: at any moment `path` is the old file or the new one.

    Raises `UserError` when the disk is full; the old file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if os.name == "posix":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        if disk_full(error):
            raise UserError(
                f"The disk is full: {path} was not written, and what was there before is intact. Free some space and run the command again."
            ) from error
        if isinstance(error, PermissionError):
            raise UserError(f"{path} cannot be written: permission denied.") from error
        raise


def disk_full(error: BaseException) -> bool:
    """Whether there was no room for a file, on the disk or within the user's quota."""
    text = str(error)
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "quota exceeded" in text


def remove_leftovers(folder: Path) -> None:
    """Deletes what a killed process left half written in this folder."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def save_json(path: Path, value: Any) -> None:
    write_atomically(path, lambda p: _dump(p, json.dumps(value, indent=2, allow_nan=False) + "\n"))


def save_text(path: Path, text: str) -> None:
    write_atomically(path, lambda p: _dump(p, text))


def _dump(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="replace")  # a file's name need not be text


def copy_file(source: Path, target: Path) -> None:
    write_atomically(target, lambda p: _copy(source, p))


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """A safetensors file; each value of the metadata is JSON."""
    plain = {k: v.detach().to("cpu", copy=False).contiguous() for k, v in tensors.items()}
    write_atomically(path, lambda p: save_file(plain, p, {k: json.dumps(v) for k, v in metadata.items()}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a safetensors file; raises `UserError` if it is damaged or something else."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = {k: json.loads(v) for k, v in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not a file that vaekit wrote, or it is damaged: {error}.") from error
    except FileNotFoundError as error:
        raise UserError(f"There is no file {path}.") from error


def save_model(path: Path, model: Part, weights: Mapping[str, Tensor] | None = None, **metadata: Any) -> None:
    """Weights (the model's own if none are given) and spec in one safetensors file; `metadata` (JSON values) goes beside the spec."""
    weights = model.state_dict() if weights is None else weights
    save_tensors(path, weights, {"format": FORMAT, "version": __version__, "spec": spec(model), **metadata})


def load_model(path: Path) -> tuple[Any, dict[str, Any]]:
    """The model in eval mode, and the metadata."""
    tensors, metadata = load_tensors(path)
    if "spec" not in metadata:
        raise UserError(f"{path} holds weights but not how the model is built: it was not written by vaekit.")
    with torch.random.fork_rng(devices=[]):
        model = build(metadata["spec"])
    model.load_state_dict(tensors)
    return model.eval(), metadata
