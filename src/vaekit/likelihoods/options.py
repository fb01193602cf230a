"""The options of `for_data`, checked."""

from collections.abc import Mapping
from typing import Any

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError

# Which likelihoods have which option: kept here so that each refusal can say where the option belongs.
_OWNERS = {
    "sigma": ("gaussian", "laplace"),
    "scale": ("laplace",),
    "components": ("mixture", "causal"),
}


def given(name: str, options: Mapping[str, object], allowed: tuple[str, ...] = ()) -> dict[str, Any]:
    """The options that were given (those that are None were not).

    Raises `UserError` for an option that the likelihood `name` does not have.
    """
    chosen = {key: value for key, value in options.items() if value is not None}
    for key in chosen:
        if key in allowed:
            continue
        if key in _OWNERS:
            raise UserError(f"{key} is an option of {' and '.join(_OWNERS[key])}, and not of {name}.")
        has = f"has {' and '.join(allowed)}" if allowed else "has none"
        raise UserError(f"'{key}' is not an option of a likelihood: {name} {has}.")
    return chosen


def values_of(data: DataSpec) -> str:
    """What the values of the data are, for the end of a sentence."""
    return "these are floating-point values" if data.levels is None else f"these have {data.levels} levels"


def alternatives(data: DataSpec, *without: str) -> str:
    """The likelihoods that can score this data, as a list in words, less those named."""
    if data.levels is None:
        names = ["gaussian", "laplace"]
    elif data.levels == 2:
        names = ["bernoulli", "gaussian", "categorical"]
    else:
        names = ["continuous-bernoulli", "gaussian", "logistic", "mixture"] + ["categorical"] * (data.levels <= 256)
    names = [name for name in names if name not in without]
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def pixel_levels(name: str, data: DataSpec) -> int:
    """The number of levels of the data; raises `UserError` for floating-point values, which have none."""
    if data.levels is None:
        raise UserError(f"{name} scores pixels, and {values_of(data)}: choose {alternatives(data)}.")
    return data.levels
