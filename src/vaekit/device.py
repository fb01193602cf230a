"""Where a finished model computes."""

import torch

from vaekit.errors import UserError


def device_of(name: str | torch.device) -> torch.device:
    """The device of this name ("cpu", "cuda", "cuda:1", "mps", ...); "auto" is the GPU where PyTorch sees one, else the processor.

    Raises `UserError` for a device that there is not.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(f"There is no device '{name}' here ({str(error).splitlines()[0].rstrip('.')}): choose cpu, or auto.") from error
    return device
