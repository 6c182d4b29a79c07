"""Nothing is seen before its sync: not by who asked for it, not by a retry, a read, a refusal, the feed or a replay."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ordertape.v1 import matching_engine_pb2 as pb
from services.matching_engine.bootstrap import Engine
from tests.support.engine_client import BUY, FILLED, NEW, SELL, EngineClient, cancel, failure_of, limit, newest
from tests.support.engine_feed import FeedReceiver
from tests.support.eventually import eventually

# Long enough for an answer that should not come; an answer that may come takes a hundredth of it.
NOTHING_COMES_SECONDS = 0.3


class HeldSync:
    """Stands before fdatasync: while it is held, the ledger's bytes are written and the sync does not return."""

    def __init__(self) -> None:
        self._sync = os.fdatasync
        self._changed = threading.Condition()
        self._held = False
        self._let_through = 0
        self.waiting = 0
        self.returned = 0

    def __call__(self, file: int) -> None:
        with self._changed:
            self.waiting += 1
            self._changed.wait_for(lambda: not self._held or self._let_through)
            self._let_through -= self._held
            self.waiting -= 1
        self._sync(file)
        self.returned += 1

    def hold(self) -> None:
        self._held = True

    def let_one_through(self) -> None:
        with self._changed:
            self._let_through += 1
            self._changed.notify_all()

    def release(self) -> None:
        with self._changed:
            self._held = False
            self._changed.notify_all()


@pytest.fixture
def sync(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldSync]:
    held = HeldSync()
    monkeypatch.setattr(os, "fdatasync", held)
    yield held
    held.release()


@pytest.fixture
def threads(sync: HeldSync) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool
        sync.release()


def assert_nothing_comes(calls: list[Future[Any]]) -> None:
    done, _ = wait(calls, NOTHING_COMES_SECONDS)
    assert not done


def test_no_answer_and_no_copy_of_it_leaves_before_the_sync_returns(
    engine: Engine, client: EngineClient, sync: HeldSync, threads: ThreadPoolExecutor
) -> None:
    order = limit("a", BUY, "100", "1", client_order_id="k")
    with FeedReceiver(engine.feed_addresses["history"]) as receiver:
        receiver.receive_until(lambda: receiver.heartbeats)
        before = client.status()
        follower = client.replay(before.durable_sequence, follow=True)
        sync.hold()
        placing = threads.submit(client.place, order)
        eventually(lambda: sync.waiting)
        waiting = [
            placing,
            threads.submit(client.place, order),
            threads.submit(client.place, limit("a", BUY, "101", "1", client_order_id="k")),
            threads.submit(client.submit, order),
            threads.submit(client.book),
            threads.submit(client.balances, "a"),
            threads.submit(client.cancel, cancel("b", "k")),
            threads.submit(client.withdraw, pb.WithdrawRequest(user_id="a", asset="USD", amount="1000000", request_id="all")),
            threads.submit(client.deposit, pb.DepositRequest(user_id="a", asset="XRP", amount="1", request_id="r")),
            threads.submit(client.engine.ListInstruments, pb.ListInstrumentsRequest()),
        ]
        assert_nothing_comes(waiting)
        receiver.receive()
        assert client.status() == before
        assert client.status(before.durable_sequence + 2).hash == b""
        assert client.batches(before.durable_sequence) == []
        ahead = failure_of(lambda: client.batches(before.durable_sequence + 1))
        assert (ahead.code, ahead.reason) == (grpc.StatusCode.OUT_OF_RANGE, "POSITION_OUT_OF_RANGE")
        assert {frame.durable_sequence for frame in receiver.frames} == {before.durable_sequence}
        assert receiver.batches == []
        assert not next(follower).frame.batches  # a heartbeat is all that comes
        sync.release()
        placed, again, other, in_a_message, book, balances, not_mine, too_much, unknown, instruments = (
            _outcome(call) for call in waiting
        )
        receiver.receive_until(lambda: receiver.batches)
        assert receiver.batches == client.batches(before.durable_sequence)
    assert newest(placed.updates).status == NEW
    assert again.replayed
    assert other.code == grpc.StatusCode.ALREADY_EXISTS
    assert in_a_message.results[0].replayed
    assert [level.price for level in book.bids] == ["100"]
    assert balances["USD"] == ("999900", "100")
    assert not_mine.code == grpc.StatusCode.NOT_FOUND
    assert too_much.code == grpc.StatusCode.FAILED_PRECONDITION
    assert unknown.code == grpc.StatusCode.NOT_FOUND
    assert book.position == instruments.position == placed.position


def test_what_is_decided_from_commands_of_its_own_group_waits_for_that_groups_sync(
    engine: Engine, client: EngineClient, sync: HeldSync, threads: ThreadPoolExecutor
) -> None:
    client.place(limit("b", SELL, "300", "1", client_order_id="maker"))
    before = client.durable_sequence()
    sync.hold()
    first = threads.submit(client.place, limit("b", BUY, "50", "1"))
    eventually(lambda: sync.waiting)
    # All of this queues behind the first group and becomes the second: refusals and reads that look at unsynced state.
    together = [
        threads.submit(
            client.submit, limit("a", BUY, "300", "1", client_order_id="taker"), cancel("b", "maker"), cancel("a", "taker")
        ),
        threads.submit(client.book),
        threads.submit(client.balances, "a"),
    ]
    eventually(lambda: engine.sequencer._queue.qsize() == len(together))
    sync.let_one_through()
    assert newest(first.result().updates).status == NEW
    eventually(lambda: sync.waiting)
    assert_nothing_comes(together)
    assert client.durable_sequence() == before + 2
    sync.release()
    traded = together[0].result()
    assert newest(traded.results[0].updates).status == FILLED
    assert [result.error.message.startswith("too late") for result in traded.results[1:]] == [True, True]


def test_what_queues_while_a_sync_runs_shares_the_next_one(
    engine: Engine, client: EngineClient, sync: HeldSync, threads: ThreadPoolExecutor
) -> None:
    sync.hold()
    first = threads.submit(client.place, limit("a", BUY, "100", "1"))
    eventually(lambda: sync.waiting)
    before = sync.returned
    others = [threads.submit(client.place, limit("a", BUY, "100", "1")) for _ in range(15)]
    eventually(lambda: engine.sequencer._queue.qsize() == len(others))
    sync.release()
    assert {newest(call.result().updates).status for call in [first, *others]} == {NEW}
    assert sync.returned == before + 2


def test_a_malformed_request_is_told_at_once_since_it_shows_nothing(
    client: EngineClient, sync: HeldSync, threads: ThreadPoolExecutor
) -> None:
    sync.hold()
    placing = threads.submit(client.place, limit("a", BUY, "100", "1"))
    eventually(lambda: sync.waiting)
    assert failure_of(lambda: client.place(pb.PlaceOrderRequest())).code == grpc.StatusCode.INVALID_ARGUMENT
    assert not placing.done()


def test_a_drain_lets_the_waiting_call_have_its_answer_and_refuses_new_ones(
    engine: Engine, client: EngineClient, sync: HeldSync, threads: ThreadPoolExecutor
) -> None:
    health = health_pb2_grpc.HealthStub(client.channel)
    request = health_pb2.HealthCheckRequest(service="ordertape.v1.MatchingEngine")
    assert health.Check(request).status == health_pb2.HealthCheckResponse.SERVING
    follower = client.replay(client.durable_sequence(), follow=True)
    sync.hold()
    placing = threads.submit(client.place, limit("a", BUY, "100", "1"))
    eventually(lambda: sync.waiting)
    draining = threads.submit(engine.drain, 10.0)
    eventually(lambda: health.Check(request).status == health_pb2.HealthCheckResponse.NOT_SERVING)
    refused = failure_of(lambda: client.place(limit("a", BUY, "100", "1")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    followed = failure_of(lambda: list(follower))
    assert (followed.code, followed.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert not draining.done()
    sync.release()
    assert newest(placing.result().updates).status == NEW
    draining.result()


def _outcome(call: Future[Any]) -> Any:
    """The answer, or the failure."""
    result: Callable[[], object] = call.result
    return failure_of(result) if call.exception() else call.result()
