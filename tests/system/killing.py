"""A run that dies in the middle of an epoch."""

from collections.abc import Callable

import pytest

from vaekit.output import Batch
from vaekit.training.task import Task


class Killed(Exception):
    pass


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, train: Callable[[], object]) -> None:
    """Calls `train`, whose `step`-th forward pass, and no other, raises `Killed`."""
    forward, calls = Task.forward, [0]

    def dying(self: Task, batch: Batch) -> object:
        calls[0] += 1
        if calls[0] == step:
            raise Killed
        return forward(self, batch)

    monkeypatch.setattr(Task, "forward", dying)
    with pytest.raises(Killed):
        train()
