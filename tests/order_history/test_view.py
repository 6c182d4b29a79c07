"""What the running history knows: positions and those who wait for them, open orders, lag, halts. No process, no clock."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc
import pytest

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import order_history_pb2 as pb
from services.order_history.engine_client import EngineAway
from services.order_history.order_processor import OrderProcessor
from services.order_history.stores import Checkpoint
from services.order_history.view import HistoryView, Progress
from services.wire.errors import CallError
from services.wire.position import Position, encode_position
from tests.support.ledger_builder import LEDGER_ID, LedgerBuilder


class FakeClock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class AnsweringEngine:
    """Says its durable sequence, or that it is away."""

    def __init__(self) -> None:
        self.answer: int | None = None

    async def durable_sequence(self, timeout_seconds: float) -> int:
        if self.answer is None:
            raise EngineAway(f"no answer within {timeout_seconds:.3f} s")
        return self.answer


class Stage:
    """A view of a ledger that grows batch by batch."""

    def __init__(self, **settings: Any) -> None:
        self.ledger = LedgerBuilder()
        self.clock = FakeClock()
        self.engine = AnsweringEngine()
        self.view = HistoryView(
            Checkpoint("", 0, 0, b""),
            (),
            self.engine,
            store_kind="fake",
            clock=self.clock,
            **{"wait_seconds_max": 0.2, "lag_seconds_max": 10.0, **settings},
        )
        self._shown = 0

    def progress(self, durable_sequence: int | None = None, **changes: Any) -> Progress:
        durable = self.ledger.sequence if durable_sequence is None else durable_sequence
        usual = Progress(LEDGER_ID, durable, durable, live=True, gaps_repaired=0, store_trouble="")
        return usual._replace(**changes)

    def advance(self, durable_sequence: int | None = None) -> None:
        batches = self.ledger.batches[self._shown :]
        self._shown = len(self.ledger.batches)
        chunk = OrderProcessor().project(LEDGER_ID, batches)
        self.view.advance(chunk, self.progress(durable_sequence))


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.ledger.open_market(["alice", "bob"])
    stage.advance()
    return stage


async def failure_of(call: Coroutine[Any, Any, object]) -> CallError:
    with pytest.raises(CallError) as failure:
        await call
    return failure.value


def test_a_history_that_met_no_ledger_has_no_position() -> None:
    view = Stage().view
    assert (view.ledger_id, view.applied_sequence, view.position) == ("", 0, "")
    assert view.status().position == ""


async def test_open_orders_are_the_newest_updates_by_order_id(stage: Stage) -> None:
    first, second = stage.ledger.place("alice"), stage.ledger.place("alice")
    stage.advance()
    third = stage.ledger.place("alice", price=99)
    stage.ledger.place("bob", side=2, price=98, qty=3, takes=[(first, 3)])
    stage.ledger.cancel(second)
    stage.advance()
    orders = stage.view.open_orders("alice")
    assert list(orders.items()) == [(first, stage.ledger.orders[first]), (third, stage.ledger.orders[third])]
    assert stage.view.open_orders("bob") == {}
    assert stage.view.status().open_orders == 2
    stage.ledger.cancel(first)
    stage.ledger.cancel(third)
    stage.advance()
    assert stage.view.open_orders("alice") == {}
    assert stage.view.status().open_orders == 0


async def test_a_position_that_is_applied_is_reached_at_once(stage: Stage) -> None:
    await stage.view.reach(Position(LEDGER_ID, stage.ledger.sequence), 0.0)


async def test_a_position_ahead_is_reached_when_it_is_applied(stage: Stage) -> None:
    target = Position(LEDGER_ID, stage.ledger.sequence + 3)
    waiting = asyncio.create_task(stage.view.reach(target, 5.0))
    stage.ledger.place("alice")
    stage.advance()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    stage.ledger.place("alice")
    stage.advance()
    await waiting


async def test_a_position_that_is_not_reached_names_the_applied_one_before_the_deadline(stage: Stage) -> None:
    begin = asyncio.get_running_loop().time()
    error = await failure_of(stage.view.reach(Position(LEDGER_ID, 1_000), 0.6))
    assert asyncio.get_running_loop().time() - begin < 0.6
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_NOT_YET_APPLIED)
    assert error.metadata == {"applied_position": encode_position(LEDGER_ID, stage.ledger.sequence)}


async def test_without_a_deadline_a_position_is_waited_for_no_longer_than_is_set(stage: Stage) -> None:
    error = await failure_of(stage.view.reach(Position(LEDGER_ID, 1_000), None))
    assert error.reason == reasons.ERROR_REASON_NOT_YET_APPLIED


async def test_a_position_of_another_ledger_is_out_of_range(stage: Stage) -> None:
    error = await failure_of(stage.view.reach(Position("f" * 16, 1), 1.0))
    assert (error.code, error.reason) == (grpc.StatusCode.OUT_OF_RANGE, reasons.ERROR_REASON_POSITION_OUT_OF_RANGE)
    assert error.metadata == {"oldest_position": encode_position(LEDGER_ID, 0)}


async def test_a_position_that_waits_for_a_ledger_that_turns_out_another_is_out_of_range() -> None:
    stage = Stage()
    waiting = asyncio.create_task(stage.view.reach(Position("f" * 16, 1), 5.0))
    await asyncio.sleep(0)
    stage.ledger.start_engine()
    stage.advance()
    assert (await failure_of(waiting)).code is grpc.StatusCode.OUT_OF_RANGE  # type: ignore[arg-type]


async def test_a_halt_ends_those_who_wait_and_refuses_reads_but_the_status(stage: Stage) -> None:
    waiting = asyncio.create_task(stage.view.reach(Position(LEDGER_ID, 1_000), 5.0))
    await asyncio.sleep(0)
    stage.view.halt("ledger sequence 7: it cannot be right")
    error = await failure_of(waiting)  # type: ignore[arg-type]
    assert (error.code, error.reason) == (grpc.StatusCode.DATA_LOSS, reasons.ERROR_REASON_HALTED)
    with pytest.raises(CallError, match="sequence 7"):
        stage.view.ensure_readable()
    with pytest.raises(CallError, match="sequence 7"):
        await stage.view.reach(Position(LEDGER_ID, 1), 1.0)
    status = stage.view.status()
    assert status.state == pb.HISTORY_STATE_HALTED
    assert status.halt_reason == "ledger sequence 7: it cannot be right"
    assert "sequence 7" in stage.view.trouble()


def test_the_status_tells_how_far_behind_it_is_and_since_when(stage: Stage) -> None:
    applied = stage.ledger.sequence
    stage.view.observe(stage.progress(durable_sequence=applied + 5, live=False, gaps_repaired=2))
    stage.clock.now += 1.5
    stage.view.observe(stage.progress(durable_sequence=applied + 7, live=False, gaps_repaired=2))
    stage.clock.now += 1.0
    status = stage.view.status()
    assert (status.applied_sequence, status.durable_sequence, status.lag_commands) == (applied, applied + 7, 7)
    assert status.lag.ToMilliseconds() == 2_500
    assert status.state == pb.HISTORY_STATE_CATCHING_UP
    assert (status.gaps_repaired, status.epoch, status.store) == (2, 1, "fake")
    assert status.position == encode_position(LEDGER_ID, applied)


def test_a_lag_beyond_the_limit_is_trouble_until_it_is_caught_up(stage: Stage) -> None:
    assert stage.view.trouble() == ""
    stage.ledger.place("alice")
    stage.view.observe(stage.progress())
    stage.clock.now += 9.9
    assert stage.view.trouble() == ""
    stage.clock.now += 0.2
    assert "behind the engine for 10.1 s" in stage.view.trouble()
    stage.advance()
    assert stage.view.trouble() == ""


def test_before_what_the_engine_had_at_the_start_is_applied_it_is_not_fit_to_serve() -> None:
    stage = Stage()
    assert "catching up" in stage.view.trouble()
    stage.ledger.open_market(["alice"])
    stage.view.observe(stage.progress(live=False))
    assert "catching up" in stage.view.trouble()
    stage.advance()
    assert stage.view.trouble() == ""


def test_a_store_that_is_down_is_trouble(stage: Stage) -> None:
    stage.view.observe(stage.progress(store_trouble="disk full"))
    assert "disk full" in stage.view.trouble()
    stage.view.observe(stage.progress())
    assert stage.view.trouble() == ""


async def test_the_engines_durable_sequence_is_the_engines_own_answer(stage: Stage) -> None:
    stage.engine.answer = 42
    assert await stage.view.engine_durable_sequence(1.0) == 42
    stage.engine.answer = None
    error = await failure_of(stage.view.engine_durable_sequence(1.0))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DEPENDENCY_DOWN)
