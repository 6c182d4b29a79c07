"""`verify` says that everything is equal where it is, beside services that run, and names the first thing that is not."""

import json
import signal
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest

from ordertape.v1 import matching_engine_pb2
from services.order_history.order_processor import OrderProcessor
from services.order_history.stores.cql import CqlHistoryStore
from services.order_history.stores.cql_settings import parse_cql_address
from tests.support.exchange_process import Exchange
from tests.support.fake_exchange import FakeExchange
from tests.support.kills import kill_both, kill_engine, kill_history
from tests.support.ledger_builder import LedgerBuilder
from tests.support.operation import Done, NewPlace, Running, StoreAt, operate
from tests.support.order_flow import Load, flow_of
from tests.support.store_changes import CHANGES, CQL_TABLES, SQLITE_TABLES, change_active_order, change_row

USERS = ("alice", "bob", "carol")


@pytest.fixture
def ledger() -> LedgerBuilder:
    ledger = LedgerBuilder()
    ledger.open_market(USERS, ("BTC-USD", "ETH-USD"))
    ledger.live_on(300, USERS)
    return ledger


@pytest.fixture
def engine(ledger: LedgerBuilder) -> Iterator[FakeExchange]:
    with FakeExchange(ledger) as engine:
        yield engine


def verify(store: StoreAt, engine: FakeExchange, *more: str) -> Done:
    return operate("verify", *store.options, "--engine-address", engine.address, "--patience", "5", *more)


def filled(store: StoreAt, engine: FakeExchange) -> StoreAt:
    store.fill(engine.ledger_id, engine.batches)
    return store


def test_what_is_equal_is_said_to_be_and_counted(ledger: LedgerBuilder, engine: FakeExchange, new_place: NewPlace) -> None:
    store = filled(new_place(), engine)
    done = verify(store, engine, "-o", "json", "--range", "50")
    assert (done.code, done.err) == (0, "")
    said = json.loads(done.out)
    assert said["equal"] is True
    assert (said["commands"], said["checkpoint"], said["users"], said["balances"], said["books"]) == (
        ledger.sequence, ledger.sequence, 3, 3, 2,
    )  # fmt: skip
    assert said["updates"] == len(ledger.updates)
    assert said["openOrders"] == {"expected": len(ledger.open_orders()), "found": len(ledger.open_orders())}
    assert set(said["rows"]) == set(SQLITE_TABLES if store.is_sqlite else CQL_TABLES)
    assert all(counted["expected"] == counted["found"] > 0 for counted in said["rows"].values())
    assert verify(store, engine).out.endswith("everything is equal\n")


def test_an_empty_store_has_nothing_that_differs(ledger: LedgerBuilder, engine: FakeExchange, new_place: NewPlace) -> None:
    store = new_place()
    store.fill(ledger.ledger_id, [])
    assert verify(store, engine).code == 0


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("table", SQLITE_TABLES)
def test_a_row_of_sqlite_that_is_not_right_is_named(engine: FakeExchange, new_sqlite: NewPlace, table: str, how: str) -> None:
    named_after_a_change(filled(new_sqlite(), engine), engine, table, how)


# Each change on some of the tables: a keyspace for each of all combinations takes minutes.
@pytest.mark.cql
@pytest.mark.parametrize(("table", "how"), list(zip(CQL_TABLES, cycle(CHANGES), strict=False)))
def test_a_row_of_cql_that_is_not_right_is_named(engine: FakeExchange, new_cql: NewPlace, table: str, how: str) -> None:
    named_after_a_change(filled(new_cql(), engine), engine, table, how)


def named_after_a_change(store: StoreAt, engine: FakeExchange, table: str, how: str) -> None:
    changed = change_row(store, table, how)
    done = verify(store, engine, "--range", "50")
    assert done.code == 1, done
    assert "everything is equal" not in done.out
    (first,) = [line for line in done.out.splitlines() if line.startswith("the first difference: ")]
    assert f"{table}, user {changed.user_id}: " in first
    assert first.split(": ")[-1] in changed.kinds
    if changed.place:
        assert f" {changed.place}, {table}" in first


def test_of_several_ranges_the_lowest_is_named_first(engine: FakeExchange, new_sqlite: NewPlace) -> None:
    store = filled(new_sqlite(), engine)
    low = change_row(store, "updates", "deleted", quantile=0.2)
    change_row(store, "updates", "deleted", quantile=0.8)
    done = verify(store, engine, "--range", "50")
    assert done.code == 1
    assert "2 ranges differ, the first: updates of user " in done.out
    assert f"the first difference: sequence {low.place}, updates, user {low.user_id}: missing" in done.out
    begin = low.place // 50 * 50
    assert f"sequences {begin} to {begin + 49}" in done.out
    said = json.loads(verify(store, engine, "--range", "50", "-o", "json").out)
    assert (said["equal"], said["differingRanges"]) == (False, 2)
    (difference,) = said["differences"]
    assert (difference["kind"], difference["table"], difference["place"]) == ("missing", "updates", low.place)
    assert difference["store"] is None
    assert f'"sequence": "{low.place}"' in difference["ledger"]


@pytest.mark.parametrize("how", ["deleted", "added", "changed"])
def test_an_open_order_that_is_not_right_is_named(
    ledger: LedgerBuilder, engine: FakeExchange, new_place: NewPlace, how: str
) -> None:
    store = filled(new_place(), engine)
    user_id, sequence = change_active_order(store, ledger, how)
    done = verify(store, engine)
    assert done.code == 1
    kind = {"deleted": "missing", "added": "extra", "changed": "differs"}[how]
    assert f" sequence {sequence}, active_orders, user {user_id}: {kind}" in done.out


def test_a_store_of_another_ledger_is_not_compared(engine: FakeExchange, new_place: NewPlace) -> None:
    store = filled(new_place(), engine)
    other = LedgerBuilder(ledger_id="ffeeddccbbaa9988")
    other.open_market(USERS)
    with FakeExchange(other) as stranger:
        done = verify(store, stranger)
    assert done.code == 65
    assert "the engine has the ledger ffeeddccbbaa9988, this history follows" in done.err


def test_a_ledger_that_was_put_back_is_not_compared(ledger: LedgerBuilder, engine: FakeExchange, new_sqlite: NewPlace) -> None:
    store = filled(new_sqlite(), engine)
    del engine.batches[-10:]
    done = verify(store, engine)
    assert done.code == 65
    assert "the ledger was put back from an older copy" in done.err


def test_a_balance_that_the_engine_says_otherwise_is_named(
    ledger: LedgerBuilder, engine: FakeExchange, new_sqlite: NewPlace
) -> None:
    store = filled(new_sqlite(), engine)
    engine.balances["bob", "BTC"] = (7, 1)
    done = verify(store, engine)
    assert done.code == 1
    assert f"the engine differs from its ledger at sequence {ledger.sequence}: BTC of bob: the ledger says available " in done.out
    assert "the engine available 7, held 1" in done.out


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            lambda book: book.bids.add(price="99", qty="3", order_count=2),
            "bids of BTC-USD: the ledger says none, the engine 3 at 99",
        ),
        (lambda book: book.ClearField("last_trade_price"), "last trade of BTC-USD: the ledger says 100, the engine none"),
        (lambda book: setattr(book, "trading_status", 2), "trading status of BTC-USD: the ledger says TRADING_STATUS_TRADING"),
    ],
)
def test_a_book_that_the_engine_says_otherwise_is_named(
    engine: FakeExchange,
    new_sqlite: NewPlace,
    change: Callable[[matching_engine_pb2.GetOrderBookResponse], object],
    what: str,
) -> None:
    store = filled(new_sqlite(), engine)
    book = engine.book_of("BTC-USD")
    change(book)
    engine.books["BTC-USD"] = book
    done = verify(store, engine)
    assert done.code == 1
    assert what in done.out


@pytest.mark.cql
def test_rows_of_a_chunk_whose_checkpoint_is_not_written_do_not_count(
    ledger: LedgerBuilder, engine: FakeExchange, new_cql: NewPlace
) -> None:
    store = filled(new_cql(), engine)
    at = ledger.sequence
    ledger.live_on(60, (*USERS, "dave"), ("BTC-USD", "ETH-USD"))
    later = ledger.batches[len(engine.batches) :]
    engine.append(*later)
    chunk = OrderProcessor().project(ledger.ledger_id, later)
    opened = CqlHistoryStore(parse_cql_address(store.address))
    opened.order_history.insert(chunk)
    opened.active_orders.upsert(chunk.open.values())
    opened.active_orders.delete(chunk.ended)
    opened.close()
    done = verify(store, engine)
    assert done.code == 0, done
    assert f"the history's checkpoint is {at}, " in done.out
    assert "rows beyond it do not count" in done.out


@pytest.mark.cql
def test_each_share_of_the_users_is_compared_by_itself(ledger: LedgerBuilder, engine: FakeExchange, new_cql: NewPlace) -> None:
    store = new_cql()
    address, options = store.address, ("--engine-address", engine.address)
    peers = {"0-99": '{"100-255": "127.0.0.1:1"}', "100-255": '{"0-99": "127.0.0.1:1"}'}
    counts = []
    for users, others in peers.items():
        assert operate("rebuild", *options, store=address, users=users, peers=others).code == 0
        done = operate("verify", *options, "-o", "json", store=address, users=users, peers=others)
        assert done.code == 0, done
        counts.append(json.loads(done.out)["rows"]["user_updates"]["found"])
    assert sum(counts) == len(ledger.updates)


def test_it_is_stopped_by_a_signal(engine: FakeExchange, new_sqlite: NewPlace) -> None:
    store = filled(new_sqlite(), engine)
    engine.stop()
    with Running("verify", *store.options, "--engine-address", engine.address) as running:
        assert running.process.stderr is not None
        assert "waiting: GetLedgerStatus" in running.process.stderr.readline()
        assert running.signalled(signal.SIGINT).code == 130


def test_an_engine_that_stays_away_is_named(engine: FakeExchange, new_sqlite: NewPlace) -> None:
    store = filled(new_sqlite(), engine)
    engine.stop()
    done = verify(store, engine, "--patience", "0.5")
    assert done.code == 69
    assert "the engine is away: GetLedgerStatus: UNAVAILABLE" in done.err


def test_a_folder_without_a_store_is_refused_and_left_as_it_is(engine: FakeExchange, tmp_path: Path) -> None:
    done = verify(StoreAt("sqlite", tmp_path / "nothing"), engine)
    assert done.code == 71
    assert "there is no history.db in" in done.err
    assert not (tmp_path / "nothing").exists()


@pytest.mark.timeout(300)
@pytest.mark.torture
def test_a_real_exchange_is_equal_while_orders_come_and_after_kills(tmp_path: Path, new_place: NewPlace) -> None:
    place = new_place()
    settings = {} if place.is_sqlite else {"store": place.address}
    flow = flow_of(11, 120)
    with (
        Exchange(tmp_path, history_settings=settings) as exchange,
        Load(exchange.engine_address, flow, pause_seconds=0.02) as load,
    ):
        store = StoreAt(place.address, exchange.history_folder)
        for moment, kill in ((0.3, kill_history), (0.5, kill_engine), (0.7, kill_both)):
            load.wait_for(moment)
            kill(exchange)
            during = operate("verify", *store.options, "--engine-address", exchange.engine_address, "--range", "500")
            assert during.code == 0, during
        load.finish()
        # A new store, filled beside it, has the same rows.
        other = StoreAt("sqlite", tmp_path / "other")
        assert operate("rebuild", *other.options, "--engine-address", exchange.engine_address).code == 0
        for one in (store, other):
            done = operate("verify", *one.options, "--engine-address", exchange.engine_address, "-o", "json")
            assert done.code == 0, done
            said = json.loads(done.out)
            assert said["openOrders"]["expected"] > 0
            assert said["books"] >= 2
