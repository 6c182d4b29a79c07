"""The walk of an incoming order through the book, planned before anything happens: what it would trade with, in which order,
and how the walk ends. Nothing changes between plan and trades, so the plan is exact.
"""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from services.domain.instrument import Instrument
from services.domain.kinds import Side
from services.domain.order import OrderUpdate


class WalkEnd(Enum):
    """Why a walk ended."""

    FILLED = "the order has what it wants"
    BOOK_ENDED = "nothing else in the book trades with the order"
    MATCH_LIMIT = "the order made as many trades as one order may"


class PlannedTrade(NamedTuple):
    """One trade to come, at the resting order's price; ``qty`` and ``quote`` in units."""

    maker: OrderUpdate
    price: int
    qty: int
    quote: int


class Plan(NamedTuple):
    """All trades to come, and how the walk ends."""

    trades: list[PlannedTrade]
    end: WalkEnd

    @property
    def cost(self) -> int:
        """Units of the quote asset that all trades take."""
        return sum(trade.quote for trade in self.trades)


def crosses(side: Side, limit: int | None, price: int) -> bool:
    """Whether an order of ``side`` with this limit (None: any price) trades at ``price``."""
    return limit is None or (limit >= price if side == Side.BUY else limit <= price)


def plan_by_qty(
    makers: Iterable[OrderUpdate], instrument: Instrument, side: Side, limit: int | None, qty: int, trades_max: int
) -> Plan:
    """Walk until ``qty`` units are traded."""
    trades: list[PlannedTrade] = []
    for maker in makers:
        price, leaves = maker.terms.price, maker.leaves
        assert price is not None
        assert leaves is not None
        if not crosses(side, limit, price):
            break
        if len(trades) == trades_max:
            return Plan(trades, WalkEnd.MATCH_LIMIT)
        take = min(qty, leaves)
        trades.append(PlannedTrade(maker, price, take, instrument.quote_of(price, take)))
        qty -= take
        if not qty:
            return Plan(trades, WalkEnd.FILLED)
    return Plan(trades, WalkEnd.BOOK_ENDED)


def plan_by_quote(makers: Iterable[OrderUpdate], instrument: Instrument, quote: int, trades_max: int) -> Plan:
    """Walk up the asks until ``quote`` units of money buy no further step; what is left over then is not spent."""
    trades: list[PlannedTrade] = []
    for maker in makers:
        price, leaves = maker.terms.price, maker.leaves
        assert price is not None
        assert leaves is not None
        affordable = quote // instrument.quote_of(price, instrument.qty_step) * instrument.qty_step
        if not affordable:
            return Plan(trades, WalkEnd.FILLED if trades else WalkEnd.BOOK_ENDED)
        if len(trades) == trades_max:
            return Plan(trades, WalkEnd.MATCH_LIMIT)
        take = min(affordable, leaves)
        cost = instrument.quote_of(price, take)
        trades.append(PlannedTrade(maker, price, take, cost))
        quote -= cost
        if take < leaves:
            return Plan(trades, WalkEnd.FILLED)
    return Plan(trades, WalkEnd.FILLED if trades and not quote else WalkEnd.BOOK_ENDED)
