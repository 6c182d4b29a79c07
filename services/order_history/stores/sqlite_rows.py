"""The rows of a history in SQLite as a check sees them: those that a chunk must have left, and those that are there."""

from collections.abc import Iterator
from typing import Any, Final

import apsw

from services.order_history.order_processor import Chunk
from services.order_history.stores import StoredRow

_FOUND: Final = {
    "updates": "SELECT user_id, sequence, batch_end, order_id, symbol, exec_type, timestamp, message FROM updates",
    "order_history": "SELECT user_id, sequence, created_at, order_id, symbol, side, status, updated_at FROM order_history",
    "orders_by_client_id": "SELECT user_id, order_id, client_order_id FROM orders_by_client_id",
}


def expected_rows(chunk: Chunk) -> Iterator[StoredRow]:
    """See HistoryStore.rows_of."""
    for u in chunk.updates:
        yield _row("updates", u.user_id, u.sequence, u.batch_end, u.order_id, u.symbol, u.exec_type, u.timestamp, u.data)
    for e in chunk.ended:
        yield _row("order_history", e.user_id, e.sequence, e.created_at, e.order_id, e.symbol, e.side, e.status, e.updated_at)
    for p in chunk.placed:
        if p.client_order_id is not None:
            yield _row("orders_by_client_id", p.user_id, p.order_id, p.client_order_id)


def found_rows(connection: apsw.Connection) -> Iterator[StoredRow]:
    """See HistoryStore.stored_rows."""
    for table, sql in _FOUND.items():
        for user_id, place, *values in connection.execute(sql):
            yield _row(table, user_id, place, *values)


def _row(table: str, user_id: str, place: int, *values: Any) -> StoredRow:
    return StoredRow(table, user_id, place, repr(values))
