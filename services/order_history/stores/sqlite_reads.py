"""The questions to the history in SQLite. Each names the index that answers it, so that a page costs the same however many
orders its user has and however deep in the list it is.
"""

import asyncio
import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from ordertape.v1 import order_pb2
from services.order_history.order_processor import StoredUpdate
from services.order_history.stores import (
    SCANNED_ORDERS_MAX,
    FillFilter,
    FillPage,
    OrderFilter,
    OrderKey,
    OrderPage,
    PointInTime,
    StoreUnavailable,
    UpdatePlace,
)
from services.order_history.stores.sqlite_connection import connect, translated_errors

T = TypeVar("T")
Value = int | str
Row = tuple[Any, ...]
_SEQUENCE_MAX: Final = 2**63 - 1
_KEY_MAX: Final = (_SEQUENCE_MAX, 0)
_KEY_MIN: Final = (-_SEQUENCE_MAX, 0)
_TRADE: Final = int(order_pb2.EXEC_TYPE_TRADE)

_UPDATE: Final = "sequence, batch_end, order_id, user_id, symbol, exec_type, timestamp, message"
_OF_ORDER: Final = "FROM updates INDEXED BY updates_by_order WHERE order_id = ?"
_OF_USER: Final = "FROM updates INDEXED BY updates_by_user WHERE user_id = ?"
_FILLS_OF_USER: Final = f"FROM updates INDEXED BY fills_by_user WHERE exec_type = {_TRADE} AND user_id = ?"
_LATEST: Final = f"SELECT {_UPDATE} {_OF_ORDER} AND sequence <= ? ORDER BY sequence DESC LIMIT 1"
_ORDER_UPDATES: Final = f"SELECT {_UPDATE} {_OF_ORDER} AND sequence > ? ORDER BY sequence LIMIT ?"
_USER_UPDATES: Final = f"SELECT {_UPDATE} {_OF_USER} AND sequence > ? ORDER BY sequence LIMIT ?"
_USER_NEWEST: Final = f"SELECT sequence, batch_end, timestamp {_OF_USER} AND sequence <= ? ORDER BY sequence DESC LIMIT 1"
_USER_NEXT: Final = f"SELECT batch_end {_OF_USER} AND sequence > ? ORDER BY sequence LIMIT 1"
_USER_BATCH_BEFORE: Final = f"SELECT batch_end {_OF_USER} AND sequence < ? AND batch_end < ? ORDER BY sequence DESC LIMIT 1"
_FROM_KEY: Final = "(h.created_at, h.order_id) >= (?, ?)"
_ORDER_ID: Final = "SELECT order_id FROM orders_by_client_id WHERE user_id = ? AND client_order_id = ?"


class SqliteReads:
    """The reading half of OrderHistoryRepository, in at most ``readers`` threads with a connection each."""

    def __init__(self, path: Path, readers: int) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="history-read")
        self._of_thread = threading.local()
        self._connections: list[apsw.Connection] = []

    async def find_order_id(self, user_id: str, client_order_id: str) -> int | None:
        """See OrderHistoryRepository."""
        rows = await self._rows(_ORDER_ID, (user_id, client_order_id))
        return rows[0][0] if rows else None

    async def latest_update(self, order_id: int, until_sequence: int | None = None) -> StoredUpdate | None:
        """See OrderHistoryRepository."""
        until = _SEQUENCE_MAX if until_sequence is None else until_sequence
        rows = await self._rows(_LATEST, (order_id, until))
        return StoredUpdate._make(rows[0]) if rows else None

    async def order_updates(self, order_id: int, after: UpdatePlace, limit: int) -> list[StoredUpdate]:
        """See OrderHistoryRepository."""
        return _updates(await self._rows(_ORDER_UPDATES, (order_id, after.sequence, limit)))

    async def user_updates(self, user_id: str, after_sequence: int, limit: int) -> list[StoredUpdate]:
        """See OrderHistoryRepository."""
        return _updates(await self._rows(_USER_UPDATES, (user_id, after_sequence, limit)))

    async def ended_orders(self, user_id: str, wanted: OrderFilter, before: OrderKey | None, limit: int) -> OrderPage:
        """See OrderHistoryRepository."""
        return await self._read(lambda connection: _ended_orders(connection, user_id, wanted, before, limit))

    async def fills(self, user_id: str, wanted: FillFilter, before_sequence: int | None, limit: int) -> FillPage:
        """See OrderHistoryRepository."""
        return await self._read(lambda connection: _fills(connection, user_id, wanted, before_sequence, limit))

    async def point_in_time(self, user_id: str, time: int) -> PointInTime:
        """See OrderHistoryRepository."""
        return await self._read(lambda connection: _point_in_time(connection, user_id, time))

    def close(self) -> None:
        """Wait for the reads that run, drop those that wait, close the connections."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for connection in self._connections:
            connection.close()

    async def _rows(self, sql: str, values: tuple[Value, ...]) -> list[Row]:
        return await self._read(lambda connection: connection.execute(sql, values).fetchall())

    async def _read(self, question: Callable[[apsw.Connection], T]) -> T:
        try:
            answer = asyncio.get_running_loop().run_in_executor(self._threads, self._answer, question)
        except RuntimeError as error:  # the pool takes nothing more
            raise StoreUnavailable("the store is closed") from error
        return await answer

    def _answer(self, question: Callable[[apsw.Connection], T]) -> T:
        with translated_errors():
            connection: apsw.Connection | None = getattr(self._of_thread, "connection", None)
            if connection is None:
                connection = connect(self._path)
                connection.execute("PRAGMA query_only = ON")
                self._of_thread.connection = connection
                self._connections.append(connection)
            return question(connection)


class _Conditions:
    """A WHERE clause that grows, with its values."""

    def __init__(self, sql: str, *values: Value) -> None:
        self.sql = sql
        self.values = list(values)

    def add(self, sql: str, *values: Value) -> None:
        self.sql += f" AND {sql}"
        self.values += values

    def add_choice(self, column: str, choices: Collection[Value]) -> None:
        """One of the choices; none of them leaves the column free."""
        if choices:
            self.add(f"{column} IN ({', '.join('?' * len(choices))})", *choices)


def _ended_orders(
    connection: apsw.Connection, user_id: str, wanted: OrderFilter, before: OrderKey | None, limit: int
) -> OrderPage:
    source = "order_history h"
    where = _Conditions("h.user_id = ?", user_id)
    rest = _Conditions("TRUE")
    if len(wanted.symbols) == 1:
        source += " INDEXED BY order_history_by_symbol"
        where.add("h.symbol = ?", *wanted.symbols)
    else:
        rest.add_choice("h.symbol", wanted.symbols)
    rest.add_choice("h.status", wanted.statuses)
    if wanted.side:
        rest.add("h.side = ?", wanted.side)
    if wanted.updated_from is not None:
        rest.add("h.updated_at >= ?", wanted.updated_from)
    if wanted.updated_until is not None:
        rest.add("h.updated_at < ?", wanted.updated_until)
    newest = min(before or _KEY_MAX, _KEY_MAX if wanted.created_until is None else (wanted.created_until, 0))
    where.add("(h.created_at, h.order_id) < (?, ?)", *newest)
    oldest = _KEY_MIN if wanted.created_from is None else (wanted.created_from, 0)
    order = "ORDER BY h.created_at DESC, h.order_id DESC LIMIT ?"
    looked_to = None
    if rest.values:
        sql = f"SELECT h.created_at, h.order_id FROM {source} WHERE {where.sql} AND {_FROM_KEY} {order} OFFSET ?"  # noqa: S608
        looked_to = _first(connection.execute(sql, (*where.values, *oldest, 1, SCANNED_ORDERS_MAX - 1)))
    sql = f"SELECT h.created_at, h.order_id, u.message FROM {source} CROSS JOIN updates u ON u.sequence = h.sequence"  # noqa: S608
    sql += f" WHERE {where.sql} AND {_FROM_KEY} AND {rest.sql} {order}"
    rows: list[Row] = connection.execute(sql, (*where.values, *(looked_to or oldest), *rest.values, limit)).fetchall()
    found: list[tuple[OrderKey, bytes]] = [((created_at, order_id), message) for created_at, order_id, message in rows]
    return OrderPage(found, found[-1][0] if len(found) == limit else looked_to)


def _fills(connection: apsw.Connection, user_id: str, wanted: FillFilter, before_sequence: int | None, limit: int) -> FillPage:
    newest = _SEQUENCE_MAX if before_sequence is None else before_sequence
    oldest = 0
    if wanted.traded_until is not None:
        newest = min(newest, _point_in_time(connection, user_id, wanted.traded_until - 1).sequence + 1)
    if wanted.traded_from is not None:
        oldest = _point_in_time(connection, user_id, wanted.traded_from - 1).sequence + 1
    source, rest = _FILLS_OF_USER, _Conditions("TRUE")
    key: Value = user_id
    if wanted.order_id is not None:
        source, key = _OF_ORDER, wanted.order_id
        rest.add("user_id = ?", user_id)
        rest.add("exec_type = ?", _TRADE)
    rest.add_choice("symbol", wanted.symbols)
    between = f"{source} AND sequence < ? AND sequence >= ?"
    looked_to = None
    if rest.values:
        sql = f"SELECT sequence {between} ORDER BY sequence DESC LIMIT 1 OFFSET ?"
        bound = _first(connection.execute(sql, (key, newest, oldest, SCANNED_ORDERS_MAX - 1)))
        looked_to = bound[0] if bound else None
    found = _updates(
        connection.execute(
            f"SELECT {_UPDATE} {between} AND {rest.sql} ORDER BY sequence DESC LIMIT ?",
            (key, newest, looked_to or oldest, *rest.values, limit),
        )
    )
    return FillPage(found, found[-1].sequence if len(found) == limit else looked_to)


def _point_in_time(connection: apsw.Connection, user_id: str, time: int) -> PointInTime:
    """Times rise with the sequence, so a time's place is found by halving: nothing up to ``low`` is later than it, all from
    ``high`` on is.
    """
    low, high = 0, _SEQUENCE_MAX
    found = None
    while high - low > 1:
        middle = (low + high) // 2
        row = _first(connection.execute(_USER_NEWEST, (user_id, middle)))
        if row is None or row[2] <= time:
            low, found = middle, row
        else:
            high = row[0]
    if found is None:
        return PointInTime(0, 0)
    sequence, batch_end, _ = found
    following = _first(connection.execute(_USER_NEXT, (user_id, sequence)))
    if following is None or following[0] != batch_end:
        return PointInTime(sequence, batch_end)
    # The time is in the middle of a batch, where no position is.
    previous = _first(connection.execute(_USER_BATCH_BEFORE, (user_id, sequence, batch_end)))
    return PointInTime(sequence, previous[0] if previous else 0)


def _first(rows: Iterable[Row]) -> Row | None:
    return next(iter(rows), None)


def _updates(rows: Iterable[Row]) -> list[StoredUpdate]:
    return [StoredUpdate._make(row) for row in rows]
