"""Opens the store that the settings name; a database's driver is loaded only where it is used."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from services.order_history.order_processor import Chunk, StoredUpdate
from services.order_history.stores import Checkpoint, HistoryStore, Rewrite, StoredRow
from services.order_history.user_share import UserShare


class StoreSettings(Protocol):
    """What is needed of the history's settings."""

    @property
    def store(self) -> str:
        """ "sqlite", or a CQL store's address."""
        ...

    @property
    def data_dir(self) -> Path:
        """Where SQLite's file is."""
        ...

    @property
    def store_readers(self) -> int:
        """How many reads of SQLite run at once."""
        ...

    @property
    def share(self) -> UserShare:
        """Whose rows."""
        ...


class ReadableActiveOrders(Protocol):
    """What can be read of ActiveOrdersRepository."""

    def read_all(self) -> Iterator[StoredUpdate]:
        """Every open order, by order_id."""
        ...


class ReadableStore(Protocol):
    """What a check needs of a HistoryStore, and all that it may do: a history may be at work in it."""

    @property
    def kind(self) -> str:
        """See HistoryStore."""
        ...

    @property
    def active_orders(self) -> ReadableActiveOrders:
        """The open orders."""
        ...

    def checkpoint(self) -> Checkpoint:
        """See HistoryStore."""
        ...

    def due_rewrite(self) -> Rewrite | None:
        """See HistoryStore."""
        ...

    def rows_of(self, chunk: Chunk) -> Iterator[StoredRow]:
        """See HistoryStore."""
        ...

    def stored_rows(self) -> Iterator[StoredRow]:
        """See HistoryStore."""
        ...

    def close(self) -> None:
        """See HistoryStore."""
        ...


def open_for_reading(settings: StoreSettings) -> ReadableStore:
    """The store as it is, also while a history is at work in it. Raises as ``open_store``."""
    if settings.store == "sqlite":
        from services.order_history.stores.sqlite_inspection import SqliteInspection

        return SqliteInspection(settings.data_dir)
    return open_store(settings)  # opening a CQL store writes nothing


def open_store(settings: StoreSettings) -> HistoryStore:
    """The store, open. Raises StoreRefused, StoreUnavailable, StoreDamaged where it cannot be."""
    if settings.store == "sqlite":
        from services.order_history.stores.sqlite import SqliteHistoryStore

        return SqliteHistoryStore(settings.data_dir, readers=settings.store_readers)
    from services.order_history.stores.cql import CqlHistoryStore
    from services.order_history.stores.cql_settings import parse_cql_address

    return CqlHistoryStore(parse_cql_address(settings.store), settings.share)
