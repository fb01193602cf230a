"""Where rounding would show."""

import torch
from torch import Tensor


def full_precision(like: Tensor) -> torch.autocast:
    """Autocast is off inside, on the device of this tensor: a density is not computed in 16 bits."""
    return torch.autocast(like.device.type, enabled=False)


def double(x: Tensor) -> Tensor:
    """The tensor in 64 bits, or in 32 on a device that has no more."""
    return x.float() if x.device.type == "mps" else x.double()
