"""Makes the statements that write rows. Rows of one partition go together in an unlogged batch, a time for each statement: single
rows are several times slower.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from cassandra.query import BatchStatement, BatchType, BoundStatement, PreparedStatement, Statement

from ordertape.v1 import order_pb2
from services.order_history.order_processor import EndedOrder, StoredUpdate
from services.order_history.stores.cql_rows import ACTIVE_ORDERS, WRITTEN, Group, Table, Values, active_rows
from services.order_history.stores.cql_session import CqlSession

_BATCH_ROWS_MAX: Final = 50
_BATCH_BYTES_MAX: Final = 64 * 1024
_REJECTED: Final = int(order_pb2.ORDER_STATUS_REJECTED)
# As the protocol says it (native_protocol_v4.spec, 6), for the types that our columns have.
_PACKS: Final[dict[str, Callable[[Any], bytes]]] = {
    "bigint": struct.Struct(">q").pack,
    "int": struct.Struct(">i").pack,
    "varchar": str.encode,
    "blob": bytes.__bytes__,
}


class CqlWrites:
    """The prepared writes of one session: all that is ever written to the tables of orders. Each says USING TIMESTAMP."""

    def __init__(self, session: CqlSession) -> None:
        self._inserts = {table: _Write(session.prepare(_insert(table))) for table in WRITTEN}
        delete = "DELETE FROM active_orders USING TIMESTAMP ? WHERE user_id = ? AND order_id = ?"
        self._delete = _Write(session.prepare(delete))

    def inserts(self, groups: Iterable[Group]) -> Iterator[Statement]:
        """Every row written whole."""
        for table, rows in groups:
            insert = self._inserts[table]
            yield from _batches(insert.bind(row) for row in rows)

    def upserts(self, orders: Iterable[StoredUpdate]) -> Iterator[Statement]:
        """The newest update of open orders."""
        by_user: dict[str, list[Values]] = {}
        for row in active_rows(orders):
            by_user.setdefault(row[0], []).append(row)
        return self.inserts(Group(ACTIVE_ORDERS, rows) for rows in by_user.values())

    def deletes(self, orders: Iterable[EndedOrder]) -> Iterator[Statement]:
        """The end of open orders. A rejected one never was open."""
        return self._deletes((e.updated_at, e.user_id, e.order_id) for e in orders if e.status != _REJECTED)

    def deletes_of_returned(self, orders: Iterable[StoredUpdate]) -> Iterator[Statement]:
        """Once more the end of open orders of which a row came back from the dead."""
        return self._deletes((o.timestamp, o.user_id, o.order_id) for o in orders)

    def _deletes(self, keys: Iterable[tuple[int, str, int]]) -> Iterator[Statement]:
        by_user: dict[str, list[BoundStatement]] = {}
        for key in keys:
            by_user.setdefault(key[1], []).append(self._delete.bind(key))
        for bound in by_user.values():
            yield from _batches(bound)


class _Write:
    """A prepared write that takes whole rows. The driver's own ``bind`` finds out for every row anew how to pack each value and
    whether it is there at all: that was most of what it took to make a statement.
    """

    def __init__(self, prepared: PreparedStatement) -> None:
        self._prepared = prepared
        self._packs = [_PACKS[column.type.typename] for column in prepared.column_metadata]

    def bind(self, row: Values) -> BoundStatement:
        """The write of a row; a value that is not there, or of another type than its column, raises."""
        bound = BoundStatement(self._prepared)
        bound.values = [pack(value) for pack, value in zip(self._packs, row, strict=True)]
        return bound


def _insert(table: Table) -> str:
    places = ", ".join("?" * len(table.columns))
    return f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({places}) USING TIMESTAMP ?"


def _batches(statements: Iterable[BoundStatement]) -> Iterator[Statement]:
    """Statements of one partition in as few requests as may be; one alone needs no batch."""
    gathered: list[BoundStatement] = []
    size = 0
    for statement in statements:
        cost = sum(map(len, statement.values))
        if gathered and (len(gathered) == _BATCH_ROWS_MAX or size + cost > _BATCH_BYTES_MAX):
            yield _together(gathered)
            gathered, size = [], 0
        gathered.append(statement)
        size += cost
    if gathered:
        yield _together(gathered)


def _together(statements: list[BoundStatement]) -> Statement:
    if len(statements) == 1:
        return statements[0]
    batch = BatchStatement(BatchType.UNLOGGED)
    batch.is_idempotent = True
    batch.add_all(statements, [None] * len(statements))
    return batch
