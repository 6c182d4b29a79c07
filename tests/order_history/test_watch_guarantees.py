"""What WatchOrders promises, named after the guarantees of etcd's watch: ordered, unique, complete, atomic, resumable and
bookmarked. Checked at a whole service that follows an engine while the orders come.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from ordertape.v1 import order_pb2
from services.wire.position import Position, decode_position, encode_position
from tests.support.eventually import eventually
from tests.support.fake_engine import FakeEngine
from tests.support.ledger_builder import OPEN, LedgerBuilder
from tests.support.running_history import RunningHistory
from tests.support.watcher import Watcher, updates_in

USERS = ("alice", "bob", "carol")


@pytest.fixture
def ledger() -> LedgerBuilder:
    ledger = LedgerBuilder()
    ledger.open_market(USERS, ("BTC-USD", "ETH-USD"))
    return ledger


@pytest.fixture
def engine(ledger: LedgerBuilder) -> Iterator[FakeEngine]:
    with FakeEngine(ledger.batches) as engine:
        yield engine


@pytest.fixture
def history(engine: FakeEngine, ledger: LedgerBuilder, tmp_path: Path) -> Iterator[RunningHistory]:
    with RunningHistory(engine, tmp_path / "history", chunk_commands_max=50) as history:
        history.wait_until_applied(ledger.sequence)
        yield history


def trade_on(ledger: LedgerBuilder, engine: FakeEngine, orders: int, seed: int = 1) -> None:
    """So many more orders, batch by batch through the feed."""
    begin = len(ledger.batches)
    ledger.live_on(orders, USERS, seed=seed)
    for batch in ledger.batches[begin:]:
        engine.publish(batch)


def updates_of(ledger: LedgerBuilder, user_id: str, after: int = 0) -> list[order_pb2.OrderUpdate]:
    return [update for update in ledger.updates if update.user_id == user_id and update.sequence > after]


def sequence_of(position: str) -> int:
    return decode_position(position).sequence


def start_of(ledger: LedgerBuilder) -> str:
    return encode_position(ledger.ledger_id, 0)


def wait_for(watcher: Watcher, updates: list[order_pb2.OrderUpdate]) -> None:
    eventually(lambda: bool(watcher.updates) and watcher.updates[-1].sequence >= updates[-1].sequence)


@pytest.fixture
def watched(ledger: LedgerBuilder, engine: FakeEngine, history: RunningHistory) -> Watcher:
    """A watcher that heard two hundred orders, the first half of them from the store."""
    trade_on(ledger, engine, 100)
    with Watcher(history.history.server.address, "alice", start_of(ledger)) as watcher:
        trade_on(ledger, engine, 100, seed=2)
        wait_for(watcher, updates_of(ledger, "alice"))
    return watcher


def test_ordered_updates_come_in_the_order_of_the_ledger(watched: Watcher) -> None:
    sequences = [update.sequence for update in watched.updates]
    assert sequences == sorted(sequences)


def test_unique_no_update_comes_twice(watched: Watcher) -> None:
    numbers = [update.user_update_number for update in watched.updates]
    assert len(numbers) == len(set(numbers))


def test_complete_no_update_is_missing_and_each_is_what_the_ledger_says(watched: Watcher, ledger: LedgerBuilder) -> None:
    assert [update.user_update_number for update in watched.updates] == list(range(1, len(watched.updates) + 1))
    assert watched.updates == updates_of(ledger, "alice")


def test_atomic_a_position_stands_only_where_a_batch_ends(watched: Watcher, ledger: LedgerBuilder) -> None:
    ends = {batch.last_sequence for batch in ledger.batches}
    seen = 0
    for count, message in enumerate(watched.messages, start=1):
        if message.position:
            seen += 1
            assert sequence_of(message.position) in ends
            up_to_here = [u for u in updates_of(ledger, "alice") if u.sequence <= sequence_of(message.position)]
            assert updates_in(watched.messages[:count]) == up_to_here
    assert seen > 1


def test_resumable_from_every_position_the_rest_comes_exactly_once(
    watched: Watcher, ledger: LedgerBuilder, history: RunningHistory
) -> None:
    positions = [message.position for message in watched.messages if message.position]
    for position in positions[:: max(1, len(positions) // 8)]:
        rest = updates_of(ledger, "alice", after=sequence_of(position))
        with Watcher(history.history.server.address, "alice", position) as resumed:
            if rest:
                wait_for(resumed, rest)
            assert resumed.updates == rest


def test_resumable_over_restarts_of_the_history_and_of_the_engine(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path
) -> None:
    position, heard = start_of(ledger), list[order_pb2.OrderUpdate]()
    for round_number in range(3):
        with RunningHistory(engine, tmp_path / "history") as history:
            trade_on(ledger, engine, 30, seed=round_number)
            with Watcher(history.history.server.address, "alice", position) as watcher:
                eventually(lambda watcher=watcher: len(watcher.updates) >= 10)
            position = watcher.position
            heard += [update for update in watcher.updates if update.sequence <= sequence_of(position)]
        ledger.start_engine()
        ledger.live_on(20, USERS, seed=10 + round_number)
        engine = engine.restarted(ledger.batches, epoch=ledger.epoch)
    with (
        engine,
        RunningHistory(engine, tmp_path / "history") as history,
        Watcher(history.history.server.address, "alice", position) as watcher,
    ):
        wait_for(watcher, updates_of(ledger, "alice"))
        assert heard + watcher.updates == updates_of(ledger, "alice")


def test_bookmarked_a_heartbeat_moves_the_position_on_where_nothing_happens_to_the_user(
    ledger: LedgerBuilder, engine: FakeEngine, history: RunningHistory
) -> None:
    with Watcher(history.history.server.address, "alice") as watcher:
        eventually(lambda: watcher.has_snapshot)
        ledger.place("bob")
        engine.publish(ledger.batches[-1])
        eventually(lambda: watcher.position == encode_position(ledger.ledger_id, ledger.sequence))
        assert watcher.messages[-1].HasField("heartbeat")
        assert watcher.updates == []
    ledger.place("alice")
    engine.publish(ledger.batches[-1])
    with Watcher(history.history.server.address, "alice", watcher.position) as resumed:
        eventually(lambda: resumed.updates == updates_of(ledger, "alice"))


def test_a_snapshot_and_what_follows_have_no_hole_under_concurrent_ingest(
    ledger: LedgerBuilder, engine: FakeEngine, history: RunningHistory
) -> None:
    address, enough = history.history.server.address, threading.Event()

    def trade() -> None:
        while not enough.is_set():
            trade_on(ledger, engine, 20, seed=len(ledger.batches))

    trading = threading.Thread(target=trade)
    with ExitStack() as watches:
        trading.start()
        watchers = []
        for number in range(30):
            watchers.append(watches.enter_context(Watcher(address, USERS[number % 3])))
            eventually(lambda: watchers[-1].has_snapshot)
        enough.set()
        trading.join()
        begins = [sequence_of(next(m.position for m in w.messages if m.snapshot.last_page)) for w in watchers]
        assert len(set(begins)) > 10
        for watcher, begin in zip(watchers, begins, strict=True):
            rest = updates_of(ledger, watcher.user_id, after=begin)
            eventually(lambda watcher=watcher: sequence_of(watcher.position) == ledger.sequence)
            assert watcher.updates == rest
            orders = {order.order_id: order for order in [*watcher.snapshot, *watcher.updates]}
            still_open = [order for _, order in sorted(orders.items()) if order.status in OPEN]
            assert still_open == ledger.open_orders(watcher.user_id)


def test_a_snapshot_has_the_open_orders_by_order_id_and_a_position_on_its_last_page_alone(
    ledger: LedgerBuilder, engine: FakeEngine, history: RunningHistory
) -> None:
    for _ in range(1_100):
        ledger.place("alice")
    engine.publish(*ledger.batches[-1_100:])
    history.wait_until_applied(ledger.sequence)
    with Watcher(history.history.server.address, "alice") as watcher:
        eventually(lambda: watcher.has_snapshot)
        pages = [message for message in watcher.messages if message.HasField("snapshot")]
        assert [len(page.snapshot.orders) for page in pages] == [500, 500, 100]
        assert [page.snapshot.last_page for page in pages] == [False, False, True]
        assert [page.position for page in pages] == ["", "", encode_position(ledger.ledger_id, ledger.sequence)]
        assert watcher.snapshot == ledger.open_orders("alice")


def test_a_user_without_orders_gets_an_empty_last_page(history: RunningHistory) -> None:
    with Watcher(history.history.server.address, "nobody") as watcher:
        eventually(lambda: watcher.has_snapshot)
        assert watcher.snapshot == []
        assert watcher.position


def test_filters_let_through_what_they_name_and_the_position_moves_on(
    ledger: LedgerBuilder, engine: FakeEngine, history: RunningHistory
) -> None:
    address = history.history.server.address
    start = start_of(ledger)
    order_ids = [1, 3, 5, 7, 11]
    with (
        Watcher(address, "alice", start, symbols=["ETH-USD"]) as by_symbol,
        Watcher(address, "alice", start, order_ids=order_ids) as by_order,
        Watcher(address, "alice", symbols=["ETH-USD"]) as live,
    ):
        eventually(lambda: live.has_snapshot)
        trade_on(ledger, engine, 100)
        end = encode_position(ledger.ledger_id, ledger.sequence)
        for watcher in (by_symbol, by_order, live):
            eventually(lambda watcher=watcher: watcher.position == end)
        mine = updates_of(ledger, "alice")
        assert by_symbol.updates == live.updates == [update for update in mine if update.symbol == "ETH-USD"]
        assert by_order.updates == [update for update in mine if update.order_id in order_ids]
    with Watcher(address, "alice", symbols=["ETH-USD"], order_ids=[1]) as both:
        eventually(lambda: both.has_snapshot)
        assert both.snapshot == [o for o in ledger.open_orders("alice") if o.symbol == "ETH-USD" and o.order_id == 1]


def test_after_ahead_of_the_history_waits_and_then_goes_on_there(
    ledger: LedgerBuilder, engine: FakeEngine, history: RunningHistory
) -> None:
    ahead = encode_position(ledger.ledger_id, ledger.sequence + 4)
    with Watcher(history.history.server.address, "alice", ahead) as watcher:
        eventually(lambda: watcher.messages)
        assert {message.position for message in watcher.messages} == {ahead}
        for _ in range(4):
            ledger.place("alice")
        engine.publish(*ledger.batches[-4:])
        rest = updates_of(ledger, "alice", after=sequence_of(ahead))
        assert 0 < len(rest) < 4
        wait_for(watcher, rest)
        assert watcher.updates == rest


def test_after_of_another_ledger_is_out_of_range_and_names_the_oldest(ledger: LedgerBuilder, history: RunningHistory) -> None:
    with Watcher(history.history.server.address, "alice", encode_position("f" * 16, 5)) as watcher:
        eventually(lambda: watcher.error)
    assert watcher.error.code() is grpc.StatusCode.OUT_OF_RANGE
    assert watcher.error_info.reason == "POSITION_OUT_OF_RANGE"
    assert watcher.error_info.metadata["oldest_position"] == start_of(ledger)


def test_a_slow_watcher_is_cut_off_with_its_position_and_resumes_without_loss(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path
) -> None:
    with RunningHistory(engine, tmp_path / "history", watch_queue_updates_max=500, chunk_commands_max=200) as history:
        address = history.history.server.address
        with (
            Watcher(address, "alice", start_of(ledger)) as quick,
            Watcher(address, "alice", start_of(ledger), window_bytes=1024) as slow,
        ):
            eventually(lambda: slow.messages)
            slow.reading.clear()
            while history.history.watches.running == 2:
                trade_on(ledger, engine, 200, seed=len(ledger.batches))
                wait_for(quick, updates_of(ledger, "alice"))
            slow.reading.set()
            eventually(lambda: slow.error)
            assert slow.error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert slow.error_info.reason == "READER_TOO_SLOW"
            assert slow.error_info.metadata["position"] == slow.position
            assert quick.updates == updates_of(ledger, "alice")
        with Watcher(address, "alice", slow.error_info.metadata["position"]) as resumed:
            wait_for(resumed, updates_of(ledger, "alice"))
            assert slow.updates + resumed.updates == updates_of(ledger, "alice")


def test_a_drain_ends_watches_with_their_position(ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path) -> None:
    with ExitStack() as running:
        history = running.enter_context(RunningHistory(engine, tmp_path / "history"))
        history.wait_until_applied(ledger.sequence)
        with Watcher(history.history.server.address, "alice") as watcher:
            eventually(lambda: watcher.has_snapshot)
            running.close()
            eventually(lambda: watcher.error)
    assert watcher.error.code() is grpc.StatusCode.UNAVAILABLE
    assert watcher.error_info.reason == "DRAINING"
    assert decode_position(watcher.error_info.metadata["position"]) == Position(ledger.ledger_id, ledger.sequence)
