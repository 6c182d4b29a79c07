"""The watch's own rules, with a reader and a store that do what the test says: sizes, queues, stalls, catch-up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import order_history_pb2 as pb
from services.order_history.order_processor import OrderProcessor, StoredUpdate
from services.order_history.outgoing import MESSAGE_BYTES_MAX, MESSAGE_UPDATES_MAX, messages_of
from services.order_history.requests import WatchQuestion
from services.order_history.stores import Checkpoint, StoreUnavailable
from services.order_history.view import HistoryView, Progress
from services.order_history.watch import WatchHub
from services.wire.errors import CallError
from services.wire.position import Position, decode_position, encode_position
from tests.support.ledger_builder import LEDGER_ID, LedgerBuilder

START = Position(LEDGER_ID, 0)


class Stage:
    """A view, a hub and a store in memory, in this test's own event loop."""

    def __init__(self, *, begun: bool = True, **settings: Any) -> None:
        self.ledger = LedgerBuilder()
        self.stored: list[StoredUpdate] = []
        self.store_down = ""
        self.reads = 0
        self.view = HistoryView(
            Checkpoint("", 0, 0, b""), (), self, store_kind="fake", wait_seconds_max=1, lag_seconds_max=1  # type: ignore[arg-type]
        )  # fmt: skip
        usual = {"queue_updates_max": 100, "stall_seconds": 60.0, "heartbeat_seconds": 5.0}
        self.hub = WatchHub(self.view, self, **{**usual, **settings})
        self.view.follow(self.hub)
        self.while_reading: list[int] = []
        self._shown = 0
        self.ledger.open_market(["alice", "bob"])
        if begun:
            self.advance()

    async def user_updates(self, user_id: str, after_sequence: int, limit: int) -> list[StoredUpdate]:
        self.reads += 1
        if self.store_down:
            raise StoreUnavailable(self.store_down)
        page = [u for u in self.stored if u.user_id == user_id and u.sequence > after_sequence][:limit]
        if self.while_reading:
            self.place(self.while_reading.pop())
        await asyncio.sleep(0)
        return page

    def place(self, orders: int, user_id: str = "alice") -> None:
        for _ in range(orders):
            self.ledger.place(user_id)
        self.advance()

    def advance(self) -> None:
        chunk = OrderProcessor().project(LEDGER_ID, self.ledger.batches[self._shown :])
        self._shown = len(self.ledger.batches)
        self.stored += chunk.updates
        self.view.advance(chunk, Progress(LEDGER_ID, chunk.last_sequence, 0, live=True, gaps_repaired=0, store_trouble=""))

    @property
    def mine(self) -> list[int]:
        return [u.sequence for u in self.stored if u.user_id == "alice"]


class Reader:
    """Takes messages while it is ``open``."""

    def __init__(self) -> None:
        self.messages: list[pb.WatchOrdersResponse] = []
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, message: pb.WatchOrdersResponse) -> None:
        await asyncio.sleep(0)
        self.messages.append(message)
        await self.open.wait()

    @property
    def sequences(self) -> list[int]:
        return [update.sequence for message in self.messages for update in message.updates.updates]


def question(after: Position | None = START, user_id: str = "alice") -> WatchQuestion:
    return WatchQuestion(user_id, frozenset(), frozenset(), after)


@asynccontextmanager
async def watching(stage: Stage, reader: Reader, asked: WatchQuestion) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(stage.hub.serve(asked, reader.write))
    await settle()
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert stage.hub.running == 0


async def settle() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


async def error_of(task: "asyncio.Task[None]") -> CallError:
    with pytest.raises(CallError) as failure:
        await asyncio.wait_for(task, 5)
    return failure.value


def stored(sequence: int, batch_end: int, size: int) -> StoredUpdate:
    return StoredUpdate(sequence, batch_end, 1, "alice", "BTC-USD", 1, 0, b"x" * size)


def test_messages_are_cut_between_batches_where_that_is_possible() -> None:
    size = MESSAGE_BYTES_MAX // 4
    updates = [stored(n, n + n % 2, size) for n in range(1, 9)]
    cut = [([u.sequence for u in part], position) for part, position in messages_of(updates)]
    assert cut == [([1, 2], 2), ([3, 4], 4), ([5, 6], 6), ([7, 8], 8)]


def test_of_a_batch_that_needs_several_messages_only_the_last_has_a_position() -> None:
    updates = [stored(n, 7, MESSAGE_BYTES_MAX // 3) for n in range(1, 8)] + [stored(8, 8, 10)]
    cut = [(len(part), position) for part, position in messages_of(updates)]
    assert cut == [(2, 0), (2, 0), (2, 0), (2, 8)]


def test_no_message_is_larger_than_a_mebibyte_or_has_more_than_a_thousand_updates() -> None:
    updates = [stored(n, n, n % 3_000) for n in range(1, 5_000)]
    parts = [part for part, _ in messages_of(updates)]
    assert [update for part in parts for update in part] == updates
    assert max(len(part) for part in parts) <= MESSAGE_UPDATES_MAX
    assert max(sum(len(u.data) + 4 for u in part) for part in parts) <= MESSAGE_BYTES_MAX


async def test_a_snapshot_waits_for_a_history_that_has_not_met_its_ledger_since_it_has_no_position_yet() -> None:
    stage, reader = Stage(begun=False), Reader()
    async with watching(stage, reader, question(after=None)):
        assert not any(message.HasField("snapshot") for message in reader.messages)
        stage.advance()
        await settle()
        (snapshot,) = (message for message in reader.messages if message.HasField("snapshot"))
        assert snapshot.snapshot.last_page
        assert snapshot.position == encode_position(LEDGER_ID, stage.ledger.sequence)


async def test_a_catch_up_reads_pages_and_joins_the_live_updates_without_hole_or_repeat() -> None:
    stage, reader = Stage(page_updates=10), Reader()
    stage.place(95)
    stage.while_reading = [3] * 40
    async with watching(stage, reader, question()):
        stage.place(4)
        await settle()
        assert reader.sequences == stage.mine
        assert 10 < stage.reads < 40


@pytest.mark.parametrize("after_update", [0, 1, 17, 94, 95])
async def test_a_catch_up_begins_right_after_the_position(after_update: int) -> None:
    stage, reader = Stage(page_updates=10), Reader()
    stage.place(95)
    after = Position(LEDGER_ID, [0, *stage.mine][after_update])
    async with watching(stage, reader, question(after)):
        assert reader.sequences == stage.mine[after_update:]


async def test_a_batch_larger_than_a_page_has_one_position_at_its_end() -> None:
    stage, reader = Stage(page_updates=10), Reader()
    makers = [(stage.ledger.place("bob", side=2), 1) for _ in range(40)]
    stage.place(3)
    stage.ledger.place("alice", qty=40, takes=makers)
    stage.advance()
    stage.place(2)
    ends = {batch.last_sequence for batch in stage.ledger.batches}
    async with watching(stage, reader, question()):
        assert reader.sequences == stage.mine
        positions = [decode_position(message.position).sequence for message in reader.messages]
        assert set(positions) <= ends
        for count, position in enumerate(positions, start=1):
            told = [update.sequence for message in reader.messages[:count] for update in message.updates.updates]
            assert told == [sequence for sequence in stage.mine if sequence <= position]


async def test_a_catch_up_whose_filter_lets_nothing_through_still_tells_where_it_is() -> None:
    stage, reader = Stage(page_updates=10, heartbeat_seconds=0.0), Reader()
    stage.place(95)
    nothing = WatchQuestion("alice", frozenset({"ETH-USD"}), frozenset(), START)
    async with watching(stage, reader, nothing):
        assert reader.sequences == []
        positions = [decode_position(message.position).sequence for message in reader.messages]
        assert len(set(positions)) > 5
        assert positions == sorted(positions)


async def test_a_queue_that_is_too_long_cuts_the_watcher_off_at_once_with_its_position() -> None:
    stage, reader, quick = Stage(queue_updates_max=10), Reader(), Reader()
    async with watching(stage, reader, question()) as slow, watching(stage, quick, question()):
        reader.open.clear()
        stage.place(1)
        await settle()
        stage.place(10)
        await settle()
        assert not slow.done()
        stage.place(1)
        error = await error_of(slow)
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_READER_TOO_SLOW)
        assert error.metadata["position"] == encode_position(LEDGER_ID, reader.sequences[-1])
        assert reader.sequences == stage.mine[:1]
        assert stage.hub.running == 1
        await settle()
        assert quick.sequences == stage.mine


async def test_a_step_larger_than_the_queue_is_taken_whole_by_a_watcher_that_keeps_up() -> None:
    stage, reader = Stage(queue_updates_max=10), Reader()
    async with watching(stage, reader, question()):
        stage.place(50)
        await settle()
        assert reader.sequences == stage.mine


async def test_a_reader_that_takes_no_message_for_too_long_is_cut_off() -> None:
    stage, reader = Stage(stall_seconds=0.05), Reader()
    async with watching(stage, reader, question()) as task:
        reader.open.clear()
        stage.place(1)
        error = await error_of(task)
        assert error.reason == reasons.ERROR_REASON_READER_TOO_SLOW
        assert "0.05 s" in error.message


async def test_a_drain_does_not_wait_for_a_reader_that_does_not_read() -> None:
    stage, reader = Stage(), Reader()
    async with watching(stage, reader, question()) as task:
        reader.open.clear()
        stage.place(1)
        await settle()
        stage.hub.end_all(CallError(grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DRAINING, "draining"))
        assert (await error_of(task)).reason == reasons.ERROR_REASON_DRAINING


async def test_a_drain_ends_watches_that_wait_for_a_position_ahead() -> None:
    stage, reader = Stage(), Reader()
    async with watching(stage, reader, question(Position(LEDGER_ID, 1_000_000))) as task:
        stage.hub.end_all(CallError(grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DRAINING, "draining"))
        assert (await error_of(task)).metadata["position"] == encode_position(LEDGER_ID, 1_000_000)


async def test_a_halt_ends_every_watch_with_its_position() -> None:
    stage, reader = Stage(), Reader()
    async with watching(stage, reader, question(None)) as task:
        position = stage.view.position
        stage.view.halt("ledger sequence 99: it cannot be right")
        error = await error_of(task)
        assert (error.code, error.reason) == (grpc.StatusCode.DATA_LOSS, reasons.ERROR_REASON_HALTED)
        assert error.metadata["position"] == position


async def test_a_store_that_is_down_in_a_catch_up_is_unavailable_with_the_position() -> None:
    stage, reader = Stage(), Reader()
    stage.store_down = "disk full"
    async with watching(stage, reader, question()) as task:
        error = await error_of(task)
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DEPENDENCY_DOWN)
        assert error.metadata["position"] == encode_position(*START)


async def test_a_thousand_watchers_of_others_cost_a_step_little() -> None:
    stage, reader = Stage(), Reader()
    others = [Reader() for _ in range(1_000)]
    tasks = [
        asyncio.create_task(stage.hub.serve(question(None, f"user-{number}"), other.write)) for number, other in enumerate(others)
    ]
    async with watching(stage, reader, question(None)):
        await settle()
        stage.place(20)
        await settle()
        assert reader.sequences == stage.mine
        assert all(len(other.messages) == 1 for other in others)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
