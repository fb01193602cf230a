"""The state of a run, in one file that is never half written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.errors import UserError
from vaekit.saving import load_tensors, remove_leftovers, save_tensors


class Checkpoint:
    """`checkpoints/last.safetensors`: the tensors of every module, of every optimizer and of the average; the counters as metadata."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.safetensors"
        if folder.exists():
            remove_leftovers(folder)

    def exists(self) -> bool:
        return self.path.exists()

    def save(self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer], counters: Mapping[str, Any]) -> None:
        tensors: dict[str, Tensor] = {}
        for name, module in modules.items():
            # A tensor that two names share is written under each: safetensors refuses shared memory.
            tensors |= {f"{name}/{k}": v.clone() for k, v in module.state_dict().items()}
        for name, optimizer in optimizers.items():
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{name}/{index}/{k}": v for k, v in state.items() if isinstance(v, Tensor)}
        save_tensors(self.path, tensors, {"counters": dict(counters)})

    def load(self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Any]:
        """Puts everything back in place and returns the counters."""
        tensors, metadata = load_tensors(self.path)
        for name, module in modules.items():
            module.load_state_dict(_under(tensors, f"{name}/"))
        for name, optimizer in optimizers.items():
            description = optimizer.state_dict()
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(tensors, f"optimizer.{name}/").items():
                index, _, entry = key.partition("/")
                state.setdefault(int(index), {})[entry] = value
            _refuse_others(optimizer, state, self.path)
            optimizer.load_state_dict({"state": state, "param_groups": description["param_groups"]})
            _lay_out(optimizer)
        return metadata["counters"]


def _refuse_others(optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Tensor]], path: Path) -> None:
    """Raises `UserError` for averages of other parameters: they are kept by number, and another version may number them otherwise."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, entries in state.items():
        own = parameters[index].shape if index < len(parameters) else None
        if any(value.dim() > 0 and value.shape != own for value in entries.values()):
            raise UserError(f"{path} is of another version of vaekit, whose optimizer had its parameters in another order: train in another folder.")


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Gives the averages of each parameter its memory layout (channels-last, say): fused optimizers go through all of them in the order of memory."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
