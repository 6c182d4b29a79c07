"""What is SQLite's own: the lock, the schema's versions, its errors, the indexes, and a process that dies at work."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from services.order_history.order_processor import Chunk, OrderProcessor
from services.order_history.stores import FillFilter, OrderFilter, StoreDamaged, StoreRefused, StoreUnavailable, UpdatePlace
from services.order_history.stores import sqlite_schema as schema
from services.order_history.stores.sqlite import FILE_NAME, SqliteHistoryStore
from tests.support.history_dump import dump, dump_of_any_run
from tests.support.ledger_builder import LedgerBuilder


@pytest.fixture
def ledger() -> LedgerBuilder:
    builder = LedgerBuilder()
    builder.open_market(("alice", "bob"))
    builder.live_on(200, ("alice", "bob"), ("BTC-USD",))
    return builder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteHistoryStore]:
    store = SqliteHistoryStore(tmp_path)
    yield store
    store.close()


def chunk_of(ledger: LedgerBuilder, begin: int = 0, end: int | None = None) -> Chunk:
    return OrderProcessor().project(ledger.ledger_id, ledger.batches[begin:end])


def change_file(folder: Path, sql: str) -> None:
    connection = apsw.Connection(str(folder / FILE_NAME))
    connection.execute(sql)
    connection.close()


def test_a_second_opening_of_the_folder_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    first = SqliteHistoryStore(tmp_path)
    with pytest.raises(StoreRefused, match="in use by another history service"):
        SqliteHistoryStore(tmp_path)
    first.close()
    SqliteHistoryStore(tmp_path).close()


def test_closing_twice_is_closing_once(store: SqliteHistoryStore) -> None:
    store.close()
    store.close()


def test_a_store_of_a_newer_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    SqliteHistoryStore(tmp_path).close()
    change_file(tmp_path, "UPDATE schema_version SET version = 99")
    for _ in range(2):  # the refusal has to free the lock
        with pytest.raises(StoreRefused, match="schema version 99, this program knows up to 1"):
            SqliteHistoryStore(tmp_path)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    change_file(tmp_path, "CREATE TABLE notes (text)")
    with pytest.raises(StoreRefused, match="not an order history"):
        SqliteHistoryStore(tmp_path)


def test_a_folder_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(StoreUnavailable, match="taken"):
        SqliteHistoryStore(tmp_path / "taken")


def test_a_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreDamaged):
        SqliteHistoryStore(tmp_path)


def test_the_steps_end_in_the_whole_schema() -> None:
    def tables_after(*scripts: str) -> list[tuple[object, ...]]:
        connection = apsw.Connection(":memory:")
        for script in scripts:
            connection.execute(script)
        found = connection.execute("SELECT type, name, tbl_name FROM sqlite_schema ORDER BY name").fetchall()
        columns = "SELECT m.name, c.* FROM sqlite_schema m JOIN pragma_table_xinfo(m.name) c ORDER BY m.name, c.cid"
        keys = "SELECT m.name, i.* FROM sqlite_schema m JOIN pragma_index_xinfo(m.name) i ORDER BY m.name, i.seqno"
        return found + connection.execute(columns).fetchall() + connection.execute(keys).fetchall()

    steps = schema.steps()
    assert [number for number, _ in steps] == list(range(1, len(steps) + 1))
    whole = schema.whole()
    assert f"INSERT INTO schema_version VALUES ({len(steps)})" in whole
    assert tables_after(whole) == tables_after(*(sql for _, sql in steps))


def test_an_older_store_is_brought_up_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: LedgerBuilder
) -> None:
    store = SqliteHistoryStore(tmp_path)
    store.apply(chunk_of(ledger))
    store.close()
    added = [(2, "CREATE TABLE a (x)"), (3, "CREATE TABLE b AS SELECT * FROM a")]
    known = schema.steps() + added
    monkeypatch.setattr(schema, "steps", lambda: known)
    store = SqliteHistoryStore(tmp_path)
    assert store.checkpoint().sequence == ledger.sequence
    store.close()
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    assert connection.execute("SELECT version, (SELECT count(*) FROM b) FROM schema_version").fetchall() == [(3, 0)]
    connection.close()


def test_a_chunk_that_cannot_be_stored_whole_leaves_nothing(store: SqliteHistoryStore, tmp_path: Path) -> None:
    ledger = LedgerBuilder()
    ledger.open_market(("alice",))
    ledger.place("alice", client_order_id="twice")
    store.apply(chunk_of(ledger))
    before, applied = dump(tmp_path), len(ledger.batches)
    ledger.place("alice", client_order_id="other")
    ledger.place("alice", client_order_id="twice")
    with pytest.raises(StoreDamaged, match=f"ledger sequences {ledger.batches[applied].first_sequence} to"):
        store.apply(chunk_of(ledger, applied))
    assert dump(tmp_path) == before
    assert store.apply(chunk_of(ledger, applied, applied + 1))


def test_a_full_disk_is_unavailable_and_the_same_chunk_works_later(
    store: SqliteHistoryStore, tmp_path: Path, ledger: LedgerBuilder
) -> None:
    store.apply(chunk_of(ledger, end=20))
    before = dump(tmp_path)
    ((pages,),) = store._connection.execute("PRAGMA page_count").fetchall()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailable, match="ledger sequences"):
        store.apply(chunk_of(ledger, begin=20))
    assert dump(tmp_path) == before
    store._connection.execute("PRAGMA max_page_count = 1000000")
    assert store.apply(chunk_of(ledger, begin=20))
    assert store.checkpoint().sequence == ledger.sequence


def test_a_commit_that_succeeds_and_still_reports_an_error_is_known_from_the_file(
    tmp_path: Path, ledger: LedgerBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LosesAnAnswer(apsw.Connection):
        lose = False

        def execute(self, sql: str, values: tuple[object, ...] = ()) -> apsw.Cursor:
            cursor = super().execute(sql, values)
            if self.lose and sql == "COMMIT":
                raise apsw.IOError("the answer was lost")
            return cursor

    monkeypatch.setattr(apsw, "Connection", LosesAnAnswer)
    store = SqliteHistoryStore(tmp_path)
    store.apply(chunk_of(ledger, end=10))
    monkeypatch.setattr(LosesAnAnswer, "lose", True)
    with pytest.raises(StoreUnavailable, match="the answer was lost"):
        store.apply(chunk_of(ledger, 10, 20))
    assert not store.apply(chunk_of(ledger, 10, 20))
    assert store.checkpoint().sequence == ledger.batches[19].last_sequence
    store.close()


async def test_reads_go_on_while_a_chunk_is_written_and_see_whole_chunks_only(
    store: SqliteHistoryStore, ledger: LedgerBuilder
) -> None:
    ends = {0}
    for begin in range(0, len(ledger.batches), 5):
        ends.add(max((u.user_update_number for u in _updates_until(ledger, begin + 5, "alice")), default=0))

    def write() -> None:
        for begin in range(0, len(ledger.batches), 5):
            store.apply(chunk_of(ledger, begin, begin + 5))

    writing = asyncio.create_task(asyncio.to_thread(write))
    seen = []
    while not writing.done():
        seen.append(len(await store.order_history.user_updates("alice", 0, 10**6)))
    await writing
    assert seen == sorted(seen)
    assert set(seen) <= ends


def _updates_until(ledger: LedgerBuilder, batches: int, user_id: str) -> Iterator[object]:
    last_sequence = ledger.batches[min(batches, len(ledger.batches)) - 1].last_sequence
    return (u for u in ledger.updates if u.user_id == user_id and u.sequence <= last_sequence)


async def test_every_question_is_answered_from_an_index(
    store: SqliteHistoryStore, ledger: LedgerBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.apply(chunk_of(ledger))
    plans: list[str] = []
    original = apsw.Connection

    class Explaining(original):  # type: ignore[misc, valid-type]
        def execute(self, sql: str, values: tuple[object, ...] = ()) -> apsw.Cursor:
            if sql.startswith("SELECT"):
                plans.extend(str(row[-1]) for row in super().execute(f"EXPLAIN QUERY PLAN {sql}", values))
            return super().execute(sql, values)

    monkeypatch.setattr(apsw, "Connection", Explaining)
    orders = store.order_history
    await orders.find_order_id("alice", "c1")
    await orders.latest_update(1)
    await orders.order_updates(1, UpdatePlace(0, 0), 10)
    await orders.user_updates("alice", 0, 10)
    await orders.point_in_time("alice", ledger.time)
    every = {"side": 1, "statuses": (3, 4), "updated_from": 1, "updated_until": ledger.time, "created_from": 1}
    for symbols in ((), ("BTC-USD",), ("BTC-USD", "ETH-USD")):
        await orders.ended_orders("alice", OrderFilter(symbols=symbols), None, 10)
        await orders.ended_orders("alice", OrderFilter(symbols=symbols, **every), (ledger.time, 9), 10)  # type: ignore[arg-type]
        await orders.fills("alice", FillFilter(symbols=symbols), None, 10)
        await orders.fills("alice", FillFilter(symbols=symbols, order_id=1, traded_from=1, traded_until=9), 9, 10)
    assert len(plans) > 20
    assert [plan for plan in plans if not plan.startswith("SEARCH")] == []


KILLED = """
import sys
from pathlib import Path
from tests.order_history.test_sqlite_store import apply_all
apply_all(Path(sys.argv[1]), lambda sequence: print(sequence, flush=True))
"""


def apply_all(folder: Path, applied: Callable[[int], None] = lambda _: None) -> None:
    """What the process that gets killed does: one and the same ledger, in small chunks from the checkpoint on."""
    ledger = LedgerBuilder()
    ledger.open_market(("alice", "bob"))
    ledger.live_on(1_000, ("alice", "bob"), ("BTC-USD",))
    store = SqliteHistoryStore(folder)
    sequence = store.checkpoint().sequence
    begin = next((i for i, b in enumerate(ledger.batches) if b.first_sequence > sequence), len(ledger.batches))
    for first in range(begin, len(ledger.batches), 3):
        store.apply(chunk_of(ledger, first, first + 3))
        applied(store.checkpoint().sequence)
    store.close()


def test_a_process_killed_at_work_leaves_a_store_that_ends_in_the_same_rows(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    for chunks in (40, 70):
        command = [sys.executable, "-c", KILLED, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
            assert process.stdout is not None
            applied = [int(process.stdout.readline()) for _ in range(chunks)]
            process.kill()
        store = SqliteHistoryStore(folder)
        assert store.checkpoint().sequence >= applied[-1]
        store.close()
    apply_all(folder)
    apply_all(tmp_path / "undisturbed")
    assert dump(folder) == dump(tmp_path / "undisturbed")


def test_the_same_orders_in_two_runs_differ_in_times_hashes_and_sequences_alone(tmp_path: Path) -> None:
    folders = (tmp_path / "one", tmp_path / "two")
    for folder in folders:
        ledger = LedgerBuilder(time=1_750_000_000_000_000 + 10**9 * (folder.name == "two"))
        ledger.open_market(("alice", "bob"))
        ledger.live_on(100, ("alice", "bob"), ("BTC-USD",), seed=1)
        if folder.name == "two":
            ledger.start_engine()
        ledger.live_on(100, ("alice", "bob"), ("BTC-USD",), seed=2)
        store = SqliteHistoryStore(folder)
        store.apply(chunk_of(ledger))
        store.close()
    one, two = folders
    assert dump(one) != dump(two)
    assert dump_of_any_run(one) == dump_of_any_run(two)
