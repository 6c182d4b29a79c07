"""Streams that go on over any disconnect, for asyncio: the reading and waiting to resuming.py's decisions."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from ordertape.client.errors import OrdertapeError, error_of, made
from ordertape.client.frames import Rows
from ordertape.client.results import Exported, News
from ordertape.client.resuming import Positioned, Resumption
from ordertape.client.status import Details
from ordertape.client.streams import Interrupted
from ordertape.client.tables import AsyncTables
from ordertape.client.values import OrderUpdate

Piece = TypeVar("Piece", bound=Positioned)

# Opens the stream; what it has to wait for before is done once.
Opened = Callable[[], Any]


def cancelled_by_server(error: asyncio.CancelledError) -> OrdertapeError:
    """What a CancelledError stands for: grpc.aio raises it too where it is the server that cancelled the call. Raises the error
    again where it is this task that is to end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise error
    return made(grpc.StatusCode.CANCELLED, "the service cancelled the call", Details())


class AsyncStream(Generic[Piece]):
    """Pieces of a stream, once. ``position``: all up to it was given; a new process goes on after it. Close it, or leave its
    context, to end it.
    """

    def __init__(
        self,
        prepare: Callable[[], Any],
        open_stream: Opened,
        resumption: Resumption[Any],
        piece_of: Callable[[list[Any]], Piece],
        position: str,
        interrupted: Interrupted,
    ) -> None:
        self.position = position
        self._prepare = prepare
        self._open = open_stream
        self._resumption = resumption
        self._piece_of = piece_of
        self._interrupted = interrupted
        self._closed = False
        self._call: Any = None
        self._pieces = self._read()

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    async def __anext__(self) -> Piece:
        piece = await anext(self._pieces)
        self.position = piece.position
        return piece

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End it; a task that waits for it comes to its end."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()
        # Another task that waits for the next piece ends the reading itself.
        with suppress(RuntimeError):
            await self._pieces.aclose()

    async def _read(self) -> AsyncGenerator[Piece, None]:
        await self._prepare()
        while not self._closed:
            self._resumption.begin()
            failure, reason = None, "the service ended the stream"
            try:
                self._call = self._open()
                async for response in self._call:
                    heard = self._resumption.take(response)
                    if heard is not None:
                        yield self._piece_of(heard)
                        self._resumption.taken()
            except grpc.RpcError as error:
                failure = error_of(error)
            except asyncio.CancelledError as error:
                failure = cancelled_by_server(error)
            finally:
                if self._call is not None:
                    self._call.cancel()
            if self._closed:
                return
            pause = self._resumption.pause_after(failure)
            if pause is None:
                return
            if self._resumption.to_tell():
                self._interrupted(reason if failure is None else f"{failure.code.name}: {failure.message}")
            await asyncio.sleep(pause)


class AsyncWatch(AsyncStream[News]):
    """News without end. Signs of life only move ``position``."""

    async def __anext__(self) -> News:
        while True:
            news = await super().__anext__()
            if news.updates or news.snapshot:
                return news


class AsyncExport(AsyncStream[Exported], AsyncTables[OrderUpdate]):
    """An export up to its end, which stays where it was when the export began."""

    async def rows(self) -> Rows[OrderUpdate]:
        """All that is left of it."""
        found = [update async for piece in self for update in piece.updates]
        return Rows(OrderUpdate, found, self.position)
