"""engine.db: an index of the ledger that can be thrown away. It answers two questions about requests and orders that are long
over, so that the engine's memory does not grow with them: where the first answer to a key is, and where an order ended.

Entries come in after the sync of the group that they are about, and are found in memory until a thread of the index has written
them. It writes seldom and much (random keys in small transactions cost three times as much), and gives SQLite a thousand rows
in one JSON value: row by row, a busy sequencer would get Python's lock back for every single row.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from services.matching_engine.ledger.errors import LedgerIndexFailed

PENDING_ENTRIES_MAX: Final = 20_000
FLUSH_SECONDS: Final = 1.0

_SCHEMA_VERSION = 1
_SCHEMA = f"""
CREATE TABLE progress (ledger_id TEXT NOT NULL, indexed_sequence INTEGER NOT NULL) STRICT;
CREATE TABLE first_answers (name TEXT PRIMARY KEY, sequence INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE ended_orders (order_id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL) STRICT;
PRAGMA user_version = {_SCHEMA_VERSION};
"""
# Rows are gathered first and go in sorted, so that a page is visited once.
_GATHER = "INSERT INTO temp.arrived SELECT key, value FROM json_each(?)"
_ADD_FIRST_ANSWERS = "INSERT OR IGNORE INTO first_answers SELECT key, value FROM temp.arrived ORDER BY key"
_ADD_ENDED_ORDERS = "INSERT OR REPLACE INTO ended_orders SELECT CAST(key AS INTEGER) AS id, value FROM temp.arrived ORDER BY id"
_FIND_FIRST_ANSWERS = "SELECT name, sequence FROM carray(?) AS asked CROSS JOIN first_answers ON first_answers.name = asked.value"
_FIND_ENDED_ORDER = "SELECT sequence FROM ended_orders WHERE order_id = ?"

_ROWS_PER_VALUE = 1000
_CACHE_KIB = 8 << 10
_WAL_PAGES = 8192  # 32 MiB: a page that is changed again and again goes into the file once
_BUSY_MILLISECONDS = 10_000
# A start looks through the whole of a file up to this size, in a second. In a larger one damage shows when it is met, in use: no
# start may take longer because the ledger is older.
_CHECKED_BYTES_MAX = 256 << 20
_DAMAGED = (apsw.CorruptError, apsw.NotADBError)


class IndexEntries(NamedTuple):
    """What a commit group adds to the index."""

    first_answers: Mapping[tuple[str, int, str], int]
    """(user_id, kind, key) of each new request -> sequence of its answer. A user_id has no "/" in it."""
    ended_orders: Mapping[int, int]
    """order_id of each order that ended -> sequence of its last update."""
    through_sequence: int
    """All that the ledger says up to here is in these entries and in those recorded before."""


class _Pending:
    """Entries that are not in the file yet. The recording thread alone changes it, until the writing thread takes it."""

    __slots__ = ("ended_orders", "first_answers", "through_sequence")

    def __init__(self, through_sequence: int) -> None:
        self.first_answers: dict[str, int] = {}
        self.ended_orders: dict[int, int] = {}
        self.through_sequence = through_sequence

    def add(self, entries: IndexEntries) -> None:
        for (user_id, kind, key), sequence in entries.first_answers.items():
            self.first_answers.setdefault(_name(user_id, kind, key), sequence)
        self.ended_orders.update(entries.ended_orders)
        self.through_sequence = entries.through_sequence

    def entry_count(self) -> int:
        return len(self.first_answers) + len(self.ended_orders)


class LedgerIndex:
    """One thread records and looks up; what is recorded is found at once. A write or read that fails ends the index: the next
    call and all later ones raise LedgerIndexFailed.

    `discarded` says why a file that was there was not used, None where it was: worth a report, since an index that is ahead of
    its ledger means that durable sequences are gone.
    """

    # How entries pass from one thread to the other: the writer takes _pending as _writing and puts an empty one in its place
    # (in this order, under the lock), commits, and then lets go of _writing. So whoever looks into _pending, _writing and the
    # file, in this order and without the lock, finds every entry in at least one of them.

    def __init__(
        self, path: Path, indexed_sequence: int, discarded: str | None, pending_entries_max: int, flush_seconds: float
    ) -> None:
        self.path = path
        self.discarded = discarded
        self._pending_entries_max = pending_entries_max
        self._flush_seconds = flush_seconds
        self._changed = threading.Condition()
        self._pending = _Pending(indexed_sequence)
        self._writing = _Pending(indexed_sequence)
        self._written_sequence = indexed_sequence
        self._flush_target = 0
        self._closing = False
        self._failure: BaseException | None = None
        self._lookups = _connect(path)
        self._lookups.pragma("query_only", True)
        self._rows = _connect(path)
        self._rows.execute("CREATE TEMP TABLE arrived (key, value)")
        self._writer = threading.Thread(target=self._run_writer, name="ledger-index", daemon=True)
        self._writer.start()

    @classmethod
    def open(
        cls,
        path: Path,
        ledger_id: str,
        durable_sequence: int,
        *,
        pending_entries_max: int = PENDING_ENTRIES_MAX,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> "LedgerIndex":
        """Opens the index of a ledger; one that is damaged, of another ledger, ahead of this one or of another schema is deleted
        and begun anew. Twice `pending_entries_max` entries and a group are kept in memory at most, and written after
        `flush_seconds` at the latest. Raises LedgerIndexFailed where the file cannot be opened at all.
        """
        try:
            discarded = _reason_to_discard(path, ledger_id, durable_sequence)
            if discarded is not None:
                _delete(path)
            return cls(path, _prepare(path, ledger_id), discarded, pending_entries_max, flush_seconds)
        except (apsw.Error, OSError) as error:
            raise LedgerIndexFailed(path, error) from error

    @property
    def indexed_sequence(self) -> int:
        """All that the ledger says up to here is in the index: record what comes after it."""
        return self._pending.through_sequence

    def record(self, entries: IndexEntries) -> None:
        """Adds what a durable group says; waits where the writer is too far behind. A key keeps its first answer. Raises
        ValueError where `through_sequence` is not above the one before.
        """
        with self._changed:
            if entries.through_sequence <= self.indexed_sequence:
                raise ValueError(f"sequence {entries.through_sequence} is indexed already")
            while self._failure is None and self._pending.entry_count() >= self._pending_entries_max:
                self._changed.wait()
            self._raise_failure()
            first = self._pending.through_sequence == self._writing.through_sequence
            self._pending.add(entries)
            if first or self._pending.entry_count() >= self._pending_entries_max:
                self._changed.notify_all()

    def first_answer(self, user_id: str, kind: int, key: str) -> int | None:
        """Sequence of the first answer to the key; None for a key that is new."""
        return self.first_answers([(user_id, kind, key)])[0]

    def first_answers(self, keys: Sequence[tuple[str, int, str]]) -> list[int | None]:
        """The same for many keys at once, in their order; less than half the cost of asking one by one."""
        self._raise_failure()
        if not keys:
            return []
        names = tuple([_name(user_id, kind, key) for user_id, kind, key in keys])
        pending, writing = self._pending.first_answers, self._writing.first_answers
        stored: dict[str, int] = dict(self._find(_FIND_FIRST_ANSWERS, apsw.carray(names)))
        if not (stored or writing or pending):
            return [None] * len(names)
        return [stored.get(name) or writing.get(name) or pending.get(name) for name in names]

    def last_update(self, order_id: int) -> int | None:
        """Sequence of the last update of an order that ended; None for one that did not."""
        self._raise_failure()
        pending, writing = self._pending.ended_orders, self._writing.ended_orders
        recorded = pending.get(order_id) or writing.get(order_id)
        if recorded is not None:
            return recorded
        rows = self._find(_FIND_ENDED_ORDER, order_id)
        return rows[0][0] if rows else None

    def flush(self) -> None:
        """Returns when all that was recorded is in the file."""
        with self._changed:
            self._flush_target = target = self.indexed_sequence
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._failure is not None or self._written_sequence >= target)
            self._raise_failure()

    def close(self) -> None:
        """Writes what is pending and ends the thread. Raises LedgerIndexFailed where that was not possible."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._writer.join()
        self._lookups.close()
        self._raise_failure()

    def _find(self, query: str, value: Any) -> list[tuple[Any, ...]]:
        try:
            return list(self._lookups.execute(query, (value,)))
        except apsw.Error as error:
            with self._changed:
                self._fail(error)
            raise LedgerIndexFailed(self.path, error) from error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise LedgerIndexFailed(self.path, self._failure) from self._failure

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._changed.notify_all()
        if isinstance(error, _DAMAGED):
            _delete(self.path)  # so that the next start does not trust it

    def _run_writer(self) -> None:
        try:
            with closing(self._rows):
                while self._take_pending():
                    _write(self._rows, self._writing)
                    with self._changed:
                        self._written_sequence = self._writing.through_sequence
                        self._writing = _Pending(self._written_sequence)
                        self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._fail(error)

    def _take_pending(self) -> bool:
        """Waits until it is time to write, and makes what is pending what is being written; False where it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self.indexed_sequence > self._written_sequence)
            self._changed.wait_for(
                lambda: (
                    self._closing
                    or self._flush_target > self._written_sequence
                    or self._pending.entry_count() >= self._pending_entries_max
                ),
                self._flush_seconds,
            )
            if self.indexed_sequence == self._written_sequence:
                return False
            self._writing = self._pending
            self._pending = _Pending(self._writing.through_sequence)
            self._changed.notify_all()
            return True


def _name(user_id: str, kind: int, key: str) -> str:
    return f"{user_id}/{kind:d}/{key}"


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    connection.pragma("synchronous", "NORMAL")
    connection.pragma("cache_size", -_CACHE_KIB)
    connection.pragma("wal_autocheckpoint", _WAL_PAGES)
    connection.pragma("temp_store", "MEMORY")
    return connection


def _reason_to_discard(path: Path, ledger_id: str, durable_sequence: int) -> str | None:
    if not path.exists():
        return None
    try:
        with closing(_connect(path)) as connection:
            version = connection.pragma("user_version")
            if version != _SCHEMA_VERSION:
                return f"it has schema version {version}, this program uses {_SCHEMA_VERSION}"
            finding = connection.pragma("quick_check", 1) if path.stat().st_size <= _CHECKED_BYTES_MAX else "ok"
            if finding != "ok":
                return f"it is damaged: {finding}"
            of_ledger, indexed_sequence = connection.execute("SELECT ledger_id, indexed_sequence FROM progress").get
    except (*_DAMAGED, apsw.SQLError) as error:
        return f"it is damaged: {error}"
    if of_ledger != ledger_id:
        return f"it belongs to ledger {of_ledger}"
    if indexed_sequence > durable_sequence:
        return f"it knows of sequence {indexed_sequence}, the ledger ends at {durable_sequence}"
    return None


def _prepare(path: Path, ledger_id: str) -> int:
    """Makes the tables where there are none; returns the indexed sequence."""
    with closing(_connect(path)) as connection:
        connection.pragma("journal_mode", "WAL")
        if connection.pragma("user_version") != _SCHEMA_VERSION:
            with connection:
                connection.execute(_SCHEMA)
                connection.execute("INSERT INTO progress VALUES (?, 0)", (ledger_id,))
        return int(connection.execute("SELECT indexed_sequence FROM progress").get)


def _delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _write(connection: apsw.Connection, entries: _Pending) -> None:
    """Rows and "how far" in one transaction. It asks for the file's lock first: SQLite waits for it only there."""
    connection.execute("BEGIN IMMEDIATE")
    for rows, add in ((entries.first_answers, _ADD_FIRST_ANSWERS), (entries.ended_orders, _ADD_ENDED_ORDERS)):
        for value in _json_values(rows):
            connection.execute(_GATHER, (value,))
        connection.execute(add)
        connection.execute("DELETE FROM temp.arrived")
    connection.execute("UPDATE progress SET indexed_sequence = ?", (entries.through_sequence,))
    connection.execute("COMMIT")


def _json_values(rows: Mapping[Any, int]) -> Iterator[str]:
    """The rows in portions: to make one takes less than a millisecond of Python's lock."""
    remaining = iter(rows.items())
    while portion := dict(islice(remaining, _ROWS_PER_VALUE)):
        yield json.dumps(portion)
