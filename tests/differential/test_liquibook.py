"""The same orders through the core and through liquibook, a matching engine in C++ that others wrote: accepts, fills, prices,
sizes and what rests must be the same. Both keep price-time priority and trade at the resting order's price. Their rules differ:

1. Users, money, fees, steps and self-trade prevention: liquibook has none. Everybody here is rich and may trade with himself.
2. A market order that finds nothing: REJECTED with us ("no liquidity"); liquibook accepts it and cancels it at once.
3. A market order rests in liquibook unless it is immediate-or-cancel; here all of them are, as they always are with us.
4. What is left of an IOC, FOK or market order: EXPIRED with us, liquibook calls it cancelled (as FIX does).
5. Less qty at the same price keeps the order's place with us (as on Nasdaq); liquibook sends it to the back. The flow does that
   to the last order of a price alone, where both are the same; a test of its own shows the difference.
6. A replace to no more than what is filled: FILLED with us; liquibook says replaced, then cancelled with nothing left.
7. A replace that changes nothing: refused with us; liquibook sends the order to the back. Not in the flow.

Its own count of levels ("depth") is not compared: it counts a part-filled order that is replaced with its old qty. Its book is.
"""

import os
import random
from collections.abc import Iterator

import liquibook
import pytest

from services.domain.commands import Cancel
from services.domain.errors import OrderNotOpen
from services.domain.events import Event, Matched
from services.domain.instrument import InstrumentRules
from services.domain.kinds import ExecType, OrderStatus, OrderType, RejectReason, Side, TimeInForce
from services.domain.order import OrderUpdate
from tests.support.exchange import Core, updates

STEPS = int(os.environ.get("ORDERTAPE_LIQUIBOOK_STEPS", "20000"))
RULES = InstrumentRules(
    "X-Y", "X", "Y", 0, 0, 0, 0, price_step="1", qty_step="1", price_min="1", price_max="1000000", qty_min="1", qty_max="1000000"
)
CONDITIONS = {
    TimeInForce.GTC: liquibook.oc_no_conditions,
    TimeInForce.IOC: liquibook.oc_immediate_or_cancel,
    TimeInForce.FOK: liquibook.oc_fill_or_kill,
}
MARKET_PRICE = 0
ACCEPTED, CANCELLED, REFUSED, REPLACED = "accepted", "cancelled", "refused", "replaced"


class TheirOrder(liquibook.SimpleOrder):
    """An order of theirs with a price that can change: in Python, SimpleOrder.replace changes nothing."""

    def __init__(self, side: Side, price: int, qty: int, condition: int) -> None:
        super().__init__(side == Side.BUY, price, qty, 0, condition)
        self.price_now = price

    def price(self) -> int:
        return self.price_now


class Theirs(liquibook.OrderListener):
    """liquibook, with our numbers for its orders. ``said`` is what the last call brought about."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[object, ...]] = []
        self.orders: dict[int, TheirOrder] = {}  # it keeps bare pointers: they have to stay alive
        self._numbers: dict[int, int] = {}
        self._book = liquibook.liquibook_book_OrderBook("X-Y")
        self._book.set_order_listener(self)

    def place(self, order_id: int, side: Side, price: int, qty: int, condition: int) -> None:
        order = self.orders[order_id] = TheirOrder(side, price, qty, condition)
        self._numbers[order.order_id_] = order_id
        self.said = []
        self._book.add(order, condition)

    def cancel(self, order_id: int) -> None:
        self.said = []
        self._book.cancel(self.orders[order_id])

    def replace(self, order_id: int, qty_change: int, price: int) -> None:
        self.said = []
        self._book.replace(self.orders[order_id], qty_change, price)

    def queue(self, side: Side) -> list[tuple[int, int, int]]:
        """Number, price and what is left of each order that rests, in the order in which they trade."""
        entries = (self._book.bids() if side == Side.BUY else self._book.asks()).items()
        return [(self._numbers[order.ptr().order_id_], price.price(), order.open_qty()) for price, order in entries]

    # What liquibook calls, with its own numbers.

    def on_accept(self, order: liquibook.SimpleOrder) -> None:
        self.said.append((ACCEPTED, self._numbers[order.order_id_]))

    def on_fill(self, order: liquibook.SimpleOrder, matched: liquibook.SimpleOrder, qty: int, price: int) -> None:
        order.fill(qty, qty * price, 0)
        matched.fill(qty, qty * price, 0)
        self.said.append((self._numbers[order.order_id_], self._numbers[matched.order_id_], price, qty))

    def on_cancel(self, order: liquibook.SimpleOrder) -> None:
        self.said.append((CANCELLED, self._numbers[order.order_id_]))

    def on_cancel_reject(self, order: liquibook.SimpleOrder, _reason: str) -> None:
        self.said.append((REFUSED, self._numbers[order.order_id_]))

    def on_replace(self, order: liquibook.SimpleOrder, _qty_change: int, price: int) -> None:
        self.orders[self._numbers[order.order_id_]].price_now = price
        self.said.append((REPLACED, self._numbers[order.order_id_]))

    def on_replace_reject(self, order: liquibook.SimpleOrder, _reason: str) -> None:
        self.said.append((REFUSED, self._numbers[order.order_id_]))

    def on_reject(self, order: liquibook.SimpleOrder, _reason: str) -> None:
        self.said.append((REFUSED, self._numbers[order.order_id_]))


class Ours:
    """The core; ``said`` in liquibook's terms."""

    def __init__(self) -> None:
        self.core = Core(RULES, trades_per_order_max=10**6)
        self.said: list[tuple[object, ...]] = []
        for user in "ab":
            self.core.deposit(user, X="1000000000000", Y="100000000000000")

    def place(self, order_id: int, side: Side, price: int, qty: int, time_in_force: TimeInForce) -> OrderUpdate:
        market = price == MARKET_PRICE
        events = self.core.place(
            "ab"[order_id % 2],
            side,
            symbol="X-Y",
            order_type=OrderType.MARKET if market else OrderType.LIMIT,
            price=None if market else str(price),
            qty=str(qty),
            time_in_force=time_in_force,
        )
        self.said = list(_in_their_terms(events))
        return updates(events)[0]

    def cancel(self, order_id: int) -> None:
        try:
            self.said = list(_in_their_terms(self.core.do(Cancel("ab"[order_id % 2], order_id, None, None))))
        except OrderNotOpen:
            self.said = [(REFUSED, order_id)]

    def replace(self, order_id: int, price: int, qty: int) -> None:
        try:
            self.said = list(_in_their_terms(self.core.replace("ab"[order_id % 2], order_id, price=str(price), qty=str(qty))))
        except OrderNotOpen:
            self.said = [(REFUSED, order_id)]

    def queue(self, side: Side) -> list[OrderUpdate]:
        return list(self.core.state.books["X-Y"].side(side).orders())

    def is_last_of_its_price(self, order: OrderUpdate) -> bool:
        return [o for o in self.queue(order.terms.side) if o.terms.price == order.terms.price][-1] is order


def _in_their_terms(events: list[Event]) -> Iterator[tuple[object, ...]]:
    for event in events:
        if isinstance(event, Matched):
            yield event.taker_order_id, event.maker_order_id, event.price, event.qty
        elif isinstance(event, OrderUpdate):
            order_id = event.terms.order_id
            if event.reject_reason == RejectReason.NO_LIQUIDITY:  # 2
                yield ACCEPTED, order_id
                yield CANCELLED, order_id
            elif event.exec_type == ExecType.NEW:
                yield ACCEPTED, order_id
            elif event.exec_type in (ExecType.CANCELLED, ExecType.EXPIRED):  # 4
                yield CANCELLED, order_id
            elif event.exec_type == ExecType.REPLACED:
                yield REPLACED, order_id
                if event.status == OrderStatus.FILLED:  # 6
                    yield CANCELLED, order_id


@pytest.fixture
def ours() -> Ours:
    return Ours()


@pytest.fixture
def theirs() -> Theirs:
    return Theirs()


@pytest.mark.parametrize("seed", [1, 2])
def test_one_flow_of_orders_goes_the_same_way_through_both_engines(ours: Ours, theirs: Theirs, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    seen: dict[object, int] = {}
    for step in range(STEPS // 2):
        _send(ours, theirs, chance)
        assert theirs.said == ours.said, f"seed {seed}, step {step}"
        for said in ours.said:
            kind = said[0] if isinstance(said[0], str) else "fill"
            seen[kind] = seen.get(kind, 0) + 1
        if not step % 20:
            _check_resting(ours, theirs)
    _check_resting(ours, theirs)
    assert all(seen[kind] > STEPS // 100 for kind in (ACCEPTED, CANCELLED, REPLACED, "fill"))
    assert seen[REFUSED] > 0


def test_less_qty_keeps_its_place_with_us_and_goes_to_the_back_in_liquibook(ours: Ours, theirs: Theirs) -> None:
    for order_id in (1, 2):
        ours.place(order_id, Side.BUY, 100, 10, TimeInForce.GTC)
        theirs.place(order_id, Side.BUY, 100, 10, CONDITIONS[TimeInForce.GTC])
    ours.replace(1, 100, 6)
    theirs.replace(1, -4, 100)
    ours.place(3, Side.SELL, 100, 1, TimeInForce.GTC)
    theirs.place(3, Side.SELL, 100, 1, CONDITIONS[TimeInForce.GTC])
    assert (3, 1, 100, 1) in ours.said
    assert (3, 2, 100, 1) in theirs.said


def _send(ours: Ours, theirs: Theirs, chance: random.Random) -> None:
    """The next command, to both."""
    order_id = len(theirs.orders) + 1
    what = chance.random()
    if what < 0.6 or order_id < 20:
        side, qty = chance.choice(tuple(Side)), chance.randint(1, 30)
        time_in_force = chance.choice([TimeInForce.GTC] * 6 + [TimeInForce.IOC, TimeInForce.FOK])
        market = time_in_force == TimeInForce.IOC and chance.random() < 0.5
        price = MARKET_PRICE if market else int(chance.gauss(1000 - 3 if side == Side.BUY else 1000 + 3, 5))
        assert ours.place(order_id, side, price, qty, time_in_force).terms.order_id == order_id
        theirs.place(order_id, side, price, qty, CONDITIONS[time_in_force])
        return
    if what < 0.63:  # any order, mostly one that is closed
        closed = chance.randrange(1, order_id)
        ours.cancel(closed)
        theirs.cancel(closed)
        return
    resting = [order for side in Side for order in ours.queue(side)]
    if not resting:
        ours.said, theirs.said = [], []
        return
    order = chance.choice(resting)
    number, price, qty = order.terms.order_id, order.terms.price, order.terms.qty
    assert price is not None
    assert qty is not None
    if what < 0.75:
        ours.cancel(number)
        theirs.cancel(number)
        return
    new_price = price if chance.random() < 0.5 else price + chance.randint(-4, 4)
    new_qty = max(1, qty + chance.randint(-12, 12))
    if new_price == price and (new_qty == qty or (new_qty < qty and not ours.is_last_of_its_price(order))):  # 5, 7
        new_qty = qty + 1
    ours.replace(number, new_price, new_qty)
    theirs.replace(number, max(new_qty, order.filled) - qty, new_price)


def _check_resting(ours: Ours, theirs: Theirs) -> None:
    """The same orders rest at the same prices in the same order, each with as much left."""
    for side in Side:
        assert theirs.queue(side) == [(order.terms.order_id, order.terms.price, order.leaves) for order in ours.queue(side)]
    ours.core.check()
