"""One instrument's book: open orders by price, then by the order in which they took their place.

Prices stand in a sorted list with the best one last, so that the book's busy end is the cheap one; the orders of a price in an
OrderedDict, which removes from the front and the middle in constant time.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from services.domain.kinds import Side
from services.domain.order import OrderUpdate


class LevelView(NamedTuple):
    """What is shown at one price, in the instrument's units."""

    price: int
    qty: int
    order_count: int


class _Level:
    __slots__ = ("orders", "qty")

    def __init__(self) -> None:
        self.orders: OrderedDict[int, OrderUpdate] = OrderedDict()
        self.qty = 0


class BookSide:
    """The bids or the asks of one instrument."""

    def __init__(self, side: Side) -> None:
        self._sign = 1 if side == Side.BUY else -1
        self._keys: list[int] = []  # price x sign, ascending: the best is last
        self._levels: dict[int, _Level] = {}

    def __bool__(self) -> bool:
        return bool(self._keys)

    @property
    def best_price(self) -> int | None:
        """The highest bid or the lowest ask; None for an empty side."""
        return self._keys[-1] * self._sign if self._keys else None

    def levels(self, depth: int) -> list[LevelView]:
        """The ``depth`` best prices, best first."""
        views = []
        for key in self._keys[: -depth - 1 : -1]:
            level = self._levels[key]
            views.append(LevelView(key * self._sign, level.qty, len(level.orders)))
        return views

    def queues(self) -> Iterator[tuple[int, Iterable[OrderUpdate]]]:
        """Each price, best first, with its orders, the one that trades first at the front."""
        for key in reversed(self._keys):
            yield key * self._sign, self._levels[key].orders.values()

    def orders(self) -> Iterator[OrderUpdate]:
        """All orders in the order in which they trade."""
        for _, orders in self.queues():
            yield from orders

    def put(self, order: OrderUpdate) -> None:
        """Add an order at the back of its price, or put down how one stands now that is there; it keeps its place unless it took
        a new one.
        """
        key = self._key(order)
        level = self._levels.get(key)
        if level is None:
            level = self._levels[key] = _Level()
            insort(self._keys, key)
        order_id = order.terms.order_id
        before = level.orders.get(order_id)
        level.qty += order.visible
        if before is not None:
            level.qty -= before.visible
            if before.queue_sequence != order.queue_sequence:
                del level.orders[order_id]
        level.orders[order_id] = order

    def remove(self, order: OrderUpdate) -> None:
        """Take an order off the book; ``order`` is the update with which it last stood there."""
        key = self._key(order)
        level = self._levels[key]
        level.qty -= level.orders.pop(order.terms.order_id).visible
        if not level.orders:
            del self._levels[key]
            del self._keys[bisect_left(self._keys, key)]

    def _key(self, order: OrderUpdate) -> int:
        price = order.terms.price
        assert price is not None
        return price * self._sign


class Book:
    """Both sides of one instrument, and the price of its last trade."""

    __slots__ = ("asks", "bids", "last_trade_price")

    def __init__(self) -> None:
        self.bids = BookSide(Side.BUY)
        self.asks = BookSide(Side.SELL)
        self.last_trade_price: int | None = None

    def side(self, side: Side) -> BookSide:
        """Where orders of ``side`` rest."""
        return self.bids if side == Side.BUY else self.asks

    def opposite(self, side: Side) -> BookSide:
        """Where orders of ``side`` find what they trade with."""
        return self.asks if side == Side.BUY else self.bids
