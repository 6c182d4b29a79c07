"""A store that is filled from the ledger by `rebuild` is the store of a history that followed, however the filling went."""

import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_history_pb2_grpc
from tests.support.fake_engine import FakeEngine
from tests.support.history_process import HistoryProcess
from tests.support.ledger_builder import LedgerBuilder, received
from tests.support.operation import NewPlace, Running, StoreAt, operate

USERS = ("alice", "bob", "carol")


@pytest.fixture
def ledger() -> LedgerBuilder:
    ledger = LedgerBuilder()
    ledger.open_market(USERS, ("BTC-USD", "ETH-USD"))
    ledger.live_on(400, USERS)
    return ledger


@pytest.fixture
def engine(ledger: LedgerBuilder) -> Iterator[FakeEngine]:
    with FakeEngine(ledger.batches) as engine:
        yield engine


def rebuild_of(store: StoreAt, engine: FakeEngine, *more: str) -> tuple[str, ...]:
    return ("rebuild", *store.options, "--engine-address", engine.address, "--patience", "20", *more)


def history_on(store: StoreAt, engine: FakeEngine, **settings: str) -> HistoryProcess:
    return HistoryProcess(engine, store.folder, STORE=store.address, **settings)


def followed(store: StoreAt, engine: FakeEngine, sequence: int) -> list[str]:
    """What a history makes of the store."""
    with history_on(store, engine) as history:
        history.wait_until_applied(sequence)
        assert history.terminate() == 0
    return store.dump()


def test_an_empty_store_becomes_that_of_a_history_that_followed(
    ledger: LedgerBuilder, engine: FakeEngine, new_place: NewPlace
) -> None:
    store = new_place()
    done = operate(*rebuild_of(store, engine))
    assert (done.code, done.err) == (0, "")
    assert f"everything up to sequence {ledger.sequence}: stop the history, start it with ORDERTAPE_HISTORY_STORE=" in done.out
    assert store.dump() == followed(new_place(), engine, ledger.sequence)


def test_killed_again_and_again_it_ends_in_the_same_store(ledger: LedgerBuilder, engine: FakeEngine, new_place: NewPlace) -> None:
    ledger.live_on(2_000, USERS)
    engine.append(*ledger.batches[len(engine.batches) :])
    store, reached = new_place(), []
    for part in (10, 6, 4):
        with Running(*rebuild_of(store, engine, "--chunk-commands-max", "20")) as running:
            running.wait_until_stored(store, ledger.sequence // part)
        reached.append(store.checkpoint().sequence)
    assert reached == sorted(reached)
    assert reached[0] < ledger.sequence
    assert operate(*rebuild_of(store, engine)).code == 0
    assert store.dump() == followed(new_place(), engine, ledger.sequence)


@pytest.mark.parametrize(
    ("place", "number", "code"),
    [
        ("new_sqlite", signal.SIGTERM, 143),
        ("new_sqlite", signal.SIGINT, 130),
        pytest.param("new_cql", signal.SIGINT, 130, marks=pytest.mark.cql),
    ],
)
def test_a_signal_stops_it_behind_a_chunk_and_it_says_how_to_go_on(
    ledger: LedgerBuilder, engine: FakeEngine, request: pytest.FixtureRequest, place: str, number: int, code: int
) -> None:
    ledger.live_on(4_000, USERS)
    engine.append(*ledger.batches[len(engine.batches) :])
    store = request.getfixturevalue(place)()
    with Running(*rebuild_of(store, engine, "--chunk-commands-max", "20")) as running:
        running.wait_until_stored(store, ledger.sequence // 50)
        done = running.signalled(number)
    stored = store.checkpoint().sequence
    assert 0 < stored < ledger.sequence
    assert done.code == code
    assert f"stopped at sequence {stored} of {ledger.sequence}; run it again to go on" in done.err
    again = operate(*rebuild_of(store, engine))
    assert (again.code, store.checkpoint().sequence) == (0, ledger.sequence)


def test_it_follows_until_it_is_stopped(ledger: LedgerBuilder, engine: FakeEngine, new_place: NewPlace) -> None:
    store = new_place()
    with Running(*rebuild_of(store, engine, "--follow")) as running:
        # Stored comes before said: a signal between them would be right to leave it unsaid.
        said = running.wait_until_said("everything up to sequence")
        assert f" {ledger.sequence} " in said.replace(":", " ").replace(",", " ")
        ledger.live_on(50, USERS)
        engine.append(*ledger.batches[len(engine.batches) :])
        running.wait_until_stored(store, ledger.sequence)
        done = running.signalled(signal.SIGTERM)
    assert done.code == 143
    assert f"stopped at sequence {ledger.sequence} of {ledger.sequence}" in done.err


def test_a_history_goes_on_in_the_store_that_was_filled_beside_it(
    ledger: LedgerBuilder, engine: FakeEngine, new_sqlite: NewPlace, new_place: NewPlace
) -> None:
    old, new = new_sqlite(), new_place()
    with history_on(old, engine) as history:
        history.wait_until_applied(ledger.sequence)
        assert operate(*rebuild_of(new, engine)).code == 0
        ledger.live_on(100, USERS)
        engine.publish(*ledger.batches[len(engine.batches) :])
        history.wait_until_applied(ledger.sequence)
        before = answers_of(history.wait_until_ready())
        assert history.terminate() == 0
    with history_on(new, engine) as history:
        history.wait_until_applied(ledger.sequence)
        assert answers_of(history.wait_until_ready()) == before
        assert history.terminate() == 0
    assert len(before) > 300


def answers_of(address: str) -> list[Message]:
    """All that a history says of all orders of all users."""
    answers: list[Message] = []
    with grpc.insecure_channel(address) as channel:
        stub = order_history_pb2_grpc.OrderHistoryStub(channel)
        for user_id in USERS:
            orders, token = [], ""
            while True:
                page = stub.ListOrderHistory(
                    pb.ListOrderHistoryRequest(user_id=user_id, page_size=500, page_token=token), timeout=10
                )
                orders += page.orders
                token = page.next_page_token
                if not token:
                    break
            answers += orders
            answers += stub.ListActiveOrders(pb.ListActiveOrdersRequest(user_id=user_id, page_size=500), timeout=10).orders
            answers += stub.ListFills(pb.ListFillsRequest(user_id=user_id, page_size=500), timeout=10).fills
            for order in orders[::10]:
                timeline = stub.ListOrderUpdates(pb.ListOrderUpdatesRequest(user_id=user_id, order_id=order.order_id), timeout=10)
                answers += timeline.updates
    return answers


def test_an_engine_that_leaves_is_waited_for(ledger: LedgerBuilder, engine: FakeEngine, new_place: NewPlace) -> None:
    engine.break_replay_after = 100
    store = new_place()
    done = operate(*rebuild_of(store, engine))
    assert (done.code, store.checkpoint().sequence) == (0, ledger.sequence)
    assert len(engine.replays) > 1


def test_an_engine_that_stays_away_is_named(engine: FakeEngine, new_sqlite: NewPlace) -> None:
    engine.stop()
    done = operate(*rebuild_of(new_sqlite(), engine), "--patience", "0.5")
    assert done.code == 69
    assert "the engine is away: GetLedgerStatus: UNAVAILABLE" in done.err


def test_a_store_that_stays_away_is_named_without_its_password(engine: FakeEngine, tmp_path: Path) -> None:
    store = StoreAt("scylla://bob:topsecret@127.0.0.1:1/ops_away", tmp_path)
    done = operate(*rebuild_of(store, engine), "--patience", "0.5")
    assert done.code == 74
    assert "scylla://bob@127.0.0.1:1/ops_away cannot be reached" in done.err
    assert "topsecret" not in done.out + done.err


def test_a_store_of_another_ledger_is_left_as_it_is(ledger: LedgerBuilder, engine: FakeEngine, new_place: NewPlace) -> None:
    store = new_place()
    assert operate(*rebuild_of(store, engine)).code == 0
    before = store.dump()
    other = LedgerBuilder(ledger_id="ffeeddccbbaa9988")
    other.open_market(USERS)
    other.live_on(1_000, USERS, ("BTC-USD",))
    with FakeEngine(other.batches, ledger_id=other.ledger_id) as stranger:
        done = operate(*rebuild_of(store, stranger))
    assert done.code == 65
    assert f"the engine has the ledger {other.ledger_id}, this history follows {ledger.ledger_id}" in done.err
    assert store.dump() == before


def test_a_broken_chain_ends_it_behind_what_is_whole(ledger: LedgerBuilder, engine: FakeEngine, new_sqlite: NewPlace) -> None:
    batch = engine.batches[300]
    batch.message.previous_hash = bytes(32)
    engine.batches[300] = received(batch.message.SerializeToString())
    store = new_sqlite()
    done = operate(*rebuild_of(store, engine))
    assert done.code == 65
    assert f"ledger sequence {batch.first_sequence}: its previous_hash" in done.err
    assert store.checkpoint().sequence == batch.first_sequence - 1


def test_a_store_that_a_history_has_open_is_refused(ledger: LedgerBuilder, engine: FakeEngine, new_sqlite: NewPlace) -> None:
    store = new_sqlite()
    with history_on(store, engine) as history:
        history.wait_until_applied(ledger.sequence)
        done = operate(*rebuild_of(store, engine))
    assert done.code == 71
    assert "is in use by another history service" in done.err
