"""When a call is made again: while the service is away, with growing pauses, until the time for all attempts together is over.
Only decides and never waits, so that it serves threads and asyncio alike.
"""

import random
import time
from collections.abc import Iterator

from ordertape.client.errors import OrdertapeError

PAUSE_SECONDS_MIN = 0.05
PAUSE_SECONDS_MAX = 1.0


class Attempts:
    """The attempts of one call, with ``seconds`` for all of them."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._pauses = pauses()

    def timeout(self) -> float:
        """Seconds that the next attempt may take."""
        return max(self._deadline - time.monotonic(), 0.0)

    def pause_after(self, error: OrdertapeError) -> float:
        """Seconds to wait before the next attempt. Raises ``error`` where there is to be none."""
        pause = next(self._pauses)
        if not error.transient or time.monotonic() + pause > self._deadline:
            raise error
        return pause


def pauses() -> Iterator[float]:
    """Seconds to wait before each next attempt: doubling, bounded, without end; spread, so that clients do not come back at
    once.
    """
    pause = PAUSE_SECONDS_MIN
    while True:
        yield random.uniform(pause / 2, pause)  # noqa: S311 - no secret
        pause = min(2 * pause, PAUSE_SECONDS_MAX)
