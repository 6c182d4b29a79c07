"""What the history's lists must say, found the slow and plain way from all updates: tests compare pages with it."""

from collections.abc import Iterable, Sequence

from ordertape.v1 import order_pb2
from services.order_history.stores import FillFilter, OrderFilter

OPEN = (order_pb2.ORDER_STATUS_NEW, order_pb2.ORDER_STATUS_PARTIALLY_FILLED)


def newest(updates: Iterable[order_pb2.OrderUpdate]) -> dict[int, order_pb2.OrderUpdate]:
    """Each order as it stands after the updates."""
    return {update.order_id: update for update in updates}


def orders_of(updates: Sequence[order_pb2.OrderUpdate], user_id: str, wanted: OrderFilter) -> list[order_pb2.OrderUpdate]:
    """The user's orders that pass the filter, newest first."""
    orders = [o for o in newest(updates).values() if o.user_id == user_id and _is_wanted(o, wanted)]
    return sorted(orders, key=lambda o: (o.created_at.ToMicroseconds(), o.order_id), reverse=True)


def fills_of(updates: Sequence[order_pb2.OrderUpdate], user_id: str, wanted: FillFilter) -> list[order_pb2.OrderUpdate]:
    """The user's fills that pass the filter, newest first."""
    return [
        update
        for update in reversed(updates)
        if update.user_id == user_id
        and update.HasField("fill")
        and (not wanted.symbols or update.symbol in wanted.symbols)
        and wanted.order_id in (None, update.order_id)
        and _is_between(update.timestamp.ToMicroseconds(), wanted.traded_from, wanted.traded_until)
    ]


def _is_wanted(order: order_pb2.OrderUpdate, wanted: OrderFilter) -> bool:
    return (
        (not wanted.symbols or order.symbol in wanted.symbols)
        and (not wanted.statuses or order.status in wanted.statuses)
        and wanted.side in (0, order.side)
        and _is_between(order.created_at.ToMicroseconds(), wanted.created_from, wanted.created_until)
        and _is_between(order.timestamp.ToMicroseconds(), wanted.updated_from, wanted.updated_until)
    )


def _is_between(time: int, begin: int | None, until: int | None) -> bool:
    return (begin is None or time >= begin) and (until is None or time < until)
