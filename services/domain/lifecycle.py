"""The life of an order as a table of data: the only place where a status is chosen.

An event that the table does not name for a status is impossible: the engine's code refuses it loudly, and a reader of the
ledger that meets one has a damaged or forged ledger in its hands. FIX 4.4 / 5.0 SP2 Appendix D is the field's own version.
"""

from enum import IntEnum
from typing import Final

from services.domain.errors import ImpossibleTransition
from services.domain.kinds import ExecType, OrderStatus


class OrderEvent(IntEnum):
    """What can happen to an order, as far as its status is concerned."""

    ACCEPT = 1
    REJECT = 2
    TRADE_IN_PART = 3
    TRADE_IN_FULL = 4
    CANCEL = 5
    EXPIRE = 6
    REPLACE = 7
    REPLACE_TO_FILLED = 8
    TRIGGER = 9

    @property
    def label(self) -> str:
        """The event in words, as the documentation has it."""
        return _LABELS[self]


_LABELS: Final[dict[OrderEvent, str]] = {
    OrderEvent.ACCEPT: "Accept",
    OrderEvent.REJECT: "Reject",
    OrderEvent.TRADE_IN_PART: "Trade, leaves > 0",
    OrderEvent.TRADE_IN_FULL: "Trade, leaves = 0",
    OrderEvent.CANCEL: "Cancel",
    OrderEvent.EXPIRE: "Expire",
    OrderEvent.REPLACE: "Replace, qty > filled",
    OrderEvent.REPLACE_TO_FILLED: "Replace, qty <= filled",
    OrderEvent.TRIGGER: "Trigger",
}

EXEC_TYPES: Final[dict[OrderEvent, ExecType]] = {
    OrderEvent.ACCEPT: ExecType.NEW,
    OrderEvent.REJECT: ExecType.REJECTED,
    OrderEvent.TRADE_IN_PART: ExecType.TRADE,
    OrderEvent.TRADE_IN_FULL: ExecType.TRADE,
    OrderEvent.CANCEL: ExecType.CANCELLED,
    OrderEvent.EXPIRE: ExecType.EXPIRED,
    OrderEvent.REPLACE: ExecType.REPLACED,
    OrderEvent.REPLACE_TO_FILLED: ExecType.REPLACED,
    OrderEvent.TRIGGER: ExecType.TRIGGERED,
}

TRANSITIONS: Final[dict[tuple[OrderStatus | None, OrderEvent], OrderStatus]] = {
    (None, OrderEvent.ACCEPT): OrderStatus.NEW,
    (None, OrderEvent.REJECT): OrderStatus.REJECTED,
    (OrderStatus.NEW, OrderEvent.TRADE_IN_PART): OrderStatus.PARTIALLY_FILLED,
    (OrderStatus.NEW, OrderEvent.TRADE_IN_FULL): OrderStatus.FILLED,
    (OrderStatus.NEW, OrderEvent.CANCEL): OrderStatus.CANCELLED,
    (OrderStatus.NEW, OrderEvent.EXPIRE): OrderStatus.EXPIRED,
    (OrderStatus.NEW, OrderEvent.REPLACE): OrderStatus.NEW,
    (OrderStatus.NEW, OrderEvent.TRIGGER): OrderStatus.NEW,
    (OrderStatus.PARTIALLY_FILLED, OrderEvent.TRADE_IN_PART): OrderStatus.PARTIALLY_FILLED,
    (OrderStatus.PARTIALLY_FILLED, OrderEvent.TRADE_IN_FULL): OrderStatus.FILLED,
    (OrderStatus.PARTIALLY_FILLED, OrderEvent.CANCEL): OrderStatus.CANCELLED,
    (OrderStatus.PARTIALLY_FILLED, OrderEvent.EXPIRE): OrderStatus.EXPIRED,
    (OrderStatus.PARTIALLY_FILLED, OrderEvent.REPLACE): OrderStatus.PARTIALLY_FILLED,
    (OrderStatus.PARTIALLY_FILLED, OrderEvent.REPLACE_TO_FILLED): OrderStatus.FILLED,
}

OPEN_STATUSES: Final = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})

_ALLOWED: Final[frozenset[tuple[int | None, int, int]]] = frozenset(
    (None if before is None else int(before), int(EXEC_TYPES[event]), int(after))
    for (before, event), after in TRANSITIONS.items()
)


def next_status(status: OrderStatus | None, event: OrderEvent) -> OrderStatus:
    """The status after ``event``; ``None`` is the order that does not exist yet. Raises ImpossibleTransition."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        name = "no order" if status is None else status.name
        raise ImpossibleTransition(f"{event.label} cannot happen to an order that is {name}") from None


def allows(previous_status: int | None, exec_type: int, status: int) -> bool:
    """Whether the table has a transition that reads like this in an OrderUpdate (numbers of the contract's enums)."""
    return (previous_status, exec_type, status) in _ALLOWED
