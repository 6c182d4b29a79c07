"""The export's own rules, with a reader and a store that do what the test says: pages, turns, stalls, trouble."""

import asyncio
from typing import Any

import grpc
import pytest

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import order_history_pb2 as pb
from services.order_history.export import Exports
from services.order_history.order_processor import OrderProcessor, StoredUpdate
from services.order_history.requests import ExportQuestion, export_question
from services.order_history.stores import Checkpoint, PointInTime, StoreDamaged, StoreError, StoreUnavailable
from services.order_history.view import HistoryView, Progress
from services.wire.errors import CallError
from services.wire.position import decode_position, encode_position
from tests.support.ledger_builder import LEDGER_ID, LedgerBuilder

DRAINING = CallError(grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DRAINING, "draining")


class Stage:
    """A view, exports and a store in memory, in this test's own event loop. The store may be ahead of the view."""

    def __init__(self, **settings: Any) -> None:
        self.ledger = LedgerBuilder()
        self.stored: list[StoredUpdate] = []
        self.trouble: StoreError | None = None
        self.reads = self.reading = self.reading_max = 0
        self.view = HistoryView(
            Checkpoint("", 0, 0, b""), (), self, store_kind="fake", wait_seconds_max=1, lag_seconds_max=1  # type: ignore[arg-type]
        )  # fmt: skip
        usual = {"stall_seconds": 60.0, "heartbeat_seconds": 5.0, "page_updates": 10}
        self.exports = Exports(self.view, self, **{**usual, **settings})
        self.view.follow(self.exports)
        self._shown = 0
        self.ledger.open_market(["alice", "bob"])
        self.advance()

    async def user_updates(self, user_id: str, after_sequence: int, limit: int) -> list[StoredUpdate]:
        self.reads += 1
        self.reading += 1
        self.reading_max = max(self.reading_max, self.reading)
        await asyncio.sleep(0)
        self.reading -= 1
        if self.trouble is not None:
            raise self.trouble
        return [u for u in self.stored if u.user_id == user_id and u.sequence > after_sequence][:limit]

    async def point_in_time(self, user_id: str, time: int) -> PointInTime:
        before = [u.sequence for u in self.stored if u.user_id == user_id and u.timestamp <= time]
        return PointInTime(before[-1] if before else 0, 0)

    def place(self, orders: int, user_id: str = "alice", symbol: str = "BTC-USD") -> None:
        for _ in range(orders):
            self.ledger.place(user_id, symbol=symbol)
        self.advance()

    def advance(self) -> None:
        chunk = OrderProcessor().project(LEDGER_ID, self.ledger.batches[self._shown :])
        self._shown = len(self.ledger.batches)
        self.stored += chunk.updates
        self.view.advance(chunk, Progress(LEDGER_ID, chunk.last_sequence, 0, live=True, gaps_repaired=0, store_trouble=""))

    @property
    def mine(self) -> list[int]:
        return [u.sequence for u in self.stored if u.user_id == "alice"]

    def start(self, reader: "Reader", asked: ExportQuestion | None = None) -> "asyncio.Task[None]":
        return asyncio.create_task(self.exports.serve(asked or question(), lambda: None, reader.write))


class Reader:
    """Takes messages while it is ``open``."""

    def __init__(self) -> None:
        self.messages: list[pb.ExportOrderHistoryResponse] = []
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, message: pb.ExportOrderHistoryResponse) -> None:
        await asyncio.sleep(0)
        self.messages.append(message)
        await self.open.wait()

    @property
    def sequences(self) -> list[int]:
        return [update.sequence for message in self.messages for update in message.updates]

    @property
    def positions(self) -> list[int]:
        return [decode_position(message.position).sequence for message in self.messages]


def question(**fields: Any) -> ExportQuestion:
    return export_question(pb.ExportOrderHistoryRequest(user_id="alice", **fields))


async def settle() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


async def error_of(task: "asyncio.Task[None]") -> CallError:
    with pytest.raises(CallError) as failure:
        await asyncio.wait_for(task, 5)
    return failure.value


@pytest.mark.parametrize("updates", [0, 1, 9, 10, 11, 19, 20, 21, 95, 100])
async def test_pages_join_without_hole_or_repeat_and_the_last_number_is_known_from_the_start(updates: int) -> None:
    stage, reader = Stage(), Reader()
    if updates:
        stage.place(updates)
    stage.place(3, "bob")
    await stage.start(reader)
    assert reader.sequences == stage.mine
    assert {message.last_user_update_number for message in reader.messages} == {updates}
    assert reader.positions[-1] == stage.ledger.sequence
    assert stage.reads < updates // 9 + 12, "the last number is found by halving"


@pytest.mark.parametrize("until_update", [0, 1, 9, 10, 11, 50, 95])
async def test_what_is_stored_later_than_the_end_is_not_sent_and_not_counted(until_update: int) -> None:
    stage, reader = Stage(), Reader()
    stage.place(95)
    end = [stage.mine[0] - 1, *stage.mine][until_update]
    await stage.start(reader, question(until=encode_position(LEDGER_ID, end)))
    assert reader.sequences == stage.mine[:until_update]
    assert {message.last_user_update_number for message in reader.messages} == {until_update}
    assert reader.positions[-1] == end


async def test_a_store_that_is_ahead_of_the_view_shows_nothing_of_that() -> None:
    stage, reader = Stage(), Reader()
    stage.place(12)
    ahead = stage.ledger
    ahead.place("alice")
    chunk = OrderProcessor().project(LEDGER_ID, ahead.batches[-1:])
    shown = stage.mine
    stage.stored += chunk.updates
    await stage.start(reader)
    assert reader.sequences == shown
    assert {message.last_user_update_number for message in reader.messages} == {12}


async def test_a_batch_larger_than_a_page_is_sent_whole_under_one_position() -> None:
    stage, reader = Stage(), Reader()
    makers = [(stage.ledger.place("bob", side=2), 1) for _ in range(40)]
    stage.place(3)
    stage.ledger.place("alice", qty=40, takes=makers)
    stage.advance()
    stage.place(2)
    await stage.start(reader)
    assert reader.sequences == stage.mine
    ends = {batch.last_sequence for batch in stage.ledger.batches}
    assert set(reader.positions) <= ends
    for count, position in enumerate(reader.positions, start=1):
        sent = [update.sequence for message in reader.messages[:count] for update in message.updates]
        assert sent == [sequence for sequence in stage.mine if sequence <= position]


async def test_a_filter_that_lets_nothing_through_still_tells_how_far_it_is() -> None:
    stage, reader = Stage(heartbeat_seconds=0.0), Reader()
    stage.place(95)
    await stage.start(reader, question(symbols=["ETH-USD"]))
    assert reader.sequences == []
    assert len(set(reader.positions)) == len(reader.positions) > 5
    assert reader.positions == sorted(reader.positions)
    assert reader.positions[-1] == stage.ledger.sequence


async def test_nothing_is_read_for_a_reader_that_does_not_read() -> None:
    stage, reader = Stage(), Reader()
    stage.place(95)
    reader.open.clear()
    task = stage.start(reader)
    await settle()
    reads = stage.reads
    await settle()
    assert len(reader.messages) == 1
    assert stage.reads == reads
    reader.open.set()
    await task
    assert reader.sequences == stage.mine


async def test_of_many_exports_only_a_few_read_the_store_at_once_and_all_come_to_their_end() -> None:
    stage = Stage(reads_max=2)
    stage.place(95)
    readers = [Reader() for _ in range(30)]
    await asyncio.gather(*(stage.start(reader) for reader in readers))
    assert stage.reading_max == 2
    assert all(reader.sequences == stage.mine for reader in readers)
    assert stage.exports.running == 0


async def test_a_reader_that_takes_no_message_for_too_long_is_cut_off_with_its_position() -> None:
    stage, reader = Stage(stall_seconds=0.05), Reader()
    stage.place(95)
    reader.open.clear()
    error = await error_of(stage.start(reader))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_READER_TOO_SLOW)
    assert error.metadata["position"] == reader.messages[-1].position
    assert "0.05 s: export again" in error.message
    assert stage.exports.running == 0


async def test_a_halt_ends_every_export_with_its_position() -> None:
    stage, reader = Stage(), Reader()
    stage.place(95)
    reader.open.clear()
    task = stage.start(reader)
    await settle()
    stage.view.halt("ledger sequence 99: it cannot be right")
    error = await error_of(task)
    assert (error.code, error.reason) == (grpc.StatusCode.DATA_LOSS, reasons.ERROR_REASON_HALTED)
    assert error.metadata["position"] == reader.messages[0].position


async def test_a_drain_waits_neither_for_the_reader_nor_for_a_position() -> None:
    stage, reader = Stage(), Reader()
    stage.place(95)
    reader.open.clear()
    ahead = encode_position(LEDGER_ID, stage.ledger.sequence + 1)
    tasks = [stage.start(reader), stage.start(Reader(), question(until=ahead)), stage.start(Reader(), question(after=ahead))]
    await settle()
    stage.exports.end_all(DRAINING)
    errors = [await error_of(task) for task in tasks]
    assert {error.reason for error in errors} == {reasons.ERROR_REASON_DRAINING}
    begin = encode_position(LEDGER_ID, 0)
    assert [error.metadata["position"] for error in errors] == [reader.messages[0].position, begin, ahead]


@pytest.mark.parametrize(
    ("trouble", "code", "reason"),
    [
        (StoreUnavailable("disk full"), grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DEPENDENCY_DOWN),
        (StoreDamaged("page 7"), grpc.StatusCode.DATA_LOSS, reasons.ERROR_REASON_HALTED),
    ],
)
async def test_trouble_of_the_store_ends_an_export_with_its_position(
    trouble: StoreError, code: grpc.StatusCode, reason: int
) -> None:
    stage, reader = Stage(), Reader()
    stage.place(95)
    reader.open.clear()
    task = stage.start(reader)
    await settle()
    stage.trouble = trouble
    reader.open.set()
    error = await error_of(task)
    assert (error.code, error.reason) == (code, reason)
    assert error.metadata["position"] == reader.messages[-1].position
    assert str(trouble) in error.message
