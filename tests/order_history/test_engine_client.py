"""The history's calls to the engine, over a real channel to an engine that hangs, leaves or is not there."""

import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from ordertape.v1 import ledger_pb2, ledger_pb2_grpc
from services.order_history.engine_client import AsyncEngineClient, EngineAway, EngineClient
from tests.support.served import served


class HangingEngine(ledger_pb2_grpc.LedgerFeedServicer):
    """Answers once, if at all, and then nothing more until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def GetLedgerStatus(  # noqa: N802
        self, _request: ledger_pb2.GetLedgerStatusRequest, _context: grpc.ServicerContext
    ) -> ledger_pb2.GetLedgerStatusResponse:
        self.let_go.wait(10)
        return ledger_pb2.GetLedgerStatusResponse(durable_sequence=7)

    def ReplayLedger(  # noqa: N802
        self, _request: ledger_pb2.ReplayLedgerRequest, _context: grpc.ServicerContext
    ) -> Iterator[ledger_pb2.ReplayLedgerResponse]:
        yield ledger_pb2.ReplayLedgerResponse(frame=ledger_pb2.LedgerFrame(epoch=1))
        self.let_go.wait(10)


@pytest.fixture
def engine() -> Iterator[HangingEngine]:
    engine = HangingEngine()
    yield engine
    engine.let_go.set()


@pytest.fixture
def address(engine: HangingEngine) -> Iterator[str]:
    with served((ledger_pb2_grpc.add_LedgerFeedServicer_to_server, engine)) as address:
        yield address
        engine.let_go.set()


def test_an_engine_that_hangs_is_away(address: str) -> None:
    client = EngineClient(address, status_timeout_seconds=0.2, replay_timeout_seconds=0.2)
    with pytest.raises(EngineAway, match="DEADLINE_EXCEEDED"):
        client.status(0)
    frames = client.replay(0)
    assert next(frames).epoch == 1
    with pytest.raises(EngineAway, match="DEADLINE_EXCEEDED"):
        next(frames)
    client.close()


def test_an_engine_that_is_not_there_is_away() -> None:
    client = EngineClient("127.0.0.1:1", status_timeout_seconds=5, replay_timeout_seconds=5)
    with pytest.raises(EngineAway, match="UNAVAILABLE"):
        client.status(0)
    with pytest.raises(EngineAway, match="UNAVAILABLE"):
        next(client.replay(0))
    client.close()


def test_closing_from_another_thread_ends_what_is_being_asked(address: str) -> None:
    client = EngineClient(address, status_timeout_seconds=10, replay_timeout_seconds=10)
    frames = client.replay(0)
    next(frames)
    closing = threading.Timer(0.1, client.close)
    closing.start()
    begin = time.monotonic()
    with pytest.raises(EngineAway):
        next(frames)
    assert time.monotonic() - begin < 5
    closing.join()
    with pytest.raises(EngineAway):
        client.status(0)


async def test_the_event_loops_client_says_the_durable_sequence_or_that_the_engine_is_away(
    address: str, engine: HangingEngine
) -> None:
    client = AsyncEngineClient(address)
    with pytest.raises(EngineAway, match="DEADLINE_EXCEEDED"):
        await client.durable_sequence(0.2)
    engine.let_go.set()
    assert await client.durable_sequence(5) == 7
    await client.close()
