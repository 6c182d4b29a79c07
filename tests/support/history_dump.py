"""Prints a history's tables as text, so that two of them can be compared line by line: whole, for stores that followed the same
ledger, or without what differs between two runs of the same orders.
"""

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
from google.protobuf.json_format import MessageToDict

from ordertape.v1 import order_pb2
from services.order_history.stores.sqlite import FILE_NAME

_ORDER = {
    "checkpoint": "id",
    "updates": "sequence",
    "active_orders": "order_id",
    "order_history": "user_id, created_at, order_id",
    "orders_by_client_id": "user_id, client_order_id",
}
_SEQUENCES = ("sequence", "batch_end", "queueSequence")
_OF_THE_RUN = ("timestamp", "created_at", "updated_at", "createdAt", "triggeredAt", "ledger_id", "epoch", "hash")


def dump(folder: Path) -> list[str]:
    """Every row of every table in ``folder``, byte for byte."""
    return [f"{table} {values}" for table, values in _rows(folder)]


def dump_of_any_run(folder: Path) -> list[str]:
    """As ``dump``, messages written out, without times, epochs, hashes and the checkpoint; a sequence is replaced by how many
    updates are not later than it, so that their order still counts.
    """
    lines, sequences = [], [values["sequence"] for table, values in _rows(folder) if table == "updates"]
    for table, values in _rows(folder):
        if table == "checkpoint":
            continue
        message = order_pb2.OrderUpdate.FromString(values.pop("message", b""))
        kept = {name: value for name, value in (values | MessageToDict(message)).items() if name not in _OF_THE_RUN}
        for name in _SEQUENCES:
            if name in kept:
                kept[name] = bisect_right(sequences, int(kept[name]))
        lines.append(f"{table} {kept}")
    return lines


def _rows(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    connection = apsw.Connection(str(folder / FILE_NAME))
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert tables == {*_ORDER, "schema_version"}, "a table that dumps do not know"
        for table, order in _ORDER.items():
            cursor = connection.execute(f"SELECT * FROM {table} ORDER BY {order}")
            for row in cursor:
                yield table, {name: value for (name, *_), value in zip(cursor.description, row, strict=True)}
    finally:
        connection.close()
