"""What is a CQL store's own: times on every write, rows that come back from the dead, servers that forget, and its schema."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cassandra.query import SimpleStatement

from ordertape.v1 import order_pb2
from services.order_history.order_processor import Chunk, OrderProcessor, ReceivedBatch
from services.order_history.stores import FillFilter, OrderFilter, Rewrite, StoreRefused, StoreUnavailable, UpdatePlace
from services.order_history.stores import cql_schema as schema
from services.order_history.stores.cql import CqlHistoryStore
from services.order_history.stores.cql_connections import Server
from services.order_history.stores.cql_rows import PartitionSizes
from services.order_history.stores.cql_session import CqlSession
from services.order_history.stores.cql_settings import CqlSettings, parse_cql_address
from tests.support.cql_server import CqlNode, CqlServer
from tests.support.eventually import eventually
from tests.support.ledger_builder import LedgerBuilder
from tests.support.store_kinds import drop_keyspace, dump_keyspace, empty_tables

pytestmark = pytest.mark.cql

USERS = ("alice", "bob")
SMALL = PartitionSizes(bucket=50, part=5)


@pytest.fixture(scope="module")
def settings(cql_server: CqlServer, worker_id: str) -> Iterator[CqlSettings]:
    settings = parse_cql_address(f"scylla://{cql_server.contact_points}/cql_store_{worker_id}?timeout_seconds=30")
    drop_keyspace(settings)
    schema.apply_schema(settings)
    yield settings
    drop_keyspace(settings)


@pytest.fixture
def store(settings: CqlSettings) -> Iterator[CqlHistoryStore]:
    empty_tables(settings)
    store = CqlHistoryStore(settings, sizes=SMALL)
    yield store
    store.close()


@pytest.fixture(scope="module")
def ledger() -> LedgerBuilder:
    builder = LedgerBuilder()
    builder.open_market(USERS)
    builder.live_on(300, USERS, ("BTC-USD",))
    return builder


def chunk_of(ledger: LedgerBuilder, batches: list[ReceivedBatch] | None = None) -> Chunk:
    return OrderProcessor().project(ledger.ledger_id, ledger.batches if batches is None else batches)


def change(settings: CqlSettings, cql: str) -> None:
    session = CqlSession(settings)
    session.use_keyspace()
    session.execute(SimpleStatement(cql))
    session.close()


def forget_servers(settings: CqlSettings) -> None:
    """As if each had been restarted since the store was closed."""
    change(settings, "TRUNCATE servers")


def lose_server(store: CqlHistoryStore, *, is_restarted: bool = True) -> None:
    """As the connections tell it: the server is gone, and back."""
    ((process, connections),) = store._losses._connections.items()
    server = Server("a server", *process)
    for _ in range(connections):
        store._losses.disconnected(server)
    if is_restarted:
        assert server.generation is not None
        server = server._replace(generation=server.generation + 1)
    for _ in range(connections):
        store._losses.connected(server)


def test_every_write_says_the_time_of_its_ledger_command(
    settings: CqlSettings, ledger: LedgerBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_tables(settings)
    prepared: list[str] = []
    original = CqlSession.prepare

    def prepare(self: CqlSession, cql: str) -> object:
        prepared.append(cql)
        return original(self, cql)

    monkeypatch.setattr(CqlSession, "prepare", prepare)
    store = CqlHistoryStore(settings)
    store.apply(chunk_of(ledger))
    writes = [cql for cql in prepared if not cql.startswith("SELECT")]
    assert len(writes) > 10
    assert [cql for cql in writes if not re.search(r"\bUSING TIMESTAMP \?", cql)] == []
    assert [cql for cql in writes if cql.startswith("UPDATE")] == []
    times = {u.timestamp.ToMicroseconds() for u in ledger.updates}
    session = CqlSession(settings)
    session.use_keyspace()
    for table in ("order_updates", "user_updates", "fills", "order_history", "order_history_by_symbol", "active_orders"):
        written = {time for (time,) in session.execute(f"SELECT writetime(message) FROM {table}")}
        assert written
        assert written <= times
    session.close()
    store.close()


async def test_nothing_of_a_chunk_is_shown_before_its_checkpoint(store: CqlHistoryStore, ledger: LedgerBuilder) -> None:
    half = len(ledger.batches) // 2
    store.apply(chunk_of(ledger, ledger.batches[:half]))
    at = store.checkpoint().sequence
    # As a process that dies before the checkpoint leaves it, with a hole besides.
    store.rewrite(chunk_of(ledger, ledger.batches[half : half + 20]))
    store.rewrite(chunk_of(ledger, ledger.batches[half + 30 :]))
    before = [u for u in ledger.updates if u.sequence <= at]
    for user_id in USERS:
        mine = [u for u in before if u.user_id == user_id]
        assert [u.message for u in await store.order_history.user_updates(user_id, 0, 10_000)] == mine
        fills = await store.order_history.fills(user_id, FillFilter(), None, 10_000)
        assert [u.message for u in fills.updates] == [u for u in reversed(mine) if u.HasField("fill")]
        ended = await store.order_history.ended_orders(user_id, OrderFilter(), None, 10_000)
        assert all(order_pb2.OrderUpdate.FromString(data).sequence <= at for _, data in ended.rows)
        point = await store.order_history.point_in_time(user_id, ledger.time)
        assert point.sequence == mine[-1].sequence
    for order in {u.order_id: u for u in before}.values():
        latest = await store.order_history.latest_update(order.order_id)
        assert latest is not None
        assert latest.message == order
        timeline = await store.order_history.order_updates(order.order_id, UpdatePlace(0, 0), 1_000)
        assert timeline[-1].message == order


def test_an_open_order_that_came_back_from_the_dead_is_found_out(
    store: CqlHistoryStore, settings: CqlSettings, ledger: LedgerBuilder
) -> None:
    store.apply(chunk_of(ledger))
    alive = [update.order_id for update in store.active_orders.read_all()]
    dead = [o for o in ledger.orders.values() if o.order_id not in alive][:3]
    first = {u.order_id: u for u in reversed(ledger.updates)}
    # A server that was away while they were deleted, and for longer than deletes are remembered, brings them back.
    for order in dead:
        update = first[order.order_id]
        change(
            settings,
            "INSERT INTO active_orders (user_id, order_id, sequence, batch_end, symbol, exec_type, timestamp, message) "
            f"VALUES ('{update.user_id}', {update.order_id}, {update.sequence}, {update.sequence}, '{update.symbol}', "
            # Past its delete, which this server still has.
            f"{update.exec_type}, {ledger.time}, 0x{update.SerializeToString().hex()}) USING TIMESTAMP {ledger.time}",
        )
    session = CqlSession(settings)
    session.use_keyspace()
    assert session.execute("SELECT count(*) FROM active_orders") == [(len(alive) + len(dead),)]
    session.close()
    assert [update.order_id for update in store.active_orders.read_all()] == alive
    session = CqlSession(settings)
    session.use_keyspace()
    assert session.execute("SELECT count(*) FROM active_orders") == [(len(alive),)], "they are deleted once more"
    session.close()


def test_a_start_is_not_kept_out_by_the_many_orders_that_ended_before_it(tmp_path: Path) -> None:
    """A server ends a read that passes too many deleted rows, of which a busy user leaves hundreds of thousands an hour."""
    builder = LedgerBuilder()
    builder.open_market(USERS)
    few = {"tombstone_warn_threshold": "100", "tombstone_failure_threshold": "200"}  # 100 000 where nobody says anything
    with CqlNode(tmp_path / "node", settings=few) as node:
        settings = parse_cql_address(f"scylla://{node.contact_point}/busy?timeout_seconds=30")
        schema.apply_schema(settings)
        store = CqlHistoryStore(settings)
        while len(builder.orders) < 1_000:
            builder.live_on(100, USERS, ("BTC-USD",))
        store.apply(chunk_of(builder))
        time.sleep(2)  # a server knows the times of deletes in whole seconds
        assert [update.order_id for update in store.active_orders.read_all()] == [o.order_id for o in builder.open_orders()]
        store.close()


@pytest.mark.torture
def test_what_a_server_forgot_is_written_again(tmp_path: Path, ledger: LedgerBuilder) -> None:
    # A compressed commit log is in the server's memory until it is synced.
    forgetful = {"commitlog_sync_period": "60000ms", "commitlog_compression": "[{class_name: LZ4Compressor}]"}
    with CqlNode(tmp_path / "node", settings=forgetful) as node:
        settings = parse_cql_address(f"scylla://{node.contact_point}/forgets?timeout_seconds=30")
        schema.apply_schema(settings)
        node.stop()  # a clean end writes down all that there is
        node.start()
        store = CqlHistoryStore(settings, sizes=SMALL)
        for begin in range(0, len(ledger.batches), 50):
            store.apply(chunk_of(ledger, ledger.batches[begin : begin + 50]))
        whole = dump_keyspace(settings)
        assert store.due_rewrite() is None
        node.kill()
        node.start()
        assert eventually(store.due_rewrite, 30).after_sequence == 0  # type: ignore[union-attr]
        lost = set(whole) - set(eventually(lambda: _dump_or_not_yet(settings), 30))
        assert len(lost) > len(ledger.updates)
        eventually(lambda: _is_whole_again(store, ledger), 60)
        assert dump_keyspace(settings) == whole
        store.close()


def _is_whole_again(store: CqlHistoryStore, ledger: LedgerBuilder) -> bool:
    """As the ingest does it: a server that has just come back may refuse, and be told of once more meanwhile."""
    rewrite = store.due_rewrite()
    if rewrite is None:
        return True
    assert rewrite.until_sequence == ledger.sequence
    try:
        store.rewrite(chunk_of(ledger))
        store.settle(rewrite)
    except StoreUnavailable as down:
        raise AssertionError(str(down)) from down
    return store.due_rewrite() is None


def _dump_or_not_yet(settings: CqlSettings) -> list[str]:
    try:
        return dump_keyspace(settings)
    except StoreUnavailable as down:
        raise AssertionError(str(down)) from down


def test_rows_are_safe_once_they_are_older_than_the_servers_memory(settings: CqlSettings, ledger: LedgerBuilder) -> None:
    empty_tables(settings)
    now = 1_000.0
    store = CqlHistoryStore(settings, sizes=SMALL, clock=lambda: now)
    ends = []
    for begin in range(0, 40, 10):
        store.apply(chunk_of(ledger, ledger.batches[begin : begin + 10]))
        ends.append(store.checkpoint().sequence)
        now += 25.0
    store.close()
    # The last checkpoint was written 25, 50 and 75 s after the three before it.
    forget_servers(settings)
    store = CqlHistoryStore(settings, sizes=SMALL)
    assert store.due_rewrite() == Rewrite(ends[0], ends[3], store.checkpoint().hash, 1)
    store.close()


def test_a_start_writes_nothing_again_where_all_servers_run_since_before(settings: CqlSettings, ledger: LedgerBuilder) -> None:
    empty_tables(settings)
    store = CqlHistoryStore(settings, sizes=SMALL)
    store.apply(chunk_of(ledger))
    store.close()
    store = CqlHistoryStore(settings, sizes=SMALL)
    assert store.due_rewrite() is None
    store.close()
    forget_servers(settings)
    store = CqlHistoryStore(settings, sizes=SMALL)
    assert store.due_rewrite() == Rewrite(0, ledger.sequence, store.checkpoint().hash, 1)
    store.close()


def test_what_a_lost_server_may_have_forgotten_gets_no_safer_by_waiting(settings: CqlSettings, ledger: LedgerBuilder) -> None:
    """A server that dies before it has synced and is away for a minute has forgotten rows that are older than a minute then."""
    empty_tables(settings)
    now = 1_000.0
    store = CqlHistoryStore(settings, sizes=SMALL, clock=lambda: now)
    ends = []

    def apply_next() -> None:
        store.apply(chunk_of(ledger, ledger.batches[10 * len(ends) : 10 * len(ends) + 10]))
        ends.append(store.checkpoint().sequence)

    def rewritten_from() -> int:
        rewrite = store.due_rewrite()
        assert rewrite is not None
        store.settle(rewrite)
        return rewrite.after_sequence

    apply_next()
    lose_server(store)
    now += 61.0
    apply_next()  # what waited for the server comes first
    assert rewritten_from() == 0
    now += 5.0
    apply_next()
    lose_server(store)  # which has not synced what was written again
    assert rewritten_from() == 0
    now += 61.0
    apply_next()
    lose_server(store)
    assert rewritten_from() == ends[2]
    store.close()


def test_what_a_server_has_that_hung_gets_no_safer_while_it_hangs(settings: CqlSettings, ledger: LedgerBuilder) -> None:
    empty_tables(settings)
    now = 1_000.0
    store = CqlHistoryStore(settings, sizes=SMALL, clock=lambda: now)
    store.apply(chunk_of(ledger, ledger.batches[:10]))
    end = store.checkpoint().sequence
    now += 61.0
    lose_server(store, is_restarted=False)
    assert store.due_rewrite() is None
    store.apply(chunk_of(ledger, ledger.batches[10:20]))
    assert store._checkpoints.safe_sequence == 0
    now += 61.0
    store.apply(chunk_of(ledger, ledger.batches[20:30]))
    assert store._checkpoints.safe_sequence > end
    store.close()


async def test_reads_wait_until_what_was_lost_is_written_again(settings: CqlSettings, ledger: LedgerBuilder) -> None:
    empty_tables(settings)
    hasty = parse_cql_address(str(settings) + "?timeout_seconds=1")
    store = CqlHistoryStore(hasty, sizes=SMALL)
    store.apply(chunk_of(ledger))
    lose_server(store)
    with pytest.raises(StoreUnavailable, match="written again"):
        await store.order_history.latest_update(1)
    rewrite = store.due_rewrite()
    assert rewrite is not None
    lose_server(store)  # meanwhile
    store.settle(rewrite)
    assert store.due_rewrite() is not None
    store.settle(store.due_rewrite())  # type: ignore[arg-type]
    assert await store.order_history.latest_update(1) is not None
    store.close()


def test_a_keyspace_without_the_schema_is_refused_and_says_what_to_do(settings: CqlSettings) -> None:
    empty = parse_cql_address(str(settings).replace("/cql_store", "/no_such"))
    with pytest.raises(StoreRefused, match="no such keyspace: run `ordertape schema apply`"):
        CqlHistoryStore(empty)


def test_a_keyspace_of_a_newer_program_is_refused_by_the_store_and_by_schema_apply(settings: CqlSettings) -> None:
    known = schema.newest_version()
    for version, message in ((99, f"schema version 99, this program knows up to {known}"), (0, "schema version 0, this program")):
        change(settings, f"UPDATE schema_version SET version = {version} WHERE name = 'order_history'")
        with pytest.raises(StoreRefused, match=message):
            CqlHistoryStore(settings)
    change(settings, "UPDATE schema_version SET version = 99 WHERE name = 'order_history'")
    with pytest.raises(StoreRefused, match="run the newer program"):
        schema.apply_schema(settings)
    change(settings, f"UPDATE schema_version SET version = {known} WHERE name = 'order_history'")
    assert schema.apply_schema(settings).endswith("already")


def test_a_keyspace_of_something_else_is_refused(settings: CqlSettings, cql_server: CqlServer, worker_id: str) -> None:
    other = parse_cql_address(f"scylla://{cql_server.contact_points}/other_{worker_id}")
    change(
        settings, f"CREATE KEYSPACE other_{worker_id} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
    )
    change(settings, f"CREATE TABLE other_{worker_id}.notes (id int PRIMARY KEY)")
    try:
        with pytest.raises(StoreRefused, match="something else"):
            schema.apply_schema(other)
    finally:
        drop_keyspace(other)


def test_an_older_keyspace_is_refused_until_the_steps_have_brought_it_to_the_whole_schema(
    settings: CqlSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = schema.steps()
    assert [number for number, _ in steps] == list(range(1, len(steps) + 1))
    older = parse_cql_address(str(settings).replace("/cql_store", "/older_cql_store"))
    drop_keyspace(older)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(schema, "steps", lambda: steps[:1])
            patch.setattr(schema, "whole", lambda: steps[0][1])
            assert schema.apply_schema(older).endswith("has schema version 1 now")
        with pytest.raises(StoreRefused, match=r"has schema version 1, this program needs .*`ordertape schema apply`"):
            CqlHistoryStore(older)
        assert schema.apply_schema(older).endswith(f"has schema version {len(steps)} now, had 1")
        assert tables_of(older) == tables_of(settings)
        CqlHistoryStore(older).close()
    finally:
        drop_keyspace(older)


def tables_of(settings: CqlSettings) -> list[object]:
    """All that the server knows of the keyspace's tables and columns, but the tables' own ids."""
    session = CqlSession(settings)
    found: list[object] = []
    for kind in ("tables", "columns"):
        query = f"SELECT JSON * FROM system_schema.{kind} WHERE keyspace_name = %s"
        for (text,) in session.execute(query, (settings.keyspace,)):
            found.append({name: value for name, value in json.loads(text).items() if name not in {"id", "keyspace_name"}})
    session.close()
    return found


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/nowhere cannot be reached"):
        CqlHistoryStore(parse_cql_address("scylla://127.0.0.1:1/nowhere?timeout_seconds=1"))
