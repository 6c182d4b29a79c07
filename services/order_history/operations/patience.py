"""How a command waits for a store that is away."""

import time
from collections.abc import Callable
from typing import TypeVar

from services.order_history.operations.shown_progress import ShownProgress
from services.order_history.operations.signals import StopSignals
from services.order_history.stores import StoreUnavailable

T = TypeVar("T")
_RETRY_SECONDS, _RETRY_SECONDS_MAX = 0.5, 5.0


def patiently(action: Callable[[], T], patience_seconds: float, signals: StopSignals, shown: ShownProgress) -> T:
    """What ``action`` gives, begun anew while the store is away. Raises StoreUnavailable after ``patience_seconds`` of
    that, what else it raises at once, and Stop.
    """
    give_up_at = time.monotonic() + patience_seconds
    retry_seconds = _RETRY_SECONDS
    told = False
    while True:
        try:
            return action()
        except StoreUnavailable as down:
            if time.monotonic() >= give_up_at:
                raise
            if not told:
                shown.say(f"waiting: {down}")
                told = True
        signals.asked.wait(retry_seconds)
        signals.check()
        retry_seconds = min(retry_seconds * 2, _RETRY_SECONDS_MAX)
