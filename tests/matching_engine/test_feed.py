"""The feed and the ledger's replay: the ledger's own bytes, in order, and never a reason for the engine to wait."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from ordertape.v1 import ledger_pb2
from services.matching_engine.bootstrap import Engine
from services.matching_engine.feed import FRAMES_QUEUED_MAX, Feed
from tests.support.engine_client import BUY, NEW, SELL, EngineClient, failure_of, limit, newest
from tests.support.engine_exchange import running_engine
from tests.support.engine_feed import FeedReceiver
from tests.support.eventually import eventually


@pytest.fixture
def receiver(engine: Engine, client: EngineClient) -> Iterator[FeedReceiver]:
    """Connected: the first heartbeat has come, so what comes now is what happens now."""
    with FeedReceiver(engine.feed_addresses["history"]) as connected:
        connected.receive_until(lambda: connected.heartbeats)
        connected.frames.clear()
        yield connected


def trade_a_little(client: EngineClient, count: int = 30) -> None:
    """Orders that rest and trade, alone and in messages of many: batches of one to several commands."""
    for number in range(count):
        client.place(limit("a", SELL, str(300 + number % 3), "2"))
        client.submit(limit("b", BUY, "301", "1"), limit("b", BUY, "301", "1.5"), limit("a", BUY, "0.5", "1"))


def test_frames_carry_the_ledgers_bytes_in_order_and_without_a_hole(client: EngineClient, receiver: FeedReceiver) -> None:
    before = client.durable_sequence()
    trade_a_little(client)
    expected = client.batches(before)
    receiver.receive_until(lambda: len(receiver.batches) >= len(expected))
    assert receiver.batches == expected
    status = client.status()
    for frame in receiver.frames:
        assert (frame.ledger_id, frame.epoch) == (status.ledger_id, 1)
        for data in frame.batches:
            batch = ledger_pb2.LedgerBatch.FromString(data)
            assert batch.commands[-1].sequence <= frame.durable_sequence <= status.durable_sequence


def test_an_idle_engine_says_every_tenth_of_a_second_how_far_the_ledger_is(client: EngineClient, receiver: FeedReceiver) -> None:
    receiver.receive_until(lambda: len(receiver.frames) >= 4)
    assert all(not frame.batches for frame in receiver.frames)
    assert {frame.durable_sequence for frame in receiver.frames} == {client.durable_sequence()}


def test_an_engine_that_is_busy_with_reads_alone_still_says_how_far_the_ledger_is(
    client: EngineClient, receiver: FeedReceiver
) -> None:
    enough = threading.Event()

    def read() -> None:
        while not enough.is_set():
            client.book()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        receiver.receive_until(lambda: len(receiver.heartbeats) >= 4)
    finally:
        enough.set()
        reader.join()


def test_every_consumer_has_a_feed_of_its_own_with_all_of_it(data_dir: Path) -> None:
    feeds = {"history": "tcp://127.0.0.1:0", "risk": "tcp://127.0.0.1:0"}
    with (
        running_engine(data_dir, feeds=feeds) as engine,
        EngineClient(engine.address) as client,
        FeedReceiver(engine.feed_addresses["history"]) as history,
        FeedReceiver(engine.feed_addresses["risk"]) as risk,
    ):
        for receiver in (history, risk):
            receiver.receive_until(lambda receiver=receiver: receiver.heartbeats)
            receiver.frames.clear()
        before = client.durable_sequence()
        client.fund("a", "b", USD="1000000", BTC="1000")
        trade_a_little(client)
        expected = client.batches(before)
        for receiver in (history, risk):
            receiver.receive_until(lambda receiver=receiver: len(receiver.batches) >= len(expected))
            assert receiver.batches == expected


def test_two_receivers_on_one_feed_are_alarmed_and_share_the_frames_while_the_engine_goes_on(
    engine: Engine, client: EngineClient, receiver: FeedReceiver
) -> None:
    with capture_logs() as logs, FeedReceiver(engine.feed_addresses["history"]) as second:
        eventually(lambda: [entry for entry in logs if "more than one receiver" in entry["event"]])
        (alarm,) = logs
        assert (alarm["log_level"], alarm["feed"], alarm["receivers"]) == ("error", "history", 2)
        before = client.durable_sequence()
        trade_a_little(client)
        expected = client.batches(before)
        for each in (receiver, second):
            each.receive_until(lambda each=each: each.heartbeats and each.heartbeats[-1].durable_sequence > before)
        assert sorted(receiver.batches + second.batches) == sorted(expected)
        assert receiver.batches
        assert second.batches
    with capture_logs() as logs, FeedReceiver(engine.feed_addresses["history"]):
        eventually(lambda: [entry for entry in logs if "more than one receiver" in entry["event"]])


def test_what_connects_and_is_no_receiver_is_not_counted_as_one(engine: Engine, receiver: FeedReceiver) -> None:
    host, _, port = engine.feed_addresses["history"].removeprefix("tcp://").rpartition(":")
    receiver.receive_until(lambda: receiver.heartbeats)
    with capture_logs() as logs:
        for words in (b"", b"GET / HTTP/1.1\r\n\r\n" * 10):
            with socket.create_connection((host, int(port))) as stranger:
                stranger.sendall(words)
        with FeedReceiver(engine.feed_addresses["history"]):
            eventually(lambda: [entry for entry in logs if "more than one receiver" in entry["event"]])
    assert [entry["receivers"] for entry in logs] == [2]


def test_a_receiver_in_the_place_of_one_that_left_is_no_reason_for_an_alarm(engine: Engine, client: EngineClient) -> None:
    with capture_logs() as logs:
        for _ in range(5):
            with FeedReceiver(engine.feed_addresses["history"]) as receiver:
                receiver.receive_until(lambda receiver=receiver: receiver.heartbeats)
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


def test_a_receiver_that_takes_nothing_loses_frames_and_holds_up_nobody(engine: Engine, client: EngineClient) -> None:
    with FeedReceiver(engine.feed_addresses["history"], RCVHWM=1, RCVBUF=4096) as slow:
        slow.receive_until(lambda: slow.heartbeats)
        before = client.durable_sequence()
        small, large = limit("a", BUY, "1", "0.01"), [limit("a", BUY, "1", "0.01")] * 500
        for _ in range(30):  # some megabytes, more than TCP takes in
            client.submit(*large)
        for _ in range(400):  # more frames than are queued
            client.place(small)
        expected = client.batches(before)
        slow.receive_until(lambda: slow.frames[-1].durable_sequence >= before + 2 * len(expected))
    assert 0 < len(slow.batches) < len(expected)
    received = set(slow.batches)
    assert [data for data in expected if data in received] == slow.batches


def test_a_slow_receiver_is_told_of_once_and_its_lost_frames_are_counted() -> None:
    with closing(Feed({"history": "tcp://127.0.0.1:0"})) as feed, capture_logs() as logs:
        feed.publish("0123456789abcdef", 1, 1, ())
        assert feed.dropped == {"history": 1}  # nobody is there yet
        with FeedReceiver(feed.addresses["history"], RCVHWM=1, RCVBUF=4096) as slow:

            def connected() -> list[ledger_pb2.LedgerFrame]:
                feed.publish("0123456789abcdef", 1, 1, ())
                slow.receive()
                return slow.frames

            eventually(connected)
            feed.watch()
            before = feed.dropped["history"]
            for _ in range(3):
                for _ in range(FRAMES_QUEUED_MAX):
                    feed.publish("0123456789abcdef", 1, 1, [b"x" * 50_000])
                feed.watch()
    assert feed.dropped["history"] > before + FRAMES_QUEUED_MAX
    (warning,) = logs
    assert "feed drops frames" in warning["event"]
    assert (warning["log_level"], warning["feed"]) == ("warning", "history")


def test_an_engine_without_any_receiver_goes_on(client: EngineClient) -> None:
    trade_a_little(client)


def test_a_replay_begins_with_the_batch_that_holds_the_next_sequence_whichever_that_is(client: EngineClient) -> None:
    trade_a_little(client, 3)
    batches = client.batches()
    parsed = [ledger_pb2.LedgerBatch.FromString(data) for data in batches]
    assert any(len(batch.commands) > 3 for batch in parsed)
    ends = [batch.commands[-1].sequence for batch in parsed]
    for sequence in range(ends[-1] + 1):
        assert client.batches(sequence) == batches[sum(end <= sequence for end in ends) :]
    assert ends[-1] == client.durable_sequence()


def test_a_replay_beyond_the_durable_sequence_is_out_of_range_and_says_what_is_durable(client: EngineClient) -> None:
    durable = client.durable_sequence()
    assert client.batches(durable) == []
    failure = failure_of(lambda: client.batches(durable + 1))
    assert (failure.code, failure.reason) == (grpc.StatusCode.OUT_OF_RANGE, "POSITION_OUT_OF_RANGE")
    assert failure.metadata == {"durable_sequence": str(durable)}


def test_a_replay_that_follows_goes_on_with_what_becomes_durable_and_beats_when_idle(client: EngineClient) -> None:
    before = client.durable_sequence()
    follower = client.replay(follow=True)
    received: list[bytes] = []

    def take_until(sequence: int) -> None:
        for response in follower:
            received.extend(response.frame.batches)
            if response.frame.durable_sequence >= sequence and not response.frame.batches:
                return

    take_until(before)
    trade_a_little(client, 3)
    durable = client.durable_sequence()
    take_until(durable)
    assert received == client.batches()
    follower.cancel()
    assert newest(client.place(limit("a", BUY, "1", "0.01")).updates).status == NEW


def test_the_replays_that_run_at_once_are_limited(data_dir: Path) -> None:
    with running_engine(data_dir, replays_max=2) as engine, EngineClient(engine.address) as client:
        followers = [client.replay(follow=True) for _ in range(2)]
        for follower in followers:
            next(follower)
        failure = failure_of(client.batches)
        assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        followers[0].cancel()
        eventually(lambda: _replays(client))


def test_a_hash_is_told_where_a_batch_ends_and_nowhere_else(client: EngineClient) -> None:
    trade_a_little(client, 3)
    hashes = {ledger_pb2.LedgerBatch.FromString(data).commands[-1].sequence: sha256(data).digest() for data in client.batches()}
    status = client.status()
    assert (status.epoch, status.durable_sequence, status.HasField("hash")) == (1, max(hashes), False)
    at_zero = client.status(0)
    assert at_zero.HasField("hash")
    assert at_zero.hash == b""
    for sequence in range(1, status.durable_sequence + 3):
        answer = client.status(sequence)
        assert answer.HasField("hash") == (sequence in hashes)
        assert answer.hash == hashes.get(sequence, b"")
    assert not client.status(-1).HasField("hash")


def test_an_epoch_begins_with_every_start_and_the_ledger_keeps_its_name(data_dir: Path) -> None:
    seen = []
    for _ in range(3):
        with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
            status = client.status()
            seen.append((status.ledger_id, status.epoch))
            with FeedReceiver(engine.feed_addresses["history"]) as receiver:
                receiver.receive_until(lambda receiver=receiver: receiver.frames)
                assert (receiver.frames[0].ledger_id, receiver.frames[0].epoch) == seen[-1]
    assert [epoch for _, epoch in seen] == [1, 2, 3]
    assert len({ledger_id for ledger_id, _ in seen}) == 1


def _replays(client: EngineClient) -> bool:
    try:
        return bool(client.batches())
    except grpc.RpcError:
        return False
