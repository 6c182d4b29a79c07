"""What every store of the history has to do, whichever database it is."""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from ordertape.v1 import order_pb2
from services.order_history.order_processor import Chunk, OrderProcessor, ReceivedBatch
from services.order_history.stores import (
    SCANNED_ORDERS_MAX,
    Checkpoint,
    FillFilter,
    HistoryStore,
    OrderFilter,
    OrderKey,
    PointInTime,
    StoreDamaged,
    StoredRow,
    StoreUnavailable,
    UpdatePlace,
)
from services.order_history.stores.cql_rows import SIZES, PartitionSizes
from services.order_history.stores.cql_settings import CqlSettings
from tests.support.history_model import OPEN, fills_of, newest, orders_of
from tests.support.ledger_builder import LedgerBuilder
from tests.support.store_kinds import CqlPlace, SqlitePlace, StoreKind, drop_keyspace

USERS = ("alice", "bob", "carol")
SYMBOLS = ("BTC-USD", "ETH-USD")

KINDS = (
    "sqlite",
    pytest.param("cql", marks=pytest.mark.cql),
    pytest.param("cql in small partitions", marks=pytest.mark.cql),
)


@pytest.fixture(scope="session")
def made_keyspaces() -> Iterator[dict[str, CqlSettings]]:
    made: dict[str, CqlSettings] = {}
    yield made
    if os.environ.get("ORDERTAPE_TEST_CQL"):  # a server of the tests' own is gone by now with all that it had
        for settings in made.values():
            drop_keyspace(settings)


@pytest.fixture(params=KINDS)
def new_place(
    request: pytest.FixtureRequest, tmp_path: Path, made_keyspaces: dict[str, CqlSettings]
) -> Iterator[Callable[[str], StoreKind]]:
    """Makes empty places for stores of one kind."""
    places: list[StoreKind] = []

    def new(name: str) -> StoreKind:
        if request.param == "sqlite":
            places.append(SqlitePlace(tmp_path / name))
        else:
            contact_points = request.getfixturevalue("cql_server").contact_points
            sizes = SIZES if request.param == "cql" else PartitionSizes(bucket=7, part=2)
            places.append(CqlPlace(contact_points, f"contract_{name}_{os.getpid()}", made_keyspaces, sizes))
        return places[-1]

    yield new
    for place in places:
        place.close()


@pytest.fixture
def place(new_place: Callable[[str], StoreKind]) -> StoreKind:
    return new_place("one")


@pytest.fixture
def store(place: StoreKind) -> HistoryStore:
    return place.open()


@pytest.fixture(scope="module")
def ledger() -> LedgerBuilder:
    builder = LedgerBuilder()
    builder.open_market(USERS, SYMBOLS)
    builder.live_on(600, USERS, SYMBOLS)
    return builder


def chunk_of(ledger: LedgerBuilder, batches: Sequence[ReceivedBatch] | None = None) -> Chunk:
    return OrderProcessor().project(ledger.ledger_id, ledger.batches if batches is None else batches)


def times_of(ledger: LedgerBuilder) -> list[int]:
    return [update.timestamp.ToMicroseconds() for update in ledger.updates]


def test_an_empty_store_is_before_the_first_sequence(store: HistoryStore) -> None:
    assert store.checkpoint() == Checkpoint("", 0, 0, b"")
    assert list(store.active_orders.read_all()) == []


def test_applying_moves_the_checkpoint_to_the_chunks_end(store: HistoryStore, ledger: LedgerBuilder) -> None:
    assert store.apply(chunk_of(ledger))
    assert store.checkpoint() == Checkpoint(ledger.ledger_id, ledger.epoch, ledger.sequence, ledger.hash)


def test_the_checkpoint_is_the_same_after_a_restart(place: StoreKind, ledger: LedgerBuilder) -> None:
    store = place.open()
    store.apply(chunk_of(ledger))
    before = store.checkpoint()
    assert place.open().checkpoint() == before


def test_a_chunk_that_the_store_has_changes_nothing(store: HistoryStore, place: StoreKind, ledger: LedgerBuilder) -> None:
    store.apply(chunk_of(ledger))
    before = place.dump()
    assert not store.apply(chunk_of(ledger))
    assert not store.apply(chunk_of(ledger, ledger.batches[3:9]))
    assert place.dump() == before


@pytest.mark.parametrize("begin", [9, 11])
def test_a_chunk_that_does_not_begin_after_the_checkpoint_is_refused(
    store: HistoryStore, place: StoreKind, ledger: LedgerBuilder, begin: int
) -> None:
    store.apply(chunk_of(ledger, ledger.batches[:10]))
    before = place.dump()
    with pytest.raises(StoreDamaged, match=f"the store goes on at {ledger.batches[10].first_sequence}"):
        store.apply(chunk_of(ledger, ledger.batches[begin:20]))
    assert place.dump() == before


def test_a_chunk_of_another_ledger_is_refused(store: HistoryStore, ledger: LedgerBuilder) -> None:
    store.apply(chunk_of(ledger, ledger.batches[:10]))
    stranger = OrderProcessor().project("f" * 16, ledger.batches[10:])
    with pytest.raises(StoreDamaged, match=f"the ledger {'f' * 16} came, the store has {ledger.ledger_id}"):
        store.apply(stranger)


@pytest.mark.parametrize("seed", range(3))
def test_chunks_of_any_size_with_repeats_and_restarts_end_in_the_same_rows(
    new_place: Callable[[str], StoreKind], ledger: LedgerBuilder, seed: int
) -> None:
    chance = random.Random(seed)
    place = new_place("one")
    store, begin = place.open(), 0
    while begin < len(ledger.batches):
        size = chance.choice((1, 2, 7, 50, 300))
        store.apply(chunk_of(ledger, ledger.batches[begin : begin + size]))
        if chance.random() < 0.3:
            back = chance.randint(0, begin)
            with suppress(StoreDamaged):  # one that is partly new is refused, not half applied
                store.apply(chunk_of(ledger, ledger.batches[back : back + size]))
        if chance.random() < 0.2:
            store = place.open()
        sequence = store.checkpoint().sequence
        begin = next((i for i, b in enumerate(ledger.batches) if b.first_sequence > sequence), len(ledger.batches))
    undisturbed = new_place("undisturbed")
    undisturbed.open().apply(chunk_of(ledger))
    assert place.dump() == undisturbed.dump()


def test_rows_written_again_in_any_order_are_the_same_rows(place: StoreKind, ledger: LedgerBuilder) -> None:
    store = place.open()
    store.apply(chunk_of(ledger))
    before = place.dump()
    chance = random.Random(9)
    for _ in range(20):
        begin = chance.randrange(len(ledger.batches))
        store.rewrite(chunk_of(ledger, ledger.batches[begin : begin + chance.choice((1, 5, 60))]))
    assert place.dump() == before
    assert store.checkpoint() == Checkpoint(ledger.ledger_id, ledger.epoch, ledger.sequence, ledger.hash)


def test_the_stored_rows_are_those_of_the_chunks_and_no_others(place: StoreKind, ledger: LedgerBuilder) -> None:
    store = place.open()
    expected: list[StoredRow] = []
    for begin in range(0, len(ledger.batches), 100):
        chunk = chunk_of(ledger, ledger.batches[begin : begin + 100])
        store.apply(chunk)
        expected += store.rows_of(chunk)
    alike = {row for row in expected if not row.place}
    once = sorted(row for row in expected if row.place)
    stored = list(store.stored_rows())
    assert sorted(row for row in stored if row.place) == once
    assert sorted(row for row in stored if not row.place) == sorted(alike)


def test_the_active_orders_are_the_open_ones_by_order_id(place: StoreKind, ledger: LedgerBuilder) -> None:
    store = place.open()
    for begin in range(0, len(ledger.batches), 40):
        store.apply(chunk_of(ledger, ledger.batches[begin : begin + 40]))
        so_far = [u for u in ledger.updates if u.sequence <= store.checkpoint().sequence]
        expected = sorted((o for o in newest(so_far).values() if o.status in OPEN), key=lambda o: o.order_id)
        assert [order.message for order in store.active_orders.read_all()] == expected


async def test_an_orders_newest_update_is_found_at_every_sequence(store: HistoryStore, ledger: LedgerBuilder) -> None:
    store.apply(chunk_of(ledger))
    order = max(ledger.orders.values(), key=lambda o: o.update_number)
    timeline = [u for u in ledger.updates if u.order_id == order.order_id]
    found = await store.order_history.latest_update(order.order_id)
    assert found is not None
    assert found.message == timeline[-1]
    for earlier, later in zip([None, *timeline], [*timeline, None], strict=True):
        until = ledger.sequence if later is None else later.sequence - 1
        found = await store.order_history.latest_update(order.order_id, until)
        assert (found and found.message) == earlier
    assert await store.order_history.latest_update(10**6) is None


async def test_an_orders_updates_come_oldest_first_in_pages(store: HistoryStore, ledger: LedgerBuilder) -> None:
    store.apply(chunk_of(ledger))
    order = max(ledger.orders.values(), key=lambda o: o.update_number)
    found, after = [], UpdatePlace(0, 0)
    while page := await store.order_history.order_updates(order.order_id, after, 2):
        assert len(page) <= 2
        found += [update.message for update in page]
        after = UpdatePlace(page[-1].sequence, found[-1].update_number)
    assert found == [u for u in ledger.updates if u.order_id == order.order_id]
    assert [u.update_number for u in found] == list(range(1, len(found) + 1))


async def test_a_users_updates_are_contiguous_and_name_the_ends_of_their_batches(
    store: HistoryStore, ledger: LedgerBuilder
) -> None:
    store.apply(chunk_of(ledger))
    ends = {s: b.last_sequence for b in ledger.batches for s in range(b.first_sequence, b.last_sequence + 1)}
    for user_id in USERS:
        found, after = [], 0
        while page := await store.order_history.user_updates(user_id, after, 37):
            found += page
            after = page[-1].sequence
        assert [u.message for u in found] == [u for u in ledger.updates if u.user_id == user_id]
        assert [u.message.user_update_number for u in found] == list(range(1, len(found) + 1))
        assert all(u.batch_end == ends[u.sequence] for u in found)
        assert await store.order_history.user_updates(user_id, after, 37) == []


async def test_orders_are_found_by_the_clients_name_for_its_user_alone(store: HistoryStore, ledger: LedgerBuilder) -> None:
    store.apply(chunk_of(ledger))
    named = [order for order in ledger.orders.values() if order.HasField("client_order_id")]
    for order in named[:50]:
        assert await store.order_history.find_order_id(order.user_id, order.client_order_id) == order.order_id
        stranger = next(user for user in USERS if user != order.user_id)
        assert await store.order_history.find_order_id(stranger, order.client_order_id) is None


def random_order_filter(chance: random.Random, times: Sequence[int]) -> OrderFilter:
    def maybe(choice: Callable[[], int]) -> int | None:
        return choice() if chance.random() < 0.3 else None

    return OrderFilter(
        symbols=chance.choice(((), (), ("BTC-USD",), SYMBOLS, ("NONE-USD",), ("NONE-USD", "ETH-USD"))),
        statuses=frozenset(chance.sample(range(1, 7), chance.choice((0, 0, 1, 3)))),
        side=chance.choice((0, 0, order_pb2.SIDE_BUY, order_pb2.SIDE_SELL)),
        created_from=maybe(lambda: chance.choice(times)),
        created_until=maybe(lambda: chance.choice(times)),
        updated_from=maybe(lambda: chance.choice(times)),
        updated_until=maybe(lambda: chance.choice(times)),
    )


async def test_pages_of_ended_orders_are_what_the_filter_leaves_of_all(store: HistoryStore, ledger: LedgerBuilder) -> None:
    store.apply(chunk_of(ledger))
    chance = random.Random(5)
    for _ in range(60):
        user_id, wanted = chance.choice(USERS), random_order_filter(chance, times_of(ledger))
        found: list[order_pb2.OrderUpdate] = []
        before: OrderKey | None = None
        while True:
            page = await store.order_history.ended_orders(user_id, wanted, before, chance.choice((1, 5, 50, 1_000)))
            found += [order_pb2.OrderUpdate.FromString(data) for _, data in page.rows]
            before = page.looked_to
            if before is None:
                break
        assert found == [order for order in orders_of(ledger.updates, user_id, wanted) if order.status not in OPEN]


async def test_pages_of_fills_are_what_the_filter_leaves_of_all(store: HistoryStore, ledger: LedgerBuilder) -> None:
    store.apply(chunk_of(ledger))
    chance = random.Random(6)
    times = times_of(ledger)
    for _ in range(60):
        user_id = chance.choice(USERS)
        wanted = FillFilter(
            symbols=chance.choice(((), ("BTC-USD",), SYMBOLS)),
            order_id=chance.choice((None, None, chance.randint(1, len(ledger.orders)))),
            traded_from=chance.choice((None, chance.choice(times))),
            traded_until=chance.choice((None, chance.choice(times))),
        )
        found: list[order_pb2.OrderUpdate] = []
        before: int | None = None
        while True:
            page = await store.order_history.fills(user_id, wanted, before, chance.choice((1, 5, 50, 1_000)))
            found += [update.message for update in page.updates]
            before = page.looked_to
            if before is None:
                break
        assert found == fills_of(ledger.updates, user_id, wanted)


async def test_a_time_is_found_among_a_users_updates(store: HistoryStore, ledger: LedgerBuilder) -> None:
    store.apply(chunk_of(ledger))
    alices = await store.order_history.user_updates("alice", 0, 10**6)
    chance = random.Random(7)
    times = [t + d for t in chance.sample([u.timestamp for u in alices], 60) for d in (-1, 0, 1)]
    for time in (0, *times, times_of(ledger)[-1] + 10**9):
        point = await store.order_history.point_in_time("alice", time)
        before = [u for u in alices if u.timestamp <= time]
        after = [u for u in alices if u.timestamp > time]
        assert point.sequence == (before[-1].sequence if before else 0)
        whole = [u.batch_end for u in before if not after or u.batch_end < after[0].sequence]
        assert point.position == (whole[-1] if whole else 0)
    assert await store.order_history.point_in_time("nobody", times[-1]) == PointInTime(0, 0)


async def test_a_filtered_page_looks_at_a_bounded_number_of_rows(store: HistoryStore) -> None:
    ledger = LedgerBuilder()
    ledger.open_market(("alice",))
    maker = ledger.place("alice", order_pb2.SIDE_SELL, qty=1)
    ledger.place("alice", takes=[(maker, 1)], qty=1)
    refused = SCANNED_ORDERS_MAX + 10
    for _ in range(refused):
        ledger.reject("alice")
    store.apply(chunk_of(ledger))
    wanted = OrderFilter(statuses=frozenset({order_pb2.ORDER_STATUS_FILLED}))
    page = await store.order_history.ended_orders("alice", wanted, None, 50)
    assert page.rows == []
    assert page.looked_to is not None
    assert page.looked_to >= (ledger.orders[len(ledger.orders) - SCANNED_ORDERS_MAX + 1].created_at.ToMicroseconds(), 0)
    found: list[int] = []
    while page.looked_to is not None:
        page = await store.order_history.ended_orders("alice", wanted, page.looked_to, 50)
        found += [key[1] for key, _ in page.rows]
    assert found == [2, 1]
    unfiltered = await store.order_history.ended_orders("alice", OrderFilter(), None, 50)
    assert len(unfiltered.rows) == 50


async def test_a_read_after_the_close_is_unavailable(store: HistoryStore) -> None:
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.order_history.latest_update(1)
