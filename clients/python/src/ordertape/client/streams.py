"""Streams that go on over any disconnect, for threads: the reading and waiting to resuming.py's decisions."""

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from ordertape.client.apart import Apart
from ordertape.client.errors import error_of
from ordertape.client.frames import Rows
from ordertape.client.results import Exported, News
from ordertape.client.resuming import Positioned, Resumption
from ordertape.client.tables import Tables
from ordertape.client.values import OrderUpdate

Response = TypeVar("Response", bound=Positioned)
Piece = TypeVar("Piece", bound=Positioned)

Interrupted = Callable[[str], object]


def unheard(_reason: str) -> None:
    """Nobody wants to know why a stream broke."""


class ResumedStream(Generic[Response]):
    """The stream's messages, in lists that end with a position. ``interrupted`` is told once why it broke, each time that it
    does. Raises OrdertapeError where it is to be resumed no more.
    """

    def __init__(
        self,
        open_stream: Callable[[], Any],
        resumption: Resumption[Response],
        interrupted: Interrupted = unheard,
    ) -> None:
        self._open = open_stream
        self._resumption = resumption
        self._interrupted = interrupted
        self._stopped = threading.Event()
        self._call: Any = None

    def stop(self) -> None:
        """End it; safe from any thread."""
        self._stopped.set()
        if self._call is not None:
            self._call.cancel()

    def __iter__(self) -> Iterator[list[Response]]:
        resumption = self._resumption
        while not self._stopped.is_set():
            resumption.begin()
            failure, reason = None, "the service ended the stream"
            try:
                self._call = self._open()
                if self._stopped.is_set():
                    self._call.cancel()
                for response in self._call:
                    heard = resumption.take(response)
                    if heard is not None:
                        yield heard
                        resumption.taken()
            except grpc.RpcError as error:
                if self._stopped.is_set():
                    return
                failure = error_of(error)
                reason = f"{failure.code.name}: {failure.message}"
            finally:
                if self._call is not None:
                    self._call.cancel()
            pause = resumption.pause_after(failure)
            if pause is None:
                return
            if resumption.to_tell():
                self._interrupted(reason)
            self._stopped.wait(pause)


class Stream(Generic[Piece]):
    """Pieces of a stream, once. ``position``: all up to it was given; a new process goes on after it. Close it, or leave its
    context, to end it; that is safe from any thread.
    """

    def __init__(self, resumed: ResumedStream[Any], piece_of: Callable[[list[Any]], Piece], position: str) -> None:
        self.position = position
        self._pieces = Apart(map(piece_of, resumed), stop=resumed.stop)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Piece:
        piece = next(self._pieces)
        self.position = piece.position
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._pieces.close()


class Watch(Stream[News]):
    """News without end. Signs of life only move ``position``."""

    def __next__(self) -> News:
        while True:
            news = super().__next__()
            if news.updates or news.snapshot:
                return news


class Export(Stream[Exported], Tables[OrderUpdate]):
    """An export up to its end, which stays where it was when the export began."""

    def rows(self) -> Rows[OrderUpdate]:
        """All that is left of it."""
        found = [update for piece in self for update in piece.updates]
        return Rows(OrderUpdate, found, self.position)
