"""One instrument's book: open orders by price, then by the order in which they took their place.

Prices stand in a sorted list with the best one last, so that the book's busy end is the cheap one; the orders of a price in an
OrderedDict, which removes from the front and the middle in constant time.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from services.domain.kinds import Side
from services.domain.order import OrderUpdate


class LevelView(NamedTuple):
    """All that rests at one price, in the instrument's units."""

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

    def orders(self) -> Iterator[OrderUpdate]:
        """All orders in the order in which they trade: best price first, then oldest place first."""
        for key in reversed(self._keys):
            yield from self._levels[key].orders.values()

    def put(self, order: OrderUpdate) -> None:
        """Add an order at the back of its price, or put down what is left of one that is there, which keeps its place."""
        price, leaves = order.terms.price, order.leaves
        assert price is not None
        assert leaves is not None
        key = price * self._sign
        level = self._levels.get(key)
        if level is None:
            level = self._levels[key] = _Level()
            insort(self._keys, key)
        before = level.orders.get(order.terms.order_id)
        level.qty += leaves - ((before.leaves or 0) if before is not None else 0)
        level.orders[order.terms.order_id] = order

    def remove(self, order: OrderUpdate) -> None:
        """Take an order off the book; ``order`` is the update with which it last stood there."""
        price = order.terms.price
        assert price is not None
        key = price * self._sign
        level = self._levels[key]
        gone = level.orders.pop(order.terms.order_id)
        level.qty -= gone.leaves or 0
        if not level.orders:
            del self._levels[key]
            del self._keys[bisect_left(self._keys, key)]


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
