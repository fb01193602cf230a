"""SIGTERM and Ctrl-C: the step in progress is finished, the state saved, and then the process ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vaekit.errors import UserError


class Interrupted(UserError):
    """The run was asked to stop, and its state is saved. `signal` is the number of what asked."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal = signal_number


@contextmanager
def asked_to_stop() -> Iterator[list[int]]:
    """A list that is empty until SIGINT or SIGTERM arrives; a second Ctrl-C stops at once. Does nothing outside of the main thread."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
