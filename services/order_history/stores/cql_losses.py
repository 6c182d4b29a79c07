"""Whether a CQL store has all that it acknowledged. It has not from the moment in which a server is lost, which may have
forgotten its last seconds, until what that can be is written again.
"""

import threading

import structlog

log = structlog.stdlib.get_logger(__name__)


class Losses:
    """How many losses there were, and up to which of them all is written again. Any thread may ask and tell."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = self._settled = 0

    @property
    def count(self) -> int:
        """Losses so far."""
        return self._count

    @property
    def are_settled(self) -> bool:
        """Whether the store is whole."""
        return self._count == self._settled

    def note(self, address: str) -> None:
        """A connection to the server at ``address`` was lost."""
        with self._lock:
            was_whole = self.are_settled
            self._count += 1
        if not was_whole:  # a server has many connections, and all end with it
            return
        log.warning("connection to a server of the store lost: what it may have forgotten is written again", server=address)

    def settle(self, count: int) -> None:
        """What the first ``count`` losses may have taken is written again."""
        with self._lock:
            self._settled = max(self._settled, count)

    def begin(self, *, is_whole: bool) -> None:
        """The store was opened: what happened while it was is of no interest."""
        with self._lock:
            self._count += not is_whole
            self._settled = self._count - (not is_whole)
