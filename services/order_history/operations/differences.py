"""What a comparison of ledger and store found, in words, and the search for the rows behind a digest that differs."""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError

from ordertape.v1 import order_pb2
from services.order_history.operations.digests import Cell
from services.order_history.order_processor import StoredUpdate
from services.order_history.stores import StoredRow


class Difference(NamedTuple):
    """One row. ``place``: its sequence, or its order_id (see digests.py), or 0; ``ledger`` and ``store``: what each has, None for
    no such row.
    """

    table: str
    user_id: str
    place: int
    ledger: str | None
    store: str | None

    @property
    def kind(self) -> str:
        """missing (from the store), extra (the ledger knows nothing of it) or differs."""
        return "missing" if self.store is None else "extra" if self.ledger is None else "differs"


class RowSearch:
    """Finds the rows of one cell that differ: ``expected`` and ``found`` take all rows, in any order, and keep the cell's."""

    def __init__(self, cell: Cell, places_per_cell: int, place_max: int) -> None:
        self._cell = cell
        begin = cell.number * places_per_cell
        self._places = range(max(1, begin), min(begin + places_per_cell, place_max + 1))
        self._expected: Counter[StoredRow] = Counter()
        self._found: Counter[StoredRow] = Counter()

    def expect(self, rows: Iterable[StoredRow]) -> None:
        """What the ledger says."""
        self._expected.update(self._mine(rows))

    def find(self, rows: Iterable[StoredRow]) -> None:
        """What the store has."""
        self._found.update(self._mine(rows))

    def differences(self) -> list[Difference]:
        """The rows that are not on both sides, by place."""
        return paired(self._expected - self._found, self._found - self._expected)

    def _mine(self, rows: Iterable[StoredRow]) -> Iterator[StoredRow]:
        table, user_id, _ = self._cell
        return (row for row in rows if row.place in self._places and row.table == table and row.user_id == user_id)


def paired(missing: Iterable[StoredRow], extra: Iterable[StoredRow]) -> list[Difference]:
    """Rows of one side alone as differences, by place: two of the same place are one row that differs."""
    others: dict[tuple[str, str, int], list[StoredRow]] = {}
    for row in extra:
        others.setdefault(row[:3], []).append(row)
    found = []
    for row in missing:
        other = others[row[:3]].pop() if row.place and others.get(row[:3]) else None
        found.append(Difference(*row[:3], readable(row.content), None if other is None else readable(other.content)))
    found += [Difference(*row[:3], None, readable(row.content)) for rows in others.values() for row in rows]
    return sorted(found, key=lambda difference: (difference.place, difference.table, difference.user_id))


def readable(content: str) -> str:
    """A row's content with its order update written out."""
    values = ast.literal_eval(content)
    return ", ".join(_message(value) if isinstance(value, bytes) else str(value) for value in values)


def readable_update(update: StoredUpdate | None) -> str | None:
    """An update with its columns, written out."""
    return None if update is None else ", ".join(_message(value) if isinstance(value, bytes) else str(value) for value in update)


def _message(data: bytes) -> str:
    try:
        return MessageToJson(order_pb2.OrderUpdate.FromString(data), indent=None)
    except (DecodeError, ValueError):
        return f"0x{data.hex()}"
