"""Looks into a history's SQLite file, also while its history is at work in it: takes no lock, makes and changes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from services.order_history.order_processor import Chunk
from services.order_history.stores import Checkpoint, StoredRow, StoreRefused
from services.order_history.stores.sqlite import FILE_NAME, SqliteActiveOrders, read_checkpoint
from services.order_history.stores.sqlite_connection import connect, translated_errors
from services.order_history.stores.sqlite_rows import expected_rows, found_rows
from services.order_history.stores.sqlite_schema import check_version


class SqliteInspection:
    """ReadableStore on the file in ``folder``. Raises StoreRefused where there is none or its schema is another one,
    StoreUnavailable, StoreDamaged.
    """

    kind: Final = "sqlite"

    def __init__(self, folder: Path) -> None:
        path = folder / FILE_NAME
        if not path.is_file():
            raise StoreRefused(f"there is no {FILE_NAME} in {folder}")
        with translated_errors():
            self._connection = connect(path)
            try:
                self._connection.execute("PRAGMA query_only = ON")
                check_version(self._connection)
            except BaseException:
                self._connection.close()
                raise
        self.active_orders: Final = SqliteActiveOrders(self._connection)

    def checkpoint(self) -> Checkpoint:
        """See HistoryStore."""
        return read_checkpoint(self._connection)

    def due_rewrite(self) -> None:
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
        self._connection.close()
