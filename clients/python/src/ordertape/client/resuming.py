"""When and where a stream that broke is resumed, so that each update is handed on exactly once, whole batch by whole batch. Only
decides and neither reads nor waits, so that it serves threads, asyncio and the `ordertape` command alike.
"""

import time
from typing import Any, Generic, Protocol, TypeVar

from ordertape.client.attempts import pauses
from ordertape.client.errors import OrdertapeError, SlowReader


class Positioned(Protocol):
    """What each message of such a stream has; empty where nobody may resume."""

    @property
    def position(self) -> str:
        """Where to resume."""


Response = TypeVar("Response", bound=Positioned)


class Resumption(Generic[Response]):
    """One stream over all its connections. ``request`` has ``after``, which is moved on to the last position; where it has
    ``until`` too, the stream has an end, which is kept in it.

    Before the first word the service is tried for ``connect_seconds``; after that it may be silent for ``patience_seconds``.
    """

    def __init__(self, request: Any, connect_seconds: float, patience_seconds: float = float("inf")) -> None:
        self._request = request
        self._patience_seconds = patience_seconds
        self._give_up_at = time.monotonic() + connect_seconds
        self._pauses = pauses()
        self._heard: list[Response] = []
        self._may_end = "until" in self._request.DESCRIPTOR.fields_by_name
        self._told = False
        self._came = False

    def begin(self) -> None:
        """A stream begins: what came of a batch that broke off comes again."""
        self._heard = []

    def take(self, response: Response) -> list[Response] | None:
        """A message came: all since the last position where it has one, else None."""
        self.taken()
        self._pauses, self._told = pauses(), False
        self._heard.append(response)
        if not response.position:
            return None
        if self._may_end:
            self._request.until = getattr(response, "until", "")
        self._request.after, self._came = response.position, True
        heard, self._heard = self._heard, []
        return heard

    def taken(self) -> None:
        """The reader is done with what it was given: the time that it took is no silence of the service."""
        self._give_up_at = time.monotonic() + self._patience_seconds

    @property
    def complete(self) -> bool:
        """Whether all that the stream was to bring has come."""
        return self._may_end and self._came and bool(self._request.after == self._request.until)

    def pause_after(self, error: OrdertapeError | None) -> float | None:
        """The stream ended, with ``error`` or with OK: seconds to wait before it is resumed, None where it is complete. Raises
        ``error`` where it is to be resumed no more.
        """
        if self.complete:
            return None
        if error is not None and (not _resumable(error) or time.monotonic() > self._give_up_at):
            raise error
        return next(self._pauses)

    def to_tell(self) -> bool:
        """Whether this is the first end since the last word, of which the reader may want to hear."""
        told, self._told = self._told, True
        return not told


def _resumable(error: OrdertapeError) -> bool:
    return error.transient or isinstance(error, SlowReader)
