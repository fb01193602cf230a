"""Parts remember how they were built: `spec` gives nested JSON, `build` the same architecture.

A part is an `nn.Module` whose constructor takes JSON values (numbers, strings, lists, dictionaries, None) or other parts.
That is the whole configuration system: there are no config classes, and no code is ever pickled.
"""

import abc
import importlib
import inspect
from collections.abc import Iterator
from typing import Any, ClassVar

from torch import nn

from vaekit.errors import UserError

_REGISTRY: dict[str, type["Part"]] = {}


class _Remembering(abc.ABCMeta):
    """Records the constructor's arguments of each part as it is made (copies and unpickled parts keep their record)."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(cls.__init__).bind(None, *args, **kwargs)  # type: ignore[misc]
        bound.apply_defaults()
        arguments = dict(list(bound.arguments.items())[1:])
        part = super().__call__(*args, **kwargs)
        object.__setattr__(part, "_arguments", arguments)
        return part


class Part(nn.Module, metaclass=_Remembering):
    """A piece of a model that can be written down as JSON and built again.

    Subclasses are either abstract (an interface) or final. Every concrete class is registered under its name; a class from
    outside vaekit is written down as ``module:Class`` and imported from there when it is built again.
    """

    _arguments: dict[str, Any]
    undecayed: ClassVar[tuple[str, ...]] = ()
    """Its parameters that are places and not weights (codes, means, pseudo-images): weight decay would draw them to 0."""

    def progress(self, fraction: float) -> dict[str, float]:
        """Moves the part's schedules to this fraction of the run, outside of the graph; returns their values for the log."""
        return {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = _name(cls)
        if name in _REGISTRY and ":" not in name:
            raise TypeError(f"There are two parts called {name}: a saved model would not know which is meant.")
        _REGISTRY[name] = cls


def _name(cls: type) -> str:
    return cls.__name__ if cls.__module__.startswith("vaekit.") else f"{cls.__module__}:{cls.__qualname__}"


def registered(interface: type[Part] = Part) -> Iterator[type[Part]]:
    """The concrete parts of vaekit that implement `interface`, in the order of their names."""
    for name in sorted(_REGISTRY):
        cls = _REGISTRY[name]
        if issubclass(cls, interface) and not inspect.isabstract(cls) and ":" not in name:
            yield cls


def spec(part: Part) -> dict[str, Any]:
    """The part as JSON: ``{"part": name, "arguments": {...}}``, nested. A sub-part that was replaced later is described as it is now."""
    arguments = {k: _to_json(_now(part, k, v), f"{_name(type(part))}.{k}") for k, v in part._arguments.items()}
    return {"part": _name(type(part)), "arguments": arguments}


def _now(part: Part, name: str, given: Any) -> Any:
    current = part._modules.get(name, given)
    return current if isinstance(current, Part) or isinstance(given, Part) else given


def build(description: Any) -> Any:
    """The architecture that `spec` wrote down, with fresh weights.

    Raises `UserError` for a part that this version does not know.
    """
    if isinstance(description, list):
        return [build(item) for item in description]
    if not isinstance(description, dict):
        return description
    if "part" not in description:
        return {k: build(v) for k, v in description.items()}
    name = description["part"]
    if name not in _REGISTRY and ":" in name:
        module = name.partition(":")[0]
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(
                f"The model has a part '{name}' of your own, and {module} cannot be imported ({error}): install it, or name its folder in PYTHONPATH."
            ) from error
    if name not in _REGISTRY:
        raise UserError(
            f"The model names a part '{name}' that this version of vaekit does not have: upgrade vaekit; "
            "a class of your own has to be in a module (and not in a notebook), for it to be found again."
        )
    return _REGISTRY[name](**{k: build(v) for k, v in description["arguments"].items()})


def _to_json(value: Any, where: str) -> Any:
    if isinstance(value, Part):
        return spec(value)
    if isinstance(value, (list, tuple)):
        return [_to_json(item, where) for item in value]
    if isinstance(value, dict):
        return {str(k): _to_json(v, where) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{where} is a {type(value).__name__}: a part's constructor takes JSON values or other parts, so that it can be saved.")
