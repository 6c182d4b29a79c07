"""What can go wrong between the engine and its history: lost, repeated and late frames, a second receiver, resets, a partition,
either of them restarted while the other is down. The history ends as the fold of the ledger, and says the truth meanwhile.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ordertape.v1 import order_history_pb2 as history_pb2
from tests.support.bad_wire import Cable, LossyFeed, Thief, talk_to_a_feed, visit
from tests.support.eventually import eventually
from tests.support.exact_watch import ExactWatch
from tests.support.exchange_process import Exchange
from tests.support.exchange_proof import assert_equal_lines, prove, prove_fold
from tests.support.history_dump import dump_of_any_run
from tests.support.order_flow import Load, Step

PARTITION_SECONDS = 10


@pytest.fixture
def apart(tmp_path: Path) -> Exchange:
    """Both services, not started yet."""
    return Exchange(tmp_path)


@pytest.fixture
def cables(apart: Exchange) -> Iterator[tuple[Cable, Cable]]:
    """What the history hears and calls its engine through."""
    feed = Cable(apart.feed_address.removeprefix("tcp://"))
    calls = Cable(apart.engine_address)
    apart.history_hears, apart.history_calls = f"tcp://{feed.address}", calls.address
    with feed, calls:
        yield feed, calls


def test_frames_that_are_lost_repeated_and_late_change_nothing(apart: Exchange, flow: list[Step]) -> None:
    with LossyFeed(apart.feed_address, random.Random(5)) as lossy:
        apart.history_hears = lossy.address
        with apart, Load(apart.engine_address, flow) as load:
            load.finish()
            apart.wait_until_equal()
            assert min(lossy.dropped, lossy.repeated, lossy.delayed) > 5
            assert apart.history_status().gaps_repaired > 0
            prove(apart, load)


def test_a_forwarder_that_outlives_the_engine_is_no_harm(apart: Exchange, flow: list[Step], undisturbed: list[str]) -> None:
    """The history's connection stays whole when the engine dies, so only the frames tell of the new epoch."""
    with LossyFeed(apart.feed_address, random.Random(6)) as lossy:
        apart.history_hears = lossy.address
        with apart, Load(apart.engine_address, flow) as load:
            for moment in (0.3, 0.6):
                load.wait_for(moment)
                apart.engine.kill()
                apart.engine.start()
            load.finish()
            assert prove(apart, load).batches[-1].message.epoch == 3
    assert_equal_lines(dump_of_any_run(apart.history_folder), undisturbed)


def test_a_second_receiver_on_the_feed_is_alarmed_and_repaired(exchange: Exchange, flow: list[Step]) -> None:
    with Thief(exchange.feed_address) as thief, Load(exchange.engine_address, flow) as load:
        load.finish()
        prove(exchange, load)
        assert thief.stolen > 20
    assert exchange.engine.logged("feed has more than one receiver")


def test_two_histories_on_one_feed_both_end_as_the_fold_of_the_ledger(exchange: Exchange, flow: list[Step]) -> None:
    other_folder = exchange.folder / "other"
    other = exchange.history_into("other", other_folder, address="127.0.0.1:0")
    other.start()
    try:
        with Load(exchange.engine_address, flow) as load:
            load.finish()
            durable = exchange.wait_until_equal()
            eventually(lambda: other.applied_sequence() >= durable, 60)
            ledger = prove(exchange, load)
            assert other.terminate() == 0
        prove_fold(ledger, other_folder)
    finally:
        other.stop_now()


def test_strangers_at_the_ports_are_no_harm(exchange: Exchange, flow: list[Step]) -> None:
    """libzmq with its own heartbeats would end the engine some seconds after the last of these left."""
    talk_to_a_feed(exchange.feed_address)
    left = time.monotonic()
    with Load(exchange.engine_address, flow, pause_seconds=4 / len(flow)) as load:
        for address in (exchange.feed_address, exchange.engine_address, exchange.history_address):
            for words in (b"", b"GET / HTTP/1.1\r\n\r\n" * 10, random.Random(7).randbytes(5_000)):
                visit(address, words)
        load.finish()
        prove(exchange, load)
    assert time.monotonic() - left > 3


def test_connections_that_are_reset_again_and_again_lose_nothing(
    apart: Exchange, cables: tuple[Cable, Cable], flow: list[Step]
) -> None:
    with apart, Load(apart.engine_address, flow) as load:
        for moment in (0.1, 0.3, 0.5, 0.7, 0.9):
            load.wait_for(moment)
            for cable in cables:
                cable.reset()
        load.finish()
        prove(apart, load)


def test_a_partition_is_told_and_what_happened_meanwhile_arrives(
    apart: Exchange, cables: tuple[Cable, Cable], flow: list[Step]
) -> None:
    with apart, Load(apart.engine_address, flow, pause_seconds=1.2 * PARTITION_SECONDS / len(flow)) as load:
        load.wait_for(0.05)
        began = time.monotonic()
        for cable in cables:
            cable.cut()
        eventually(lambda: apart.history_status().state == history_pb2.HISTORY_STATE_CATCHING_UP, PARTITION_SECONDS)
        at_the_cut = apart.history_status().applied_sequence
        while time.monotonic() - began < PARTITION_SECONDS:
            status = apart.history_status()
            assert (status.state, status.halt_reason) == (history_pb2.HISTORY_STATE_CATCHING_UP, "")
            assert status.applied_sequence == at_the_cut < apart.durable_sequence()
            time.sleep(0.2)
        for cable in cables:
            cable.mend()
        load.finish()
        prove(apart, load)


def test_an_engine_that_was_restarted_while_its_history_was_down_is_followed_again(
    exchange: Exchange, flow: list[Step], undisturbed: list[str]
) -> None:
    with Load(exchange.engine_address, flow) as load:
        load.wait_for(0.3)
        exchange.history.kill()
        load.wait_for(0.5)
        exchange.engine.kill()
        exchange.engine.start()
        load.wait_for(0.7)
        exchange.history.start()
        load.finish()
        prove(exchange, load)
    assert_equal_lines(dump_of_any_run(exchange.history_folder), undisturbed)


def test_a_history_that_was_restarted_while_its_engine_was_down_answers_and_says_that_it_is_behind(
    exchange: Exchange, flow: list[Step], watches: list[ExactWatch]
) -> None:
    with Load(exchange.engine_address, flow) as load:
        load.wait_for(0.5)
        exchange.engine.kill()
        exchange.history.kill()
        exchange.history.launch()
        exchange.history.wait_until_ready()
        status = exchange.history_status()
        assert status.state == history_pb2.HISTORY_STATE_CATCHING_UP
        assert exchange.history_health() == "NOT_SERVING", "it cannot know yet how far the engine is"
        with exchange.history_client() as history:
            request = history_pb2.ListOrderHistoryRequest(user_id="alice", page_size=1)
            assert history.call(history.orders.ListOrderHistory, request).orders, "what is stored can be read"
        exchange.engine.start()
        load.finish()
        prove(exchange, load, watches)
