"""The stores of the history that pass the same contract tests: each can be opened again and again, and shows all of its rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from cassandra.query import SimpleStatement

from services.order_history.stores import Checkpoint, HistoryStore
from services.order_history.stores.cql import CqlHistoryStore
from services.order_history.stores.cql_rows import SIZES, PartitionSizes
from services.order_history.stores.cql_schema import apply_schema
from services.order_history.stores.cql_session import CqlSession
from services.order_history.stores.cql_settings import CqlSettings, parse_cql_address
from services.order_history.stores.sqlite import SqliteHistoryStore
from tests.support import history_dump


class StoreKind(Protocol):
    """One place for a store, empty at first."""

    def open(self) -> HistoryStore:
        """The store in this place, opened anew; the one that was open is closed first."""
        ...

    def dump(self) -> list[str]:
        """Every row of every table."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class SqlitePlace:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: HistoryStore | None = None

    def open(self) -> HistoryStore:
        """See StoreKind."""
        self.close()
        self._opened = SqliteHistoryStore(self._folder, readers=2)
        return self._opened

    def dump(self) -> list[str]:
        """See StoreKind."""
        return history_dump.dump(self._folder)

    def close(self) -> None:
        """See StoreKind."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


class CqlPlace:
    """A keyspace. Tables take long to make, so ``made`` remembers which there are, and those are emptied."""

    def __init__(self, contact_points: str, keyspace: str, made: dict[str, CqlSettings], sizes: PartitionSizes = SIZES) -> None:
        self.address = f"scylla://{contact_points}/{keyspace}?timeout_seconds=30"
        self._settings = parse_cql_address(self.address)
        self._sizes = sizes
        self._opened: HistoryStore | None = None
        if keyspace not in made:
            drop_keyspace(self._settings)
            apply_schema(self._settings)
            made[keyspace] = self._settings
        else:
            empty_tables(self._settings)

    def open(self) -> HistoryStore:
        """See StoreKind."""
        self.close()
        self._opened = CqlHistoryStore(self._settings, sizes=self._sizes)
        return self._opened

    def dump(self) -> list[str]:
        """See StoreKind."""
        return dump_keyspace(self._settings)

    def close(self) -> None:
        """See StoreKind."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def drop_keyspace(settings: CqlSettings) -> None:
    """Remove the keyspace with all that is in it."""
    session = CqlSession(settings)
    session.execute(SimpleStatement(f"DROP KEYSPACE IF EXISTS {settings.keyspace}"), timeout_seconds=60)
    session.close()


def empty_tables(settings: CqlSettings) -> None:
    """Remove all rows but the schema's version."""
    session = CqlSession(settings)
    session.use_keyspace()
    for table in session.tables() - {"schema_version"}:
        session.execute(SimpleStatement(f"TRUNCATE {table}"), timeout_seconds=60)
    session.close()


def dump_keyspace(settings: CqlSettings) -> list[str]:
    """Every value of every row of every table, but how much of it is safe, which depends on the time that passes, and since when
    the servers run.
    """
    session = CqlSession(settings)
    try:
        session.use_keyspace()
        return sorted(row for table in session.tables() - {"servers"} for row in _rows_of(session, settings, table))
    finally:
        session.close()


def _rows_of(session: CqlSession, settings: CqlSettings, table: str) -> Iterator[str]:
    columns = sorted(
        name
        for (name,) in session.execute(
            "SELECT column_name FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s",
            (settings.keyspace, table),
        )
    )
    if table == "checkpoints":
        columns.remove("safe_sequence")
    for values in session.scan(session.prepare(f"SELECT {', '.join(columns)} FROM {table}")):
        yield f"{table} {dict(zip(columns, values, strict=True))}"


def cql_checkpoint(settings: CqlSettings) -> Checkpoint:
    """How far the keyspace is, whoever is at work in it; sequence 0 at the beginning."""
    session = CqlSession(settings)
    try:
        session.use_keyspace()
        rows = session.execute("SELECT ledger_id, epoch, sequence, hash FROM checkpoints")
        return Checkpoint._make(rows[0]) if rows else Checkpoint("", 0, 0, b"")
    finally:
        session.close()
