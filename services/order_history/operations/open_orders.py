"""Compares a store's open orders with the ledger's. A history may be at work: the table is then as it was at no one place of the
ledger, so what differs must be explained by what the ledger says after the checkpoint.
"""

from collections.abc import Iterable

from services.order_history.operations.differences import Difference, readable_update
from services.order_history.order_processor import Chunk, StoredUpdate

_TABLE = "active_orders"


class OpenOrdersCheck:
    """``stored``: the store's open orders, read after its checkpoint."""

    def __init__(self, stored: Iterable[StoredUpdate]) -> None:
        self._stored = {update.order_id: update for update in stored}
        self._missing: dict[int, StoredUpdate] = {}
        self._later: dict[int, StoredUpdate] = {}
        self._wrong: list[Difference] = []
        self.expected = 0

    @property
    def found(self) -> int:
        """How many open orders the store has."""
        return len(self._stored)

    def at_checkpoint(self, checkpoint_sequence: int, ledger: dict[int, StoredUpdate]) -> None:
        """Compare with what is open at the checkpoint."""
        self.expected = len(ledger)
        for order_id in sorted(self._stored.keys() | ledger.keys()):
            has, says = self._stored.get(order_id), ledger.get(order_id)
            if has == says:
                continue
            if has is not None and has.sequence > checkpoint_sequence:
                self._later[order_id] = has
            elif has is None and says is not None:
                self._missing[order_id] = says
            else:
                self._wrong.append(_difference(says, has))

    def after_checkpoint(self, chunk: Chunk) -> None:
        """What the ledger says next: an order that ends may be gone already, one that changes may have changed."""
        for order_id in chunk.closed:
            self._missing.pop(order_id, None)
        if self._later:
            for update in chunk.updates:
                if self._later.get(update.order_id) == update:
                    del self._later[update.order_id]

    def differences(self) -> list[Difference]:
        """What the ledger does not explain, by sequence."""
        left = [_difference(says, None) for says in self._missing.values()]
        left += [_difference(None, has) for has in self._later.values()]
        return sorted(self._wrong + left, key=lambda difference: difference.place)


def _difference(says: StoredUpdate | None, has: StoredUpdate | None) -> Difference:
    one = says or has
    assert one is not None
    return Difference(_TABLE, one.user_id, one.sequence, readable_update(says), readable_update(has))
