"""Very many rows as a few numbers: one digest for each table, user and range of places, which does not depend on the order in
which the rows come. Two sides that have the same rows have the same digests; where they differ the cell says where to look.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple

from services.order_history.stores import StoredRow

_DIGEST_BYTES: Final = 16
_MODULUS: Final = 1 << (8 * _DIGEST_BYTES)
PLACED_BY_ORDER_ID: Final = frozenset({"orders_by_client_id"})
"""Tables whose rows have their order_id as their place; those of all others have a sequence, or 0."""


class Cell(NamedTuple):
    """The rows of ``table`` and ``user_id`` whose places, divided by the size of a range, give ``number``."""

    table: str
    user_id: str
    number: int


class RowDigests:
    """Digests of rows in ranges of ``places_per_cell``. Rows without a place, of which there are few, are kept as they are."""

    def __init__(self, places_per_cell: int) -> None:
        self._places_per_cell = places_per_cell
        self._cells: dict[tuple[str, str, int], list[int]] = {}
        self.placeless: set[StoredRow] = set()

    def add(self, rows: Iterable[StoredRow]) -> None:
        """Count the rows."""
        size, cells = self._places_per_cell, self._cells
        for row in rows:
            table, user_id, place, content = row
            if not place:
                self.placeless.add(row)
                continue
            digest = int.from_bytes(blake2b(f"{place} {content}".encode(), digest_size=_DIGEST_BYTES).digest(), "little")
            key = table, user_id, place // size
            cell = cells.get(key)
            if cell is None:
                cells[key] = [digest, 1]
            else:
                cell[0] = (cell[0] + digest) % _MODULUS
                cell[1] += 1

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        found: dict[str, int] = {}
        for (table, _, _), (_, count) in self._cells.items():
            found[table] = found.get(table, 0) + count
        for row in self.placeless:
            found[row.table] = found.get(row.table, 0) + 1
        return found

    def users(self) -> set[str]:
        """Whose rows there are."""
        return {user_id for _, user_id, _ in self._cells} | {row.user_id for row in self.placeless if row.user_id}

    def differing(self, other: "RowDigests") -> list[Cell]:
        """The cells that are not equal on both sides."""
        mine, theirs = self._cells, other._cells
        return [Cell._make(key) for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)]
