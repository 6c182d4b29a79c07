"""Runs a server of either kind inside the test's process, with a LedgerFeed that does what the test says."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import grpc

from ordertape.v1.ledger_pb2 import (
    GetLedgerStatusRequest,
    GetLedgerStatusResponse,
    LedgerFrame,
    ReplayLedgerRequest,
    ReplayLedgerResponse,
)
from ordertape.v1.ledger_pb2_grpc import LedgerFeedServicer, LedgerFeedStub, add_LedgerFeedServicer_to_server
from services.serving.aio_server import AioServer, start_aio_server
from services.serving.health import OVERALL, HealthBoard
from services.serving.server import start_server
from services.serving.settings import ServerSettings

FEED = "ordertape.v1.LedgerFeed"


class Script:
    """What the feed does; a test replaces one or the other. Both may block, raise, and be called from many threads."""

    def __init__(self) -> None:
        self.replays_ended = 0
        self.status: Callable[[GetLedgerStatusRequest], GetLedgerStatusResponse] = lambda request: GetLedgerStatusResponse(
            durable_sequence=request.at_sequence
        )
        self.replay: Callable[[ReplayLedgerRequest], Iterator[ReplayLedgerResponse]] = lambda request: (
            frame(sequence) for sequence in range(1, request.after_sequence + 1)
        )


def frame(sequence: int) -> ReplayLedgerResponse:
    """One message of a replay."""
    return ReplayLedgerResponse(frame=LedgerFrame(durable_sequence=sequence))


class ThreadedFeed(LedgerFeedServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    def GetLedgerStatus(self, request: GetLedgerStatusRequest, _context: Any) -> GetLedgerStatusResponse:  # noqa: N802
        return self.script.status(request)

    def ReplayLedger(self, request: ReplayLedgerRequest, _context: Any) -> Iterator[ReplayLedgerResponse]:  # noqa: N802
        try:
            yield from self.script.replay(request)
        finally:
            self.script.replays_ended += 1


class AsyncFeed(LedgerFeedServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    async def GetLedgerStatus(self, request: GetLedgerStatusRequest, _context: Any) -> GetLedgerStatusResponse:  # noqa: N802
        return await asyncio.to_thread(self.script.status, request)

    async def ReplayLedger(  # noqa: N802
        self, request: ReplayLedgerRequest, _context: Any
    ) -> AsyncIterator[ReplayLedgerResponse]:
        responses = self.script.replay(request)
        try:
            while (response := await asyncio.to_thread(next, responses, None)) is not None:
                yield response
        finally:
            self.script.replays_ended += 1


class Running(Protocol):
    """A server of either kind, as a test sees it."""

    script: Script
    health: HealthBoard
    address: str

    def in_flight(self) -> int: ...
    def drain(self, grace_seconds: float, cut_short: Callable[[], bool] = ...) -> bool: ...


class RunningThreaded:
    def __init__(self, settings: ServerSettings, on_drain: Sequence[Callable[[], object]]) -> None:
        self.script = Script()
        self.health = HealthBoard()
        self._server = start_server(
            [(add_LedgerFeedServicer_to_server, ThreadedFeed(self.script))], settings, self.health, on_drain
        )
        self.address = self._server.address

    def in_flight(self) -> int:
        return self._server.in_flight

    def drain(self, grace_seconds: float, cut_short: Callable[[], bool] = lambda: False) -> bool:
        return self._server.drain(grace_seconds, cut_short)

    def close(self) -> None:
        self.drain(0)


class RunningAio:
    def __init__(self, settings: ServerSettings, on_drain: Sequence[Callable[[], object]]) -> None:
        self.script = Script()
        self.health = HealthBoard()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        try:
            self._server = self._in_loop(self._start(settings, on_drain))
        except BaseException:
            self._end_loop()
            raise
        self.address = self._server.address

    async def _start(self, settings: ServerSettings, on_drain: Sequence[Callable[[], object]]) -> AioServer:
        feed = AsyncFeed(self.script)
        return await start_aio_server([(add_LedgerFeedServicer_to_server, feed)], settings, self.health, on_drain)

    def in_flight(self) -> int:
        return self._server.in_flight

    def drain(self, grace_seconds: float, cut_short: Callable[[], bool] = lambda: False) -> bool:
        return self._in_loop(self._server.drain(grace_seconds, cut_short))

    def close(self) -> None:
        self.drain(0)
        self._in_loop(self._loop.shutdown_default_executor())
        self._end_loop()

    def _in_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


KINDS = {"threaded": RunningThreaded, "aio": RunningAio}


@contextmanager
def running(
    kind: str, settings: ServerSettings | None = None, on_drain: Sequence[Callable[[], object]] = ()
) -> Iterator[Running]:
    """A serving server of the kind, ended at the end."""
    server = KINDS[kind](settings or ServerSettings(), on_drain)
    server.health.set_serving(OVERALL, True)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def feed_client(address: str) -> Iterator[LedgerFeedStub]:
    """A client on a connection of its own."""
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield LedgerFeedStub(channel)
