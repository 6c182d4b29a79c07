"""Engine time: the wall clock at the start, carried on by the monotonic clock, so that it never jumps while orders are open."""

import time
from typing import Final

# How far the wall clock may depart from engine time, and the ledger's last time be ahead of it, before somebody has to know.
DEPARTURE_MICROSECONDS_MAX: Final = 60_000_000


class ClockBehindLedger(Exception):
    """The wall clock says that the ledger's last line was written in the future."""


class EngineClock:
    """Microseconds since 1970, UTC; rises with the monotonic clock from the wall clock at its making."""

    def __init__(self) -> None:
        self._start = time.time_ns() // 1000 - time.monotonic_ns() // 1000

    def now(self) -> int:
        """The engine's time."""
        return self._start + time.monotonic_ns() // 1000

    def departure(self) -> int:
        """By how many microseconds the wall clock is ahead of engine time (negative: behind)."""
        return time.time_ns() // 1000 - self.now()


def check_start(now: int, last_time: int, *, accept_clock: bool) -> None:
    """Refuse to start where the ledger's last time is more than a minute ahead of the wall clock, unless accepted.

    Raises ClockBehindLedger.
    """
    ahead = last_time - now
    if ahead > DEPARTURE_MICROSECONDS_MAX and not accept_clock:
        raise ClockBehindLedger(
            f"the ledger's last time is {ahead / 1e6:.0f} s ahead of the wall clock: set the clock right, "
            "or start with --accept-clock to go on from the ledger's time"
        )
