"""Where a finished model computes."""

import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vaekit.errors import UserError


def device_of(name: str | torch.device) -> torch.device:
    """The device of this name ("cpu", "cuda", "cuda:1", "mps", ...); "auto" is a CUDA GPU that works, each process its own, else the processor.

    Raises `UserError` for a device that there is not.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if (fault := _fault(device)) is not None:
            warnings.warn(f"The GPU cannot be used ({fault}): the processor takes its place.", stacklevel=2)
            return torch.device("cpu")
        return device
    try:
        device = torch.device(name)
        fault = "it holds no values" if device.type == "meta" else _fault(device)
    except RuntimeError as error:
        fault = _sentence(error)
    if fault is not None:
        raise UserError(f"There is no device '{name}' here ({fault}): choose cpu, or auto.")
    return device


def device_name(device: torch.device) -> str:
    """What computes there: the GPU's name, or the processor's; matrix units are named, since they nearly double the images of a minute."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = (about.get("model name") or platform.processor() or platform.machine()).replace("(R)", "").replace("(TM)", "")
    return name + (" with AMX" if "amx_bf16" in about.get("flags", "").split() else "")


def _fault(device: torch.device) -> str | None:
    """Why this device cannot compute, if it cannot."""
    try:
        torch.ones(2, device=device).sum().item()
    except (RuntimeError, AssertionError, ValueError) as error:  # a build without the device asserts
        return _sentence(error)
    return None


def _sentence(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


@contextmanager
def unrounded(device: torch.device | None) -> Iterator[None]:
    """Convolutions on this device do not round float32 to 10 bits for a while, as they do on a GPU by default."""
    cudnn = torch.backends.cudnn
    try:
        before = device is not None and device.type == "cuda" and cudnn.allow_tf32
    except RuntimeError:  # set for convolutions alone, in PyTorch's newer way: that is left as it is
        before = False
    if not before:
        yield
        return
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = True
