"""Turns the venue's rows into the orders and cancels that its users must have sent, and into what has to come out. Pure.

The rules, each found in the recording and checked by the tests:
- `created` is a new limit order with its full size, also where it takes. One that takes in no trade was post-only; where it
  crossed the book the venue refused it (and deleted it in the same millisecond with its full size).
- Price 999999999 with volume 0 is a market order to buy for an amount of money: what its trades cost. An ask at price 0 that
  trades is a market order to sell its volume.
- `deleted` cancels what is still open; the volume is what remained. `changed` is a fill and needs no command.
- Left out: orders of the initial book that were gone before the feed began (no later row names them, although trades printed
  through their price); bids of the initial book at price 0 (the recording rounds to a tenth of a dollar, so their price is not
  known; they never trade); deletes of orders that the recording never shows.

The book that tells which orders crossed is kept from the venue's own rows (created, its trades, deleted). Nothing is matched
here, so that the engine is compared with the venue and not with a second engine.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from services.cli.demo.recording import Recording, TradeRow

_MARKET_PRICE = Decimal(999999999)


@dataclass(frozen=True, slots=True)
class Place:
    """An order to send. Decimals are canonical text; no ``price`` and a ``quote_qty`` for a market order by amount."""

    venue_id: str
    at_ms: int  # since the recording's beginning
    is_bid: bool
    price: str | None
    qty: str | None
    quote_qty: str | None
    post_only: bool
    refused: bool  # what the venue did


@dataclass(frozen=True, slots=True)
class Cancel:
    """A cancel to send, and how much of the order the venue had left then."""

    venue_id: str
    at_ms: int
    is_bid: bool
    remaining: Decimal


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade as the venue printed it."""

    buy_id: str
    sell_id: str
    price: Decimal
    qty: Decimal


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order that is in the book at the end."""

    is_bid: bool
    price: Decimal
    leaves: Decimal


@dataclass(slots=True)
class Flow:
    """What to send, in the market's order, and what the venue made of it."""

    items: list[Place | Cancel] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    open_orders: dict[str, OpenOrder] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @property
    def places(self) -> list[Place]:
        """The orders among the items."""
        return [item for item in self.items if isinstance(item, Place)]

    @property
    def cancels(self) -> list[Cancel]:
        """The cancels among the items."""
        return [item for item in self.items if isinstance(item, Cancel)]


def flow_of(recording: Recording, minutes: float | None = None) -> Flow:
    """The flow of the recording's first ``minutes``, or of all of it."""
    begin_ms = recording.live[0][1]
    until_ms = recording.live[-1][1] + 1 if minutes is None else begin_ms + minutes * 60_000
    ghosts = set(_ghosts(recording))
    book = _VenueBook(recording.trades)
    flow = Flow(open_orders=book.open_orders)
    for rows, pace in ((recording.initial, 0), (recording.live, 1)):
        for venue_id, local_ms, price, volume, action, direction in rows:
            if pace and local_ms >= until_ms:
                break
            at_ms = (local_ms - begin_ms) * pace
            if action == "deleted" and venue_id in book.open_orders:
                is_bid = book.remove(venue_id)
                flow.items.append(Cancel(venue_id, at_ms, is_bid, Decimal(volume)))
            elif action == "created":
                if venue_id in ghosts or (not Decimal(price) and direction == "bid"):
                    flow.left_out.append(venue_id)
                    continue
                place = book.add(venue_id, at_ms, direction == "bid", Decimal(price), Decimal(volume))
                flow.items.append(place)
                flow.trades += book.trades_of(venue_id)
    return flow


def _ghosts(recording: Recording) -> Iterable[str]:
    """Initial orders that trades went through and that no live row ever names: they were gone before the feed began."""
    named = {row.venue_id for row in recording.live}
    prices = [Decimal(trade.price) for trade in recording.trades]
    low, high = min(prices), max(prices)
    for venue_id, _, price, _, _, direction in recording.initial:
        passed = Decimal(price) > low if direction == "bid" else Decimal(price) < high
        if passed and venue_id not in named:
            yield venue_id


class _VenueBook:
    """The venue's book as its rows tell it: an order is there from `created` until its trades used it up or `deleted`."""

    def __init__(self, trades: Iterable[TradeRow]) -> None:
        self.open_orders: dict[str, OpenOrder] = {}
        self._trades: defaultdict[str, list[tuple[str, Trade]]] = defaultdict(list)
        for buy_id, sell_id, taker_side, price, amount in trades:
            taker_id, maker_id = (buy_id, sell_id) if taker_side == "buy" else (sell_id, buy_id)
            self._trades[taker_id].append((maker_id, Trade(buy_id, sell_id, Decimal(price), Decimal(amount))))
        self._orders_at: dict[bool, defaultdict[Decimal, int]] = {side: defaultdict(int) for side in (True, False)}
        self._heaps: dict[bool, list[Decimal]] = {True: [], False: []}  # bids negated; a price may outlive its orders

    def trades_of(self, taker_id: str) -> list[Trade]:
        """The trades that the order took in, in their order."""
        return [trade for _, trade in self._trades.get(taker_id, ())]

    def add(self, venue_id: str, at_ms: int, is_bid: bool, price: Decimal, volume: Decimal) -> Place:
        """Take in a new order; returns it as it has to be sent."""
        taken = self._trades.get(venue_id, ())
        refused = not taken and self._crosses(is_bid, price)
        for maker_id, trade in taken:
            self._reduce(maker_id, trade.qty)
        if price == _MARKET_PRICE and not volume:
            cost = sum((trade.price * trade.qty for _, trade in taken), Decimal())
            return Place(venue_id, at_ms, is_bid, None, None, canonical(cost), post_only=False, refused=False)
        if not price:
            return Place(venue_id, at_ms, is_bid, None, canonical(volume), None, post_only=False, refused=False)
        leaves = volume - sum((trade.qty for _, trade in taken), Decimal())
        if leaves and not refused:
            self.open_orders[venue_id] = OpenOrder(is_bid, price, leaves)
            self._orders_at[is_bid][price] += 1
            heapq.heappush(self._heaps[is_bid], -price if is_bid else price)
        text, qty = canonical(price), canonical(volume)
        return Place(venue_id, at_ms, is_bid, text, qty, None, post_only=not taken, refused=refused)

    def remove(self, venue_id: str) -> bool:
        """Take an order out; returns whether it was a bid."""
        order = self.open_orders.pop(venue_id)
        self._orders_at[order.is_bid][order.price] -= 1
        return order.is_bid

    def _reduce(self, venue_id: str, qty: Decimal) -> None:
        order = self.open_orders[venue_id]
        if order.leaves == qty:
            self.remove(venue_id)
        else:
            self.open_orders[venue_id] = OpenOrder(order.is_bid, order.price, order.leaves - qty)

    def _crosses(self, is_bid: bool, price: Decimal) -> bool:
        heap, orders_at = self._heaps[not is_bid], self._orders_at[not is_bid]
        while heap and not orders_at[abs(heap[0])]:
            heapq.heappop(heap)
        return bool(heap) and (price >= heap[0] if is_bid else price <= -heap[0])


def canonical(value: Decimal) -> str:
    """The decimal as the contract writes it: plain, without needless zeros."""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text
