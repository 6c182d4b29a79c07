"""What a chunk comes to in the tables of a CQL store: a pure function, so that any repeat writes equal rows with equal times.

Every row carries the time of its ledger command, which the server takes as the version of its cells: times rise with the
sequence, so whatever is written again, or in another order, ends in the same rows.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from ordertape.v1 import order_pb2
from services.order_history.order_processor import Chunk, StoredUpdate
from services.order_history.stores import StoredRow

_TRADE: Final = int(order_pb2.EXEC_TYPE_TRADE)

Values: TypeAlias = tuple[Any, ...]


class PartitionSizes(NamedTuple):
    """How many rows a partition holds. On disk for good: another size is another store (tests use small ones)."""

    bucket: int = 20_000
    part: int = 10_000


SIZES: Final = PartitionSizes()


class Table(NamedTuple):
    """A table: its name and columns, those of its partition key first."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]


_UPDATE: Final = ("batch_end", "order_id", "symbol", "exec_type", "timestamp", "message")
_ENDED: Final = ("side", "status", "updated_at", "sequence", "message")
ORDER_UPDATES: Final = Table(
    "order_updates",
    ("order_id", "part"),
    ("order_id", "part", "sequence", "batch_end", "user_id", "symbol", "exec_type", "timestamp", "message"),
)
NEWEST_PARTS: Final = Table("order_updates", ("order_id", "part"), ("order_id", "part", "newest_part"))
USER_UPDATES: Final = Table("user_updates", ("user_id", "bucket"), ("user_id", "bucket", "sequence", *_UPDATE))
FILLS: Final = Table("fills", ("user_id", "bucket"), ("user_id", "bucket", "sequence", *_UPDATE))
ORDER_HISTORY: Final = Table(
    "order_history", ("user_id", "bucket"), ("user_id", "bucket", "created_at", "order_id", "symbol", *_ENDED)
)
ORDER_HISTORY_BY_SYMBOL: Final = Table(
    "order_history_by_symbol",
    ("user_id", "symbol", "bucket"),
    ("user_id", "symbol", "bucket", "created_at", "order_id", *_ENDED),
)
BUCKETS: Final = Table(
    "buckets", ("user_id", "kind", "symbol"), ("user_id", "kind", "symbol", "bucket", "first_sequence", "first_time")
)
SYMBOL_BUCKETS: Final = Table("buckets", ("user_id", "kind", "symbol"), ("user_id", "kind", "symbol", "bucket"))
ORDERS_BY_CLIENT_ID: Final = Table(
    "orders_by_client_id", ("user_id", "client_order_id"), ("user_id", "client_order_id", "order_id")
)
ACTIVE_ORDERS: Final = Table("active_orders", ("user_id",), ("user_id", "order_id", "sequence", "batch_end", *_UPDATE[2:]))

ORDERS, UPDATES, SYMBOL = "ORDERS", "UPDATES", "SYMBOL"

WRITTEN: Final = (
    ORDER_UPDATES, NEWEST_PARTS, USER_UPDATES, FILLS, ORDER_HISTORY, ORDER_HISTORY_BY_SYMBOL, BUCKETS, SYMBOL_BUCKETS,
    ORDERS_BY_CLIENT_ID, ACTIVE_ORDERS,
)  # fmt: skip
"""Every way in which rows are written: an INSERT each."""


class Group(NamedTuple):
    """Rows of one partition, each with its time as the last value, as the INSERT of its table takes them."""

    table: Table
    rows: list[Values]


def groups_of(chunk: Chunk, sizes: PartitionSizes) -> list[Group]:
    """The rows that the chunk leaves for good, by partition."""
    found: defaultdict[tuple[Table, Values], list[Values]] = defaultdict(list)
    for table, values in _rows(chunk, sizes):
        found[table, values[: len(table.key)]].append(values)
    return [Group(table, rows) for (table, _), rows in found.items()]


def active_rows(orders: Iterable[StoredUpdate]) -> Iterator[Values]:
    """The rows of active_orders, each with its time as the last value."""
    for u in orders:
        yield u.user_id, u.order_id, u.sequence, u.batch_end, u.symbol, u.exec_type, u.timestamp, u.data, u.timestamp


def stored_row(table: Table, values: Values) -> StoredRow:
    """A row for a check; ``values`` in the order of the table's columns, what comes after them does not count."""
    named = dict(zip(table.columns, values, strict=False))
    place = named.get("sequence") or named.get("first_sequence") or named.get("order_id" if "client_order_id" in named else "", 0)
    return StoredRow(table.name, named.get("user_id", ""), place, repr(tuple(named.values())))


def _rows(chunk: Chunk, sizes: PartitionSizes) -> Iterator[tuple[Table, Values]]:
    for u, numbers in zip(chunk.updates, chunk.numbers, strict=True):
        part, place = divmod(numbers.of_order - 1, sizes.part)
        time = u.timestamp
        yield (
            ORDER_UPDATES,
            (u.order_id, part, u.sequence, u.batch_end, u.user_id, u.symbol, u.exec_type, time, u.data, time),
        )
        if part and not place:
            yield NEWEST_PARTS, (u.order_id, 0, part, time)
        bucket, place = divmod(numbers.of_user - 1, sizes.bucket)
        values = (u.user_id, bucket, u.sequence, u.batch_end, u.order_id, u.symbol, u.exec_type, time, u.data, time)
        yield USER_UPDATES, values
        if u.exec_type == _TRADE:
            yield FILLS, values
        if not place:
            yield BUCKETS, (u.user_id, UPDATES, "", bucket, u.sequence, time, time)
    symbols: dict[Values, int] = {}
    for p in chunk.placed:
        bucket, place = divmod(p.order_number - 1, sizes.bucket)
        if not place:
            yield BUCKETS, (p.user_id, ORDERS, "", bucket, p.sequence, p.created_at, p.created_at)
        symbols[p.user_id, SYMBOL, p.symbol, bucket] = p.created_at
        if p.client_order_id is not None:
            yield ORDERS_BY_CLIENT_ID, (p.user_id, p.client_order_id, p.order_id, p.created_at)
    for key, time in symbols.items():
        yield SYMBOL_BUCKETS, (*key, time)
    for e in chunk.ended:
        bucket = (e.order_number - 1) // sizes.bucket
        rest = (e.side, e.status, e.updated_at, e.sequence, e.data, e.updated_at)
        yield ORDER_HISTORY, (e.user_id, bucket, e.created_at, e.order_id, e.symbol, *rest)
        yield ORDER_HISTORY_BY_SYMBOL, (e.user_id, e.symbol, bucket, e.created_at, e.order_id, *rest)
