"""What a recipe or a prior alone has, by name: `--set NAME=VALUE`."""

import math
from collections.abc import Mapping
from typing import Any

from vaekit.errors import UserError


class Knobs:
    """The values that were set, and those that were asked for.

    Args:
        values: by name, as they were set.
        asked: where each name that is asked for is written down with its own value.
    """

    def __init__(self, values: Mapping[str, float | str] | None = None, asked: dict[str, Any] | None = None) -> None:
        self.values, self.asked = values or {}, {} if asked is None else asked
        self.turned: dict[str, Any] = {}
        """Those that are not what they are by themselves."""

    def __call__(self, name: str, own: Any, multiple: int = 1, least: int = 1) -> Any:
        """The value of a knob: as it was set, or `own`, whose kind it has; a whole number is at least `least` and a multiple of `multiple`.

        Raises `UserError` if it was set to something of another kind.
        """
        self.asked[name] = own
        value = self._as(own, name, self.values.get(name, own), multiple, least)
        if value != own:
            self.turned[name] = value
        return value

    def _as(self, own: Any, name: str, value: Any, multiple: int, least: int) -> Any:
        if own is None or isinstance(own, str):
            return value
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name} is a number (by itself {own}), and it is '{value}'.") from error
        if not isinstance(own, int):
            return number
        if not math.isfinite(number) or number != int(number) or number < least:
            raise UserError(f"{name} is a whole number of at least {least} (by itself {own}), and it is {value}.")
        if number % multiple:
            raise UserError(f"{name} is a multiple of {multiple} (by itself {own}), and it is {value}.")
        return int(number)

    def refuse_others(self, whose: str) -> None:
        """Raises `UserError` for a value that was set and never asked for; `whose` says who has asked."""
        for name in self.values:
            if name not in self.asked:
                raise UserError(f"{whose} has no knob '{name}'; it has {', '.join(self.asked) or 'none'}.")
