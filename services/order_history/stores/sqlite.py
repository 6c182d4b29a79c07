"""The history in one SQLite file: for one machine, with nothing to install. Rows and checkpoint of a chunk are one transaction,
so the file always is the fold of the ledger up to its checkpoint; what a power cut takes from its end comes again from there.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from services.order_history.order_processor import Chunk, EndedOrder, StoredUpdate
from services.order_history.stores import Checkpoint, Rewrite, StoredRow, StoreUnavailable, ensure_next
from services.order_history.stores.folder_lock import FolderLock
from services.order_history.stores.sqlite_connection import connect, translated_errors
from services.order_history.stores.sqlite_reads import SqliteReads
from services.order_history.stores.sqlite_rows import expected_rows, found_rows
from services.order_history.stores.sqlite_schema import bring_up_to_date

FILE_NAME: Final = "history.db"
_LOCK_NAME: Final = "history.lock"
_CACHE_KIB: Final = 65_536
# The file is brought up to its log each time that this many pages of 4 KiB were written: fewer, larger syncs than SQLite's 1 000.
_CHECKPOINT_PAGES: Final = 8_000

_INSERT_UPDATE: Final = "INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_ENDED: Final = "INSERT INTO order_history VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ENDED_COLUMNS: Final = 8  # the message is in updates
_INSERT_CLIENT_ID: Final = "INSERT INTO orders_by_client_id VALUES (?, ?, ?)"
_UPSERT_ACTIVE: Final = "INSERT OR REPLACE INTO active_orders VALUES (?, ?)"
_DELETE_ACTIVE: Final = "DELETE FROM active_orders WHERE order_id = ?"
_READ_ACTIVE: Final = (
    "SELECT u.sequence, u.batch_end, u.order_id, u.user_id, u.symbol, u.exec_type, u.timestamp, u.message "
    "FROM active_orders a CROSS JOIN updates u ON u.sequence = a.sequence ORDER BY a.order_id"
)
_SET_CHECKPOINT: Final = "INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?, ?, ?)"
_READ_CHECKPOINT: Final = "SELECT ledger_id, epoch, sequence, hash FROM checkpoint"


class SqliteActiveOrders:
    """ActiveOrdersRepository on the store's writing connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def upsert(self, orders: Iterable[StoredUpdate]) -> None:
        """See ActiveOrdersRepository."""
        self._connection.executemany(_UPSERT_ACTIVE, [(order.order_id, order.sequence) for order in orders])

    def delete(self, orders: Iterable[EndedOrder]) -> None:
        """See ActiveOrdersRepository."""
        self._connection.executemany(_DELETE_ACTIVE, [(order.order_id,) for order in orders])

    def read_all(self) -> Iterator[StoredUpdate]:
        """See ActiveOrdersRepository."""
        with translated_errors():
            yield from map(StoredUpdate._make, self._connection.execute(_READ_ACTIVE))


class SqliteOrderHistory(SqliteReads):
    """OrderHistoryRepository: writes on the store's writing connection, reads in threads of their own."""

    def __init__(self, path: Path, connection: apsw.Connection, readers: int) -> None:
        super().__init__(path, readers)
        self._connection = connection

    def insert(self, chunk: Chunk) -> None:
        """See OrderHistoryRepository."""
        self._connection.executemany(_INSERT_UPDATE, chunk.updates)
        self._connection.executemany(_INSERT_ENDED, [ended[:_ENDED_COLUMNS] for ended in chunk.ended])
        self._connection.executemany(
            _INSERT_CLIENT_ID, [placed[:3] for placed in chunk.placed if placed.client_order_id is not None]
        )


class SqliteHistoryStore:
    """The HistoryStore in ``folder``, which is made where there is none and locked until ``close``.

    ``readers``: how many reads run at once, each in a thread with a connection of its own. Raises StoreRefused where another
    process has the folder or the file is none of ours or newer than the program; StoreUnavailable where it cannot be opened.
    """

    kind: Final = "sqlite"

    def __init__(self, folder: Path, *, readers: int = 4) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(folder, _LOCK_NAME)
        except OSError as error:
            raise StoreUnavailable(f"the folder of the history cannot be used: {error}") from error
        path = folder / FILE_NAME
        try:
            with translated_errors():
                self._connection = _open_for_writing(path)
        except BaseException:
            self._lock.release()
            raise
        self.active_orders: Final = SqliteActiveOrders(self._connection)
        self.order_history: Final = SqliteOrderHistory(path, self._connection, readers)
        self._checkpoint: Checkpoint | None = None

    def checkpoint(self) -> Checkpoint:
        """See HistoryStore."""
        if self._checkpoint is None:
            self._checkpoint = read_checkpoint(self._connection)
        return self._checkpoint

    def apply(self, chunk: Chunk) -> bool:
        """See HistoryStore."""
        if not ensure_next(self.checkpoint(), chunk):
            return False
        reached = Checkpoint(chunk.ledger_id, chunk.epoch, chunk.last_sequence, chunk.hash)
        with self._transaction(chunk):
            self.order_history.insert(chunk)
            self.active_orders.upsert(chunk.open.values())
            self.active_orders.delete(chunk.ended)
            self._connection.execute(_SET_CHECKPOINT, reached)
        self._checkpoint = reached
        return True

    def due_rewrite(self) -> None:
        """See HistoryStore: rows and checkpoint are one transaction, so what is lost is lost with its checkpoint."""

    def rewrite(self, chunk: Chunk) -> None:
        """See HistoryStore: the transaction has them."""

    def settle(self, rewrite: Rewrite) -> None:
        """See HistoryStore."""

    def rows_of(self, chunk: Chunk) -> Iterator[StoredRow]:
        """See HistoryStore."""
        return expected_rows(chunk)

    def stored_rows(self) -> Iterator[StoredRow]:
        """See HistoryStore."""
        with translated_errors():
            yield from found_rows(self._connection)

    def close(self) -> None:
        """See HistoryStore."""
        self.order_history.close()
        self._connection.close()
        self._lock.release()

    @contextmanager
    def _transaction(self, chunk: Chunk) -> Iterator[None]:
        with translated_errors(f"ledger sequences {chunk.first_sequence} to {chunk.last_sequence}: "):
            # After a failure only the file says how far it is: a commit can succeed and still report an error.
            self._checkpoint = None
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")


def read_checkpoint(connection: apsw.Connection) -> Checkpoint:
    """How far the file is. Raises StoreUnavailable, StoreDamaged."""
    with translated_errors():
        rows = connection.execute(_READ_CHECKPOINT).fetchall()
    return Checkpoint._make(rows[0]) if rows else Checkpoint("", 0, 0, b"")


def _open_for_writing(path: Path) -> apsw.Connection:
    connection = connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.wal_autocheckpoint(_CHECKPOINT_PAGES)
    bring_up_to_date(connection)
    return connection
