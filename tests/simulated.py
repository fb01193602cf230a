"""A second device in the processor's memory, `sim`: what mixes up devices there is refused as on a GPU, and the figures are those of the processor.

`torch.device("sim")` works inside `with simulated():`, and is known to the process from then on. A tensor on it holds one on the CPU, which does the
arithmetic; random numbers are the CPU generator's. An operation between it and a tensor with dimensions on the CPU raises, and so does `.numpy()`.
Nothing goes backward on it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

CPU = torch.device("cpu")
MOVES = ("aten::_to_copy", "aten::copy_")
"""Operations between devices."""
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
"""Operations whose indices may be on the CPU."""


class _Backend(_DummyBackendModule):
    """What PyTorch asks of a device's module, `torch.sim`."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def manual_seed(self, seed: int) -> None:
        pass

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.zeros(1)

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        pass


class SimTensor(Tensor):
    """A tensor on `sim`, around one on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "SimTensor":
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype, device="sim:0"
        )
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"SimTensor({self.inner})"


class _Factories(TorchDispatchMode):
    """Sees to `device="sim"` where no tensor on it is among the arguments."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    flat, spec = tree_flatten((args, kwargs))
    sims = {id(x.inner): x for x in flat if isinstance(x, SimTensor)}
    name = func.name().split(".")[0]
    asked = [torch.device(x).type for x in flat if isinstance(x, torch.device)]
    if sims and name not in MOVES:
        checked = tree_flatten((args[:1], args[2:], kwargs))[0] if name in INDEXED else flat
        others = [x for x in checked if isinstance(x, Tensor) and not isinstance(x, SimTensor) and x.dim() > 0]
        if others:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found sim and cpu in {func}")
    inner = [x.inner if isinstance(x, SimTensor) else CPU if isinstance(x, torch.device) else x for x in flat]
    inner_args, inner_kwargs = tree_unflatten(inner, spec)
    result = func(*inner_args, **inner_kwargs)
    if name == "aten::copy_":
        return args[0]
    if (asked and asked[0] == "cpu") or not (sims or "sim" in asked):
        return result

    def wrapped(x: Any) -> Any:
        """In-place operations give back the tensor that they were given."""
        return (sims[id(x)] if id(x) in sims else SimTensor(x)) if isinstance(x, Tensor) else x

    return tree_map(wrapped, result)


_registered = False


@contextmanager
def simulated() -> Iterator[torch.device]:
    """The device."""
    global _registered
    if not _registered:
        _setup_privateuseone_for_python_backend("sim", backend_module=_Backend())
        _registered = True
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Factories():
            yield torch.device("sim", 0)
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
