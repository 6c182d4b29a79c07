"""How a long command is stopped: a signal asks it to come to an end in order, a second one ends it there and then (the stores
survive that).
"""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Self

from services.order_history.exit_codes import SIGNALLED


class Stop(Exception):
    """A signal asked for the end."""


class StopSignals:
    """While the context is entered, SIGINT and SIGTERM set ``asked``. Only for the main thread."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._number = 0

    @property
    def exit_code(self) -> int:
        """What a process that was stopped ends with: 130 after SIGINT, 143 after SIGTERM."""
        return SIGNALLED + self._number

    def check(self) -> None:
        """Raise Stop where a signal has come."""
        if self.asked.is_set():
            raise Stop

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._arrived) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        if self.asked.is_set():
            sys.stdout.flush()
            os._exit(SIGNALLED + number)
        self._number = number
        self.asked.set()
