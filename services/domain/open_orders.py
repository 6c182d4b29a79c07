"""Open orders, found in every way in which the exchange has to find them: by id, by the client's name, by user, by the time at
which they expire, and stop orders by the price that triggers them.
"""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator

from services.domain.kinds import Side
from services.domain.order import OrderUpdate


class OpenOrders:
    """The newest update of each open order. Changed by ``put`` and ``remove`` alone."""

    def __init__(self) -> None:
        self._by_id: dict[int, OrderUpdate] = {}
        self._by_client_id: dict[tuple[str, str], int] = {}
        self._by_user: dict[str, dict[int, None]] = {}
        self._expiries: list[tuple[int, int]] = []  # (expire_time, order_id), ascending
        self._stops: dict[tuple[str, Side], list[tuple[int, int]]] = defaultdict(list)  # (stop_price, order_id), ascending

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, order_id: int) -> OrderUpdate | None:
        """The order of this number, None where none is open."""
        return self._by_id.get(order_id)

    def id_of(self, user_id: str, client_order_id: str) -> int | None:
        """The number of the user's open order of this name."""
        return self._by_client_id.get((user_id, client_order_id))

    def all(self) -> Iterator[OrderUpdate]:
        """Every open order, in the order of acceptance."""
        return iter(self._by_id.values())

    def of_user(self, user_id: str) -> Iterator[OrderUpdate]:
        """The user's open orders, in the order of acceptance."""
        return (self._by_id[order_id] for order_id in self._by_user.get(user_id, ()))

    def count_of_user(self, user_id: str) -> int:
        """How many orders the user has open."""
        return len(self._by_user.get(user_id, ()))

    @property
    def next_expiry(self) -> int | None:
        """When the next order expires, microseconds since 1970; None where none does."""
        return self._expiries[0][0] if self._expiries else None

    def due(self, time: int, limit: int) -> list[OrderUpdate]:
        """The first ``limit`` orders that expire at or before ``time``, the earliest first."""
        count = min(limit, bisect_right(self._expiries, time, key=lambda entry: entry[0]))
        return [self._by_id[order_id] for _, order_id in self._expiries[:count]]

    @property
    def has_stops(self) -> bool:
        """Whether any stop order waits for a trigger."""
        return bool(self._stops)

    @property
    def symbols_with_stops(self) -> set[str]:
        """The symbols of the stop orders that wait for a trigger."""
        return {symbol for symbol, _ in self._stops}

    def triggered(self, symbol: str, last_trade_price: int) -> int | None:
        """The stop order that was accepted first of those that ``last_trade_price`` reaches, None where it reaches none."""
        buys, sells = self._stops.get((symbol, Side.BUY), []), self._stops.get((symbol, Side.SELL), [])
        buys_end = bisect_right(buys, last_trade_price, key=lambda entry: entry[0])
        sells_begin = bisect_left(sells, last_trade_price, key=lambda entry: entry[0])
        return min((order_id for _, order_id in [*buys[:buys_end], *sells[sells_begin:]]), default=None)

    def put(self, update: OrderUpdate) -> None:
        """An order is open and stands like this now."""
        terms = update.terms
        before = self._by_id.get(terms.order_id)
        self._by_id[terms.order_id] = update
        if before is None:
            mine = self._by_user.get(terms.user_id)
            if mine is None:
                mine = self._by_user[terms.user_id] = {}
            mine[terms.order_id] = None
            if terms.client_order_id is not None:
                self._by_client_id[terms.user_id, terms.client_order_id] = terms.order_id
            if terms.expire_time is not None:
                insort(self._expiries, (terms.expire_time, terms.order_id))
        elif terms.stop_price is not None and before.waits_for_trigger:
            self._drop_stop(before)
        if terms.stop_price is not None and update.waits_for_trigger:
            insort(self._stops[terms.symbol, terms.side], (terms.stop_price, terms.order_id))

    def remove(self, order: OrderUpdate) -> None:
        """An order is closed; ``order`` is the update with which it was last open."""
        terms = order.terms
        del self._by_id[terms.order_id]
        mine = self._by_user[terms.user_id]
        del mine[terms.order_id]
        if not mine:
            del self._by_user[terms.user_id]
        if terms.client_order_id is not None:
            del self._by_client_id[terms.user_id, terms.client_order_id]
        if terms.expire_time is not None:
            _drop(self._expiries, (terms.expire_time, terms.order_id))
        if terms.stop_price is not None and order.waits_for_trigger:
            self._drop_stop(order)

    def _drop_stop(self, order: OrderUpdate) -> None:
        terms = order.terms
        assert terms.stop_price is not None
        key = (terms.symbol, terms.side)
        _drop(self._stops[key], (terms.stop_price, terms.order_id))
        if not self._stops[key]:
            del self._stops[key]


def _drop(entries: list[tuple[int, int]], entry: tuple[int, int]) -> None:
    place = bisect_left(entries, entry)
    assert entries[place] == entry
    del entries[place]
