"""Several history processes on one store: each answers every question as one process with all users would, and their rows are
its rows, whoever is killed and whoever gets the users then.
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_history_pb2_grpc, order_pb2
from services.order_history.stores.cql_schema import apply_schema
from services.order_history.stores.cql_settings import CqlSettings, parse_cql_address
from services.order_history.user_share import ALL_USERS, UserShare
from services.wire.position import encode_position
from tests.support.cql_server import CqlServer
from tests.support.engine_client import EngineClient
from tests.support.engine_exchange import running_engine
from tests.support.engine_flow import fund_users, random_requests
from tests.support.eventually import eventually
from tests.support.exporter import details_of, export
from tests.support.fake_engine import Consumer, FakeEngine
from tests.support.ledger_builder import LedgerBuilder, received
from tests.support.running_history import RunningHistory
from tests.support.shared_store import Histories, rows, rows_of_one
from tests.support.shares import equal_shares, users_of
from tests.support.store_kinds import drop_keyspace, empty_tables
from tests.support.watcher import Watcher

pytestmark = pytest.mark.cql

USERS = users_of(equal_shares(4), each=2)
SYMBOLS = ("BTC-USD", "ETH-USD")
FEEDS = ["tcp://127.0.0.1:*"] * 4


@pytest.fixture(scope="module")
def keyspaces(cql_server: CqlServer) -> Iterator[list[CqlSettings]]:
    """One for the histories, and one to compare with."""
    names = [f"share_{name}_{os.getpid()}" for name in ("several", "one")]
    made = [parse_cql_address(f"scylla://{cql_server.contact_points}/{name}?timeout_seconds=30") for name in names]
    for settings in made:
        drop_keyspace(settings)
        apply_schema(settings)
    yield made
    for settings in made:
        drop_keyspace(settings)


@pytest.fixture
def store(keyspaces: list[CqlSettings]) -> CqlSettings:
    empty_tables(keyspaces[0])
    return keyspaces[0]


@pytest.fixture
def other_store(keyspaces: list[CqlSettings]) -> CqlSettings:
    return keyspaces[1]


@pytest.fixture
def ledger() -> LedgerBuilder:
    ledger = LedgerBuilder()
    ledger.open_market(USERS, SYMBOLS)
    ledger.live_on(400, USERS, SYMBOLS)
    return ledger


@pytest.fixture
def engine(ledger: LedgerBuilder) -> Iterator[FakeEngine]:
    with FakeEngine(ledger.batches, more_feeds=FEEDS) as engine:
        yield engine


def go_on(ledger: LedgerBuilder, engine: FakeEngine, orders: int, seed: int = 1, *, push: bool = False) -> None:
    ledger.live_on(orders, USERS, SYMBOLS, seed=seed)
    for batch in ledger.batches[len(engine.batches) :]:
        engine.append(batch)
        if push:
            engine.push(batch)


# Every question


def stubs_of(histories: Histories, stack: ExitStack) -> list[order_history_pb2_grpc.OrderHistoryStub]:
    channels = [stack.enter_context(grpc.insecure_channel(process.wait_until_ready())) for process in histories.processes]
    return [order_history_pb2_grpc.OrderHistoryStub(channel) for channel in channels]


def questions(ledger: LedgerBuilder, user_id: str) -> Iterator[tuple[str, Message]]:
    """Of every kind, right and wrong; small pages."""
    mine = [update for update in ledger.updates if update.user_id == user_id]
    chance = random.Random(7)
    for update in chance.sample(mine, 3):
        there = encode_position(ledger.ledger_id, update.sequence)
        yield "GetOrder", pb.GetOrderRequest(user_id=user_id, order_id=update.order_id)
        yield "GetOrder", pb.GetOrderRequest(user_id=user_id, order_id=update.order_id, as_of=there)
        yield "GetOrder", pb.GetOrderRequest(user_id=user_id, order_id=update.order_id, as_of_time=update.timestamp)
        yield "ListOrderUpdates", pb.ListOrderUpdatesRequest(user_id=user_id, order_id=update.order_id, page_size=2)
    named = next(update for update in mine if update.HasField("client_order_id"))
    yield "GetOrder", pb.GetOrderRequest(user_id=user_id, client_order_id=named.client_order_id)
    yield "ListActiveOrders", pb.ListActiveOrdersRequest(user_id=user_id, page_size=2)
    yield "ListOrderHistory", pb.ListOrderHistoryRequest(user_id=user_id, page_size=7)
    yield (
        "ListOrderHistory",
        pb.ListOrderHistoryRequest(user_id=user_id, symbols=SYMBOLS[:1], statuses=[order_pb2.ORDER_STATUS_FILLED]),
    )
    yield "ListFills", pb.ListFillsRequest(user_id=user_id, page_size=5)
    yield (
        "GetOrder",
        pb.GetOrderRequest(user_id=user_id, order_id=next(u.order_id for u in ledger.updates if u.user_id != user_id)),
    )
    yield "ListFills", pb.ListFillsRequest(user_id=user_id, at_least=encode_position("f" * 16, 1))
    yield "ListActiveOrders", pb.ListActiveOrdersRequest(user_id=user_id, page_token="no such page", page_size=-1)


Answer = tuple[list[Any], tuple[Any, ...]]


def answer_of(asked: Iterator[order_history_pb2_grpc.OrderHistoryStub], method: str, request: Message) -> Answer:
    """All pages, each of the next in ``asked``, without their positions; and how it failed, if it did."""
    question, found = type(request).FromString(request.SerializeToString()), list[Any]()
    try:
        while True:
            answer = getattr(next(asked), method)(question, timeout=20)
            answer.ClearField("position")
            found.append(answer)
            if not getattr(answer, "next_page_token", ""):
                return found, ()
            question.page_token = answer.next_page_token  # type: ignore[attr-defined]
    except grpc.RpcError as error:
        return found, (error.code(), error.details(), *details_of(error))


@pytest.mark.parametrize("count", [2, 4])
def test_each_process_answers_every_question_as_one_with_all_users_does(
    ledger: LedgerBuilder, engine: FakeEngine, store: CqlSettings, other_store: CqlSettings, tmp_path: Path, count: int
) -> None:
    *consumers, last = engine.consumers
    with (
        ExitStack() as stack,
        Histories(store, consumers, tmp_path, equal_shares(count)) as histories,
        RunningHistory(last, tmp_path / "one") as one,
    ):
        histories.wait_until_applied(ledger.sequence)
        one.wait_until_applied(ledger.sequence)
        stubs = stubs_of(histories, stack)
        for user_id in USERS:
            expected_updates = [update for update in ledger.updates if update.user_id == user_id]
            for method, request in questions(ledger, user_id):
                expected = answer_of(cycle([one.stub]), method, request)
                # From one process alone, and each page from another.
                for asked in (*([stub] for stub in stubs), stubs):
                    assert answer_of(cycle(asked), method, request) == expected, (method, request)
            for process in histories.processes:
                address = process.wait_until_ready()
                channel = stack.enter_context(grpc.insecure_channel(address))
                assert export(channel, user_id).updates == expected_updates
                after = encode_position(ledger.ledger_id, expected_updates[2].sequence)
                with Watcher(address, user_id, after) as watcher, Watcher(address, user_id) as fresh:
                    rest = [update for update in expected_updates if update.sequence > expected_updates[2].sequence]
                    eventually(lambda: watcher.updates[-1:] == rest[-1:])  # noqa: B023
                    assert watcher.updates == rest
                    eventually(lambda: fresh.has_snapshot)
                    assert fresh.snapshot == ledger.open_orders(user_id)
    assert rows(store) == rows_of_one(other_store, ledger.ledger_id, ledger.batches)


def test_what_was_just_done_is_read_at_each_process_and_watched_at_each(
    ledger: LedgerBuilder, engine: FakeEngine, store: CqlSettings, tmp_path: Path
) -> None:
    with ExitStack() as stack, Histories(store, engine.consumers, tmp_path, equal_shares(2)) as histories:
        histories.wait_until_applied(ledger.sequence)
        stubs = stubs_of(histories, stack)
        mine, theirs = users_of(equal_shares(2))
        ledger.deposit(mine)
        ledger.deposit(theirs)
        engine.append(*ledger.batches[len(engine.batches) :])
        watchers = [
            stack.enter_context(Watcher(process.wait_until_ready(), user))
            for process in histories.processes
            for user in (mine, theirs)
        ]
        for watcher in watchers:
            eventually(lambda: watcher.has_snapshot)  # noqa: B023
        placed: dict[str, list[order_pb2.OrderUpdate]] = {mine: [], theirs: []}
        for number in range(20):
            user_id = (mine, theirs)[number % 2]
            order_id = ledger.place(user_id)
            engine.publish(ledger.batches[-1])
            placed[user_id].append(ledger.orders[order_id])
            at_least = encode_position(ledger.ledger_id, ledger.sequence)
            for stub in stubs:
                request = pb.GetOrderRequest(user_id=user_id, order_id=order_id, at_least=at_least)
                assert stub.GetOrder(request, timeout=10).order == ledger.orders[order_id]
        for watcher in watchers:
            eventually(lambda: watcher.updates == placed[watcher.user_id])  # noqa: B023


# Kills, and users that are given to another process


def test_a_share_that_is_started_elsewhere_after_a_kill_loses_and_doubles_nothing(
    ledger: LedgerBuilder, engine: FakeEngine, store: CqlSettings, other_store: CqlSettings, tmp_path: Path
) -> None:
    with Histories(store, engine.consumers, tmp_path, equal_shares(2), CHUNK_COMMANDS_MAX="20") as histories:
        histories.processes[1].wait_until_applied(ledger.sequence // 3)
        histories.processes[1].kill()
        go_on(ledger, engine, 150, seed=2, push=True)
        histories.processes[1] = histories.start(1)
        go_on(ledger, engine, 150, seed=3, push=True)
        histories.wait_until_applied(ledger.sequence)
        assert [process.terminate() for process in histories.processes] == [0, 0]
    assert rows(store) == rows_of_one(other_store, ledger.ledger_id, ledger.batches)


def test_the_survivor_takes_all_users_when_it_is_started_with_them(
    ledger: LedgerBuilder, engine: FakeEngine, store: CqlSettings, other_store: CqlSettings, tmp_path: Path
) -> None:
    with Histories(store, engine.consumers, tmp_path, equal_shares(2), CHUNK_COMMANDS_MAX="20") as histories:
        histories.processes[0].wait_until_applied(ledger.sequence // 4)
        histories.processes[0].kill()
        go_on(ledger, engine, 150, seed=2, push=True)
        histories.processes[1].wait_until_applied(ledger.sequence)
        assert histories.processes[1].terminate() == 0
    with ExitStack() as stack, Histories(store, engine.consumers, tmp_path, [ALL_USERS]) as survivor:
        survivor.wait_until_applied(ledger.sequence)
        (stub,) = stubs_of(survivor, stack)
        for user_id in USERS:
            active = stub.ListActiveOrders(pb.ListActiveOrdersRequest(user_id=user_id, page_size=500), timeout=10)
            assert list(active.orders) == ledger.open_orders(user_id)[::-1]
    assert rows(store) == rows_of_one(other_store, ledger.ledger_id, ledger.batches)


@pytest.mark.torture
def test_shares_that_are_split_and_joined_with_kills_between_end_in_the_same_rows(
    ledger: LedgerBuilder, engine: FakeEngine, store: CqlSettings, other_store: CqlSettings, tmp_path: Path
) -> None:
    chance = random.Random(1)
    for step, count in enumerate((1, 2, 4, 1, 2)):
        go_on(ledger, engine, 120, seed=step)
        with Histories(store, engine.consumers, tmp_path, equal_shares(count), CHUNK_COMMANDS_MAX="15") as histories:
            killed = chance.sample(range(count), chance.randint(1, count))
            for number in killed:
                histories.processes[number].wait_until_ready()
                # Some in the middle of what they write again, before they begin, others later.
                time.sleep(chance.choice((0.0, 0.05, 0.3)))
                histories.processes[number].kill()
            go_on(ledger, engine, 40, seed=step + 100, push=True)
            # Of those that were killed not all are started again with this share: the next step finds them behind.
            for number in killed[:1]:
                histories.processes[number] = histories.start(number)
                histories.processes[number].wait_until_applied(ledger.sequence)
            for process in histories.processes:
                process.kill()
    with Histories(store, engine.consumers, tmp_path, equal_shares(2)) as histories:
        histories.wait_until_applied(ledger.sequence)
    assert rows(store) == rows_of_one(other_store, ledger.ledger_id, ledger.batches)


def test_a_share_that_nobody_had_is_written_from_the_first_sequence_before_it_is_served(
    ledger: LedgerBuilder, engine: FakeEngine, store: CqlSettings, other_store: CqlSettings, tmp_path: Path
) -> None:
    halves = equal_shares(2)
    with Histories(store, engine.consumers, tmp_path, halves) as histories:
        histories.processes[1].kill()
        histories.processes[0].wait_until_applied(ledger.sequence)
    uneven = [UserShare(0, 63), UserShare(64, 255)]
    with ExitStack() as stack, Histories(store, engine.consumers, tmp_path, uneven) as histories:
        histories.wait_until_applied(ledger.sequence)
        for stub in stubs_of(histories, stack):
            for user_id in USERS:
                fills = stub.ListFills(pb.ListFillsRequest(user_id=user_id, page_size=500), timeout=10).fills
                mine = [u for u in ledger.updates if u.user_id == user_id and u.HasField("fill")]
                assert [fill.sequence for fill in fills] == [u.sequence for u in reversed(mine)]
    assert rows(store) == rows_of_one(other_store, ledger.ledger_id, ledger.batches)


def test_an_owner_that_is_down_is_named_and_answers_again_when_it_is_back(
    ledger: LedgerBuilder, engine: FakeEngine, store: CqlSettings, tmp_path: Path
) -> None:
    mine, theirs = users_of(equal_shares(2))
    with ExitStack() as stack, Histories(store, engine.consumers, tmp_path, equal_shares(2)) as histories:
        histories.wait_until_applied(ledger.sequence)
        asked, _ = stubs_of(histories, stack)
        with Watcher(histories.places[0], theirs) as watcher:
            eventually(lambda: watcher.has_snapshot)
            histories.processes[1].kill()
            eventually(lambda: watcher.error)
        assert watcher.error_info.reason == "DEPENDENCY_DOWN"
        position = watcher.error_info.metadata["position"]
        with pytest.raises(grpc.RpcError) as caught:
            asked.ListFills(pb.ListFillsRequest(user_id=theirs), timeout=1)
        assert histories.places[1] in caught.value.details()
        asked.ListFills(pb.ListFillsRequest(user_id=mine), timeout=5)
        go_on(ledger, engine, 60, seed=9, push=True)
        histories.processes[1] = histories.start(1)
        histories.processes[1].wait_until_applied(ledger.sequence)
        updates = [u for u in ledger.updates if u.user_id == theirs]
        with Watcher(histories.places[0], theirs, position) as again:
            missed = [u for u in updates if u.sequence > int(position.rpartition(":")[2])]
            eventually(lambda: again.updates == missed, 20)
        assert export(stack.enter_context(grpc.insecure_channel(histories.places[0])), theirs).updates == updates


# A real engine


def test_a_real_engine_feeds_each_process_and_replays_to_all_at_once(
    store: CqlSettings, other_store: CqlSettings, tmp_path: Path
) -> None:
    feeds = {f"history{number}": "tcp://127.0.0.1:0" for number in range(4)}
    with running_engine(tmp_path / "engine", feeds=feeds) as engine, EngineClient(engine.address) as client:
        fund_users(client)
        for request in random_requests(3, 300):
            client.submit(request)
        consumers = [Consumer(engine.address, engine.feed_addresses[name]) for name in feeds]
        with ExitStack() as stack, Histories(store, consumers, tmp_path, equal_shares(4)) as histories:
            histories.wait_until_applied(client.durable_sequence())
            for request in random_requests(4, 200, name="g"):
                client.submit(request)
            histories.wait_until_applied(client.durable_sequence())
            statuses = [stub.GetHistoryStatus(pb.GetHistoryStatusRequest(), timeout=5) for stub in stubs_of(histories, stack)]
            assert [status.gaps_repaired for status in statuses] == [0, 0, 0, 0]
            assert [status.user_shards for status in statuses] == ["0-63", "64-127", "128-191", "192-255"]
        ledger_id, batches = client.status().ledger_id, [received(data) for data in client.batches()]
    assert rows(store) == rows_of_one(other_store, ledger_id, batches)
