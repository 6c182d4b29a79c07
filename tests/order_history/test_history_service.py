"""The whole history service against an engine that loses, repeats, delays, restarts and forges: real sockets, a real store."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from ordertape.v1 import ledger_pb2, order_pb2
from ordertape.v1 import order_history_pb2 as pb
from services.order_history.order_processor import Chunk, OrderProcessor, ReceivedBatch
from services.order_history.stores import StoreDamaged, StoreUnavailable
from services.order_history.stores.sqlite import SqliteHistoryStore
from tests.support.eventually import eventually
from tests.support.fake_engine import FakeEngine
from tests.support.history_dump import dump
from tests.support.ledger_builder import LedgerBuilder, received
from tests.support.running_history import RunningHistory
from tests.support.watcher import Watcher

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


def grow(ledger: LedgerBuilder, orders: int, seed: int = 1) -> list[ReceivedBatch]:
    """The batches of so many more orders."""
    begin = len(ledger.batches)
    ledger.live_on(orders, USERS, seed=seed)
    return ledger.batches[begin:]


def fold(ledger: LedgerBuilder, folder: Path) -> list[str]:
    """What the tables must be after all of the ledger."""
    store = SqliteHistoryStore(folder)
    store.apply(OrderProcessor().project(ledger.ledger_id, ledger.batches))
    store.close()
    return dump(folder)


def test_a_history_that_starts_late_catches_up_and_then_follows_live(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path
) -> None:
    engine.append(*grow(ledger, 200))
    with RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        eventually(history.is_serving)
        for batch in grow(ledger, 50, seed=2):
            engine.publish(batch)
        history.wait_until_applied(ledger.sequence)
        status = eventually(lambda: (s := history.status()).state == pb.HISTORY_STATE_LIVE and s)
        assert status.ledger_id == ledger.ledger_id
        assert status.epoch == 1
        assert status.durable_sequence == status.applied_sequence == ledger.sequence
        assert status.lag_commands == 0
        assert status.lag.ToNanoseconds() == 0
        assert status.open_orders == len(ledger.open_orders())
        assert status.store == "sqlite"
        assert status.halt_reason == ""
        assert status.gaps_repaired == 0
    assert dump(tmp_path / "history") == fold(ledger, tmp_path / "fold")


def test_it_is_not_serving_until_what_the_engine_had_at_the_start_is_applied(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path
) -> None:
    engine.stop()
    with RunningHistory(engine, tmp_path / "history") as history:
        assert not history.is_serving()
        assert history.status().state == pb.HISTORY_STATE_CATCHING_UP
        with FakeEngine(ledger.batches, feed=engine.feed, address=engine.address):
            eventually(history.is_serving)
            assert history.status().applied_sequence == ledger.sequence


@pytest.mark.parametrize("seed", range(4))
def test_frames_lost_repeated_reordered_and_delayed_end_in_the_fold_of_the_ledger(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    delayed: list[ReceivedBatch] = []
    with RunningHistory(engine, tmp_path / "history", gap_patience_seconds=0.05) as history:
        history.wait_until_applied(ledger.sequence)
        for batch in grow(ledger, 150, seed=seed):
            engine.append(batch)
            match chance.choice(("push", "push", "push", "lose", "repeat", "delay")):
                case "push":
                    engine.push(batch)
                case "repeat":
                    engine.push(batch)
                    engine.push(*engine.batches[-3:])
                case "delay":
                    delayed.append(batch)
            if delayed and chance.random() < 0.2:
                engine.push(delayed.pop(chance.randrange(len(delayed))))
        history.wait_until_applied(ledger.sequence)
        assert history.status().gaps_repaired > 0
    assert dump(tmp_path / "history") == fold(ledger, tmp_path / "fold")


def test_a_lost_tail_shows_in_the_heartbeats_and_is_repaired(ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path) -> None:
    with RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        engine.append(*grow(ledger, 10))
        history.wait_until_applied(ledger.sequence)
        assert eventually(lambda: history.status().gaps_repaired) == 1
    assert dump(tmp_path / "history") == fold(ledger, tmp_path / "fold")


def test_two_receivers_on_one_address_split_the_stream_and_both_end_complete(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path
) -> None:
    with RunningHistory(engine, tmp_path / "one") as one, RunningHistory(engine, tmp_path / "two") as two:
        one.wait_until_applied(ledger.sequence)
        two.wait_until_applied(ledger.sequence)
        for batch in grow(ledger, 100):
            engine.publish(batch)
        one.wait_until_applied(ledger.sequence)
        two.wait_until_applied(ledger.sequence)
        assert one.status().gaps_repaired + two.status().gaps_repaired > 0
    assert dump(tmp_path / "one") == dump(tmp_path / "two") == fold(ledger, tmp_path / "fold")


def test_a_feed_that_says_nothing_is_made_up_for_by_asking(ledger: LedgerBuilder, tmp_path: Path) -> None:
    with (
        FakeEngine(ledger.batches, heartbeat_seconds=1000) as engine,
        RunningHistory(engine, tmp_path / "history", silence_seconds=0.1) as history,
    ):
        history.wait_until_applied(ledger.sequence)
        engine.append(*grow(ledger, 10))
        history.wait_until_applied(ledger.sequence)


def test_an_engine_that_restarts_with_a_higher_epoch_is_followed_on(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path
) -> None:
    with RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        ledger.start_engine()
        grow(ledger, 20)
        with engine.restarted(ledger.batches, epoch=2) as restarted:
            history.wait_until_applied(ledger.sequence)
            for batch in grow(ledger, 20, seed=2):
                restarted.publish(batch)
            history.wait_until_applied(ledger.sequence)
            assert history.status().epoch == 2
            assert history.is_serving()
    assert dump(tmp_path / "history") == fold(ledger, tmp_path / "fold")


def test_reads_go_on_while_the_engine_is_away(ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path) -> None:
    order_id = ledger.place("alice")
    engine.publish(ledger.batches[-1])
    with RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        engine.stop()
        found = history.stub.GetOrder(pb.GetOrderRequest(user_id="alice", order_id=order_id), timeout=5)
        assert found.order.status == order_pb2.ORDER_STATUS_NEW
        assert history.status().halt_reason == ""


def test_a_replay_that_breaks_off_goes_on_where_it_was(ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path) -> None:
    engine.append(*grow(ledger, 100))
    engine.break_replay_after = 50
    with RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        assert engine.replays == [0, engine.batches[49].last_sequence]
    assert dump(tmp_path / "history") == fold(ledger, tmp_path / "fold")


def assert_halted(history: RunningHistory, sequence: int, why: str) -> None:
    """It stays up to tell, and serves nothing that may be wrong."""
    reason = history.wait_until_halted()
    assert f"sequence {sequence}" in reason
    assert why in reason
    status = history.status()
    assert status.state == pb.HISTORY_STATE_HALTED
    eventually(lambda: not history.is_serving())
    with pytest.raises(grpc.RpcError) as refused:
        history.stub.ListActiveOrders(pb.ListActiveOrdersRequest(user_id="alice"), timeout=5)
    assert refused.value.code() is grpc.StatusCode.DATA_LOSS
    assert why in refused.value.details()
    with pytest.raises(grpc.RpcError) as refused:
        next(history.stub.WatchOrders(pb.WatchOrdersRequest(user_id="alice"), timeout=5))
    assert refused.value.code() is grpc.StatusCode.DATA_LOSS


@pytest.mark.parametrize("epoch", [2, 1], ids=["with a higher epoch", "with an epoch that was there before"])
def test_a_ledger_put_back_from_an_older_copy_halts_and_says_why(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path, epoch: int
) -> None:
    older = list(ledger.batches)
    for batch in grow(ledger, 20):
        engine.publish(batch)
    with RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        with engine.restarted(older, epoch=epoch):
            assert_halted(history, ledger.sequence, "put back from an older copy")


def test_a_fork_of_the_ledger_halts_and_says_why(ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path) -> None:
    fork = LedgerBuilder(time=ledger.time + 5)
    fork.open_market(USERS, ("BTC-USD", "ETH-USD"))
    with RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        with engine.restarted(fork.batches, epoch=2):
            assert_halted(history, ledger.sequence, "they have parted")


def test_another_ledger_at_the_engines_address_halts(ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path) -> None:
    with RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        with engine.restarted(ledger.batches, epoch=1, ledger_id="ffffffffffffffff"):
            assert_halted(history, ledger.sequence, "this history follows")


def test_a_halted_history_halts_again_after_a_restart(ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path) -> None:
    older = list(ledger.batches)
    for batch in grow(ledger, 20):
        engine.publish(batch)
    with RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
    with engine.restarted(older, epoch=2) as restored, RunningHistory(restored, tmp_path / "history") as history:
        assert_halted(history, ledger.sequence, "put back from an older copy")


def forged(batch: ReceivedBatch, **how: object) -> ReceivedBatch:
    """The batch with its last command's OrderUpdate changed, or in a variant that nobody knows."""
    message = ledger_pb2.LedgerBatch.FromString(batch.data)
    last = message.commands[-1]
    if how:
        last.order_update.MergeFrom(order_pb2.OrderUpdate(**how))  # type: ignore[arg-type]
    else:
        sequence = last.sequence
        # Field 200, which no variant has, as a later program might write it.
        last.ParseFromString(ledger_pb2.LedgerCommand(sequence=sequence).SerializeToString() + b"\xc2\x0c\x00")
    return received(message.SerializeToString())


@pytest.mark.parametrize(
    ("how", "why"),
    [
        pytest.param({"status": order_pb2.ORDER_STATUS_FILLED}, "cannot go from", id="a transition that is forbidden"),
        pytest.param({"status": 99}, "cannot go from", id="an unknown status"),
        pytest.param({}, "does not know what its command is", id="an unknown variant"),
    ],
)
@pytest.mark.parametrize("way", ["feed", "replay"])
def test_what_cannot_be_right_halts_behind_what_came_before(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path, how: dict[str, object], why: str, way: str
) -> None:
    with RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        ledger.place("alice")
        good = ledger.batches[-1]
        ledger.place("bob")
        bad = forged(ledger.batches.pop(), **how)
        if way == "feed":
            engine.publish(good, bad)
        else:
            engine.append(good, bad)
        assert_halted(history, bad.last_sequence, why)
        assert history.status().applied_sequence == good.last_sequence
    assert dump(tmp_path / "history") == fold(ledger, tmp_path / "fold")


def test_a_broken_hash_chain_halts(ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path) -> None:
    with RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        ledger.place("alice")
        message = ledger_pb2.LedgerBatch.FromString(ledger.batches[-1].data)
        message.previous_hash = b"\x07" * 32
        engine.publish(received(message.SerializeToString()))
        assert_halted(history, message.first_sequence, "hash chain is broken")


class FailingStore(SqliteHistoryStore):
    """A real store whose writes fail while ``failure`` says how."""

    failure: Exception | None = None

    def apply(self, chunk: Chunk) -> bool:
        if self.failure is not None:
            raise self.failure
        return super().apply(chunk)


def test_a_store_that_is_down_for_a_while_stops_nothing_for_good_and_nothing_is_skipped(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path
) -> None:
    store = FailingStore(tmp_path / "history")
    with RunningHistory(engine, tmp_path / "history", store=store) as history:
        history.wait_until_applied(ledger.sequence)
        eventually(history.is_serving)
        store.failure = StoreUnavailable("database or disk is full")
        for batch in grow(ledger, 30):
            engine.publish(batch)
        eventually(lambda: not history.is_serving())
        assert "disk is full" in history.history.view.trouble()
        assert history.status().halt_reason == ""
        behind = ledger.sequence - history.status().applied_sequence
        eventually(lambda: history.status().lag_commands == behind, 20)
        store.failure = None
        history.wait_until_applied(ledger.sequence)
        eventually(history.is_serving)
    assert dump(tmp_path / "history") == fold(ledger, tmp_path / "fold")


@pytest.mark.parametrize("failure", [StoreDamaged("database disk image is malformed"), ZeroDivisionError("a defect of ours")])
def test_a_store_that_is_damaged_or_a_defect_halts(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path, failure: Exception
) -> None:
    store = FailingStore(tmp_path / "history")
    with RunningHistory(engine, tmp_path / "history", store=store) as history:
        history.wait_until_applied(ledger.sequence)
        store.failure = failure
        ledger.place("alice")
        engine.publish(ledger.batches[-1])
        assert str(failure) in history.wait_until_halted()
        eventually(lambda: not history.is_serving())


def test_it_stops_at_once_while_the_store_is_down_and_while_the_engine_is_away(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path
) -> None:
    store = FailingStore(tmp_path / "history")
    store.failure = StoreUnavailable("database or disk is full")
    begin = time.monotonic()
    with RunningHistory(engine, tmp_path / "history", store=store) as history:
        eventually(lambda: "disk is full" in history.history.view.trouble())
    engine.stop()
    with RunningHistory(engine, tmp_path / "history") as history:
        eventually(lambda: "catching up" in history.history.view.trouble())
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("way", ["feed", "replay"])
def test_the_largest_batch_passes_whole(ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path, way: str) -> None:
    makers = [(ledger.place("bob", side=order_pb2.SIDE_SELL, price=100), 1) for _ in range(5_000)]
    engine.append(*ledger.batches[len(engine.batches) :])
    with RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        with Watcher(history.history.server.address, "bob") as live:
            eventually(lambda: live.has_snapshot)
            before = history.history.view.position
            ledger.place("alice", qty=5_000, takes=makers)
            assert len(ledger.batches[-1].data) > 2 << 20
            engine.append(ledger.batches[-1])
            if way == "feed":
                engine.push(ledger.batches[-1])
            history.wait_until_applied(ledger.sequence)
            eventually(lambda: live.position == history.history.view.position)
        with Watcher(history.history.server.address, "bob", before) as resumed:
            eventually(lambda: resumed.position == history.history.view.position)
        for watcher in (live, resumed):
            messages = [message for message in watcher.messages if message.HasField("updates")]
            assert len(messages) > 1
            assert [message.position for message in messages[:-1]] == [""] * (len(messages) - 1)
            assert len(watcher.updates) == 5_000
    assert dump(tmp_path / "history") == fold(ledger, tmp_path / "fold")
