"""The walk of an incoming order through the book, planned before anything happens: what it would trade with, in which order,
which own orders it would end, and how the walk ends. Nothing changes between plan and trades, so the plan is exact.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from services.domain.instrument import Instrument
from services.domain.kinds import SelfTradePrevention, Side
from services.domain.order import OrderUpdate


class WalkEnd(Enum):
    """Why a walk ended."""

    FILLED = "the order has what it wants"
    BOOK_ENDED = "nothing else in the book trades with the order"
    MATCH_LIMIT = "the order made as many trades as one order may"
    SELF_TRADE = "the order met an own order and is to be ended by that"


class PlannedTrade(NamedTuple):
    """One trade to come, at the resting order's price; ``qty`` and ``quote`` in units. ``maker_visible`` is what the book shows
    of the maker afterwards; ``replenished``: by taking a new place at the back of its price.
    """

    maker: OrderUpdate
    price: int
    qty: int
    quote: int
    maker_visible: int
    replenished: bool


class PreventedTrade(NamedTuple):
    """A trade that self-trade prevention keeps from happening; the mode says which of the two it ends."""

    maker: OrderUpdate
    price: int
    qty: int


class Plan(NamedTuple):
    """All steps to come, and how the walk ends."""

    steps: list[PlannedTrade | PreventedTrade]
    end: WalkEnd

    @property
    def cost(self) -> int:
        """Units of the quote asset that all trades take."""
        return sum(step.quote for step in self.steps if isinstance(step, PlannedTrade))

    @property
    def trade_count(self) -> int:
        """How many trades the order makes."""
        return sum(isinstance(step, PlannedTrade) for step in self.steps) if self.steps else 0


class Taker(NamedTuple):
    """What walks: ``qty`` units of the base asset, or ``quote`` units of money to spend, exactly one of them None."""

    user_id: str
    side: Side
    limit: int | None
    qty: int | None
    quote: int | None
    prevention: SelfTradePrevention


class _Want:
    """What the taker still wants. ``affordable`` is how much of it one price lets it have."""

    __slots__ = ("_instrument", "_qty", "_quote")

    def __init__(self, taker: Taker, instrument: Instrument) -> None:
        self._qty = taker.qty
        self._quote = taker.quote
        self._instrument = instrument

    def affordable(self, price: int) -> int:
        if self._qty is not None:
            return self._qty
        assert self._quote is not None
        step = self._instrument.qty_step
        return self._quote // self._instrument.quote_of(price, step) * step

    def spend(self, qty: int, cost: int) -> None:
        if self._qty is not None:
            self._qty -= qty
        else:
            assert self._quote is not None
            self._quote -= cost

    @property
    def is_nothing(self) -> bool:
        return self._qty == 0 or self._quote == 0


def crosses(side: Side, limit: int | None, price: int) -> bool:
    """Whether an order of ``side`` with this limit (None: any price) trades at ``price``."""
    return limit is None or (limit >= price if side == Side.BUY else limit <= price)


def plan_walk(queues: Iterable[tuple[int, Iterable[OrderUpdate]]], instrument: Instrument, taker: Taker, steps_max: int) -> Plan:
    """Walk until the taker has what it wants, the book has nothing more for it, or ``steps_max`` steps are made.

    Money to spend buys whole steps of qty at each price; it is filled once something was bought and the rest buys no step at the
    best price that is left. Own orders are traded with, skipped or the walk's end, as the taker's mode says.
    """
    steps: list[PlannedTrade | PreventedTrade] = []
    traded = False
    want = _Want(taker, instrument)
    for price, makers in queues:
        if not crosses(taker.side, taker.limit, price):
            break
        icebergs: deque[tuple[OrderUpdate, int, int]] = deque()
        for maker, visible, leaves in _shown(makers, icebergs):
            able = want.affordable(price)
            if not able:
                return Plan(steps, WalkEnd.FILLED if traded else WalkEnd.BOOK_ENDED)
            if len(steps) == steps_max:
                return Plan(steps, WalkEnd.MATCH_LIMIT)
            if maker.terms.user_id == taker.user_id and taker.prevention != SelfTradePrevention.NONE:
                steps.append(PreventedTrade(maker, price, min(able, leaves)))
                if taker.prevention != SelfTradePrevention.CANCEL_MAKER:
                    return Plan(steps, WalkEnd.SELF_TRADE)
                continue
            take = min(able, visible)
            cost = instrument.quote_of(price, take)
            rest = leaves - take
            empties = take == visible and rest > 0
            shown = min(maker.terms.display_qty or rest, rest) if empties else visible - take
            steps.append(PlannedTrade(maker, price, take, cost, shown, empties))
            if empties:
                icebergs.append((maker, shown, rest))
            traded = True
            want.spend(take, cost)
            # What an order leaves at this price shows that the taker cannot buy a further step here.
            if want.is_nothing or take < visible:
                return Plan(steps, WalkEnd.FILLED)
    return Plan(steps, WalkEnd.BOOK_ENDED)


def _shown(makers: Iterable[OrderUpdate], again: deque[tuple[OrderUpdate, int, int]]) -> Iterator[tuple[OrderUpdate, int, int]]:
    """The orders of one price as they come to trade, each with what it shows and what it has in all: the queue, then what the
    walk puts into ``again``."""
    for maker in makers:
        assert maker.leaves is not None
        yield maker, maker.visible, maker.leaves
    while again:
        yield again.popleft()
