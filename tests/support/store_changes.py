"""Changes a history's rows behind its back: one deleted, changed or added in each table."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import apsw

from services.order_history.stores.cql_session import CqlSession
from services.order_history.stores.cql_settings import parse_cql_address
from tests.support.ledger_builder import LedgerBuilder
from tests.support.operation import StoreAt

CHANGES = ("deleted", "changed", "added")
SQLITE_TABLES = ("updates", "order_history", "orders_by_client_id")
CQL_TABLES = (
    "buckets", "fills", "order_history", "order_history_by_symbol", "order_updates", "orders_by_client_id", "user_updates",
)  # fmt: skip
_KINDS = {"deleted": {"missing"}, "changed": {"differs", "missing", "extra"}, "added": {"extra"}}
# Of each table: which column is changed and to what, and which one of its key makes another row, and how.
_CHANGED: Mapping[str, tuple[str, Any]] = {
    "updates": ("symbol", "LTC-USD"),
    "order_history": ("status", 6),
    "order_history_by_symbol": ("status", 6),
    "orders_by_client_id": ("order_id", 2),
    "buckets": ("first_time", 7),
    "fills": ("exec_type", 7),
    "order_updates": ("message", b"\xff"),
    "user_updates": ("batch_end", 7),
}
_ADDED: Mapping[str, tuple[str, Any]] = {
    "updates": ("sequence", 2),
    "order_history": ("created_at", 7),
    "order_history_by_symbol": ("created_at", 7),
    "orders_by_client_id": ("client_order_id", "another"),
    "buckets": ("bucket", 7),
    "fills": ("sequence", 2),
    "order_updates": ("sequence", 2),
    "user_updates": ("sequence", 2),
}


class Changed(NamedTuple):
    """Which row it was: whose, its place (0 where a test cannot tell), and what it can be called."""

    user_id: str
    place: int
    kinds: set[str]


def change_row(store: StoreAt, table: str, how: str, quantile: float = 0.5) -> Changed:
    """Do it to the row that is so far down the table."""
    change = _change_sqlite if store.is_sqlite else _change_cql
    row = change(store, table, how, quantile)
    place = row.get("sequence") or row.get("first_sequence") or 0
    return Changed(row["user_id"], place, _KINDS[how])


def _change_sqlite(store: StoreAt, table: str, how: str, quantile: float) -> dict[str, Any]:
    connection = apsw.Connection(str(store.folder / "history.db"))
    try:
        cursor = connection.execute(f"SELECT * FROM {table}")
        names = [name for name, *_ in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
        row = _of(rows, quantile, how, table)
        condition = " AND ".join(f"{name} IS ?" for name in names)
        if how != "added":
            connection.execute(f"DELETE FROM {table} WHERE {condition}", tuple(row.values()))
        if how != "deleted":
            column, value = (_CHANGED if how == "changed" else _ADDED)[table]
            row[column] = value
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
        return row
    finally:
        connection.close()


def _change_cql(store: StoreAt, table: str, how: str, quantile: float) -> dict[str, Any]:
    settings = parse_cql_address(store.address)
    session = CqlSession(settings)
    try:
        session.use_keyspace()
        columns = {
            name: kind
            for name, kind in session.execute(
                "SELECT column_name, kind FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s",
                (settings.keyspace, table),
            )
            if kind != "static"
        }
        rows = [
            dict(zip(columns, values, strict=True)) for values in session.execute(f"SELECT {', '.join(columns)} FROM {table}")
        ]
        row = _of([row for row in rows if row.get("kind") != "SYMBOL"], quantile, how, table)
        if how == "deleted":
            key = [name for name, kind in columns.items() if kind != "regular"]
            condition = " AND ".join(f"{name} = %s" for name in key)
            session.execute(f"DELETE FROM {table} WHERE {condition}", [row[name] for name in key])
            return row
        column, value = (_CHANGED if how == "changed" else _ADDED)[table]
        row[column] = value
        places = ", ".join(["%s"] * len(row))
        session.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", list(row.values()))
        return row
    finally:
        session.close()


def _of(rows: list[dict[str, Any]], quantile: float, how: str, table: str) -> dict[str, Any]:
    column, value = _CHANGED[table]
    rows = sorted((row for row in rows if row[column] != value), key=str)
    rows.sort(key=lambda row: row.get("sequence", 0))
    return rows[int(len(rows) * quantile)]


def change_active_order(store: StoreAt, ledger: LedgerBuilder, how: str) -> tuple[str, int]:
    """Delete, add or change a row of the open orders: whose, and its sequence as it must be named."""
    order = ledger.open_orders()[3]
    first = next(u for u in ledger.updates if u.order_id != order.order_id and u.status == 1 and u not in ledger.open_orders())
    if how == "added":
        order = first
    sequence = order.sequence
    if store.is_sqlite:
        connection = apsw.Connection(str(store.folder / "history.db"))
        if how == "deleted":
            connection.execute("DELETE FROM active_orders WHERE order_id = ?", (order.order_id,))
        elif how == "added":
            connection.execute("INSERT INTO active_orders VALUES (?, ?)", (order.order_id, order.sequence))
        else:
            connection.execute("UPDATE updates SET symbol = 'LTC-USD' WHERE sequence = ?", (order.sequence,))
        connection.close()
        return order.user_id, sequence
    session = CqlSession(parse_cql_address(store.address))
    session.use_keyspace()
    key = (order.user_id, order.order_id)
    if how == "deleted":
        session.execute("DELETE FROM active_orders WHERE user_id = %s AND order_id = %s", key)
    elif how == "added":
        # An ended order's row is passed over: one may come back after its delete was forgotten.
        at = order.sequence
        values = (order.user_id, 10**6, at, at, order.symbol, order.exec_type, 7, order.SerializeToString())
        session.execute(
            "INSERT INTO active_orders (user_id, order_id, sequence, batch_end, symbol, exec_type, timestamp, message) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            values,
        )
    else:
        session.execute("UPDATE active_orders SET symbol = 'LTC-USD' WHERE user_id = %s AND order_id = %s", key)
    session.close()
    return order.user_id, sequence
