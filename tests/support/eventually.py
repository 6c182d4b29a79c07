"""Waits for something that will be true: tests poll with this in place of sleeping a guessed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(probe: Callable[[], T], timeout_seconds: float = 10.0) -> T:
    """The probe's first true value. An AssertionError inside it counts as "not yet" and is raised at the end."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            value = probe()
            if value:
                return value
            failure = AssertionError(f"still {value!r} after {timeout_seconds} s")
        except AssertionError as error:
            failure = error
        if time.monotonic() > deadline:
            raise failure
        time.sleep(0.01)
