"""An order takes from the book: a new one, a replaced one whose price crosses, or a stop order that was triggered. The walk is
planned first, so that what it costs, and whether a fill-or-kill fills, is known before anything happens.
"""

from services.domain.book import Book
from services.domain.draft import Draft, held_asset, held_for
from services.domain.events import ExchangeRules
from services.domain.instrument import Instrument
from services.domain.kinds import (
    CancelReason,
    ExpireReason,
    OrderType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from services.domain.order import OrderTerms, OrderUpdate, PreventedMatch
from services.domain.plan import Plan, PlannedTrade, PreventedTrade, Taker, WalkEnd, crosses, plan_walk

NO_WALK = Plan([], WalkEnd.BOOK_ENDED)
_RESTING_TYPES = (OrderType.LIMIT, OrderType.STOP_LIMIT)
_WAITING_TIMES = (TimeInForce.GTC, TimeInForce.GTD, TimeInForce.DAY)


def plan_for(
    rules: ExchangeRules, book: Book, instrument: Instrument, terms: OrderTerms, leaves: int | None, quote: int | None
) -> Plan:
    """The walk of an order of these terms that still wants ``leaves`` units of qty, or has ``quote`` units of money to spend."""
    opposite = book.opposite(terms.side)
    best = opposite.best_price
    if best is None or not crosses(terms.side, terms.price, best):
        return NO_WALK
    taker = Taker(terms.user_id, terms.side, terms.price, leaves, quote, terms.self_trade_prevention)
    return plan_walk(opposite.queues(), instrument, taker, rules.trades_per_order_max)


def rests(terms: OrderTerms, plan: Plan) -> bool:
    """Whether what the walk leaves of the order stays in the book."""
    return terms.order_type in _RESTING_TYPES and terms.time_in_force in _WAITING_TIMES and plan.end == WalkEnd.BOOK_ENDED


def visible_part(terms: OrderTerms, leaves: int) -> int:
    """What the book shows of an order that rests with ``leaves``."""
    return leaves if terms.display_qty is None else min(terms.display_qty, leaves)


def first_visible(terms: OrderTerms, plan: Plan, leaves: int | None) -> int:
    """What the book shows of an order from before its walk on: 0 unless it rests without a trade."""
    return visible_part(terms, leaves) if leaves is not None and rests(terms, plan) and not plan.trade_count else 0


def take(draft: Draft, order: OrderUpdate, plan: Plan, hold: int) -> None:
    """Carry out the walk of ``order``, which has just said NEW, REPLACED or TRIGGERED and has ``hold`` set aside; then rest what
    is left, or end it. (An order that rests without a trade has said so itself: ``first_visible``.)
    """
    terms = order.terms
    instrument = terms.instrument
    assert instrument is not None
    stays = rests(terms, plan)
    if stays and not plan.steps:
        return
    last_trade = max((number for number, step in enumerate(plan.steps) if isinstance(step, PlannedTrade)), default=-1)
    for number, step in enumerate(plan.steps):
        if isinstance(step, PreventedTrade):
            _prevent(draft, terms, step)
            continue
        last = number == last_trade
        order, hold = _trade(draft, order, step, hold, ends=last and plan.end == WalkEnd.FILLED, comes_to_rest=last and stays)
    if order.is_open and not stays:
        draft.unlock(terms, held_asset(instrument, terms.side), hold)
        _end(draft, order, plan)


def _trade(
    draft: Draft, order: OrderUpdate, step: PlannedTrade, hold: int, *, ends: bool, comes_to_rest: bool
) -> tuple[OrderUpdate, int]:
    """One trade of the walk: money, then the taker's update, then the maker's. Returns the taker and what it has set aside."""
    terms, maker = order.terms, draft.newest(step.maker)
    instrument = terms.instrument
    assert instrument is not None
    taker_fill, maker_fill = draft.match(terms, maker.terms, step.price, step.qty, step.quote)
    hold -= step.quote if terms.side == Side.BUY else instrument.base_of(step.qty)
    needed = 0 if ends else _needed(terms, instrument, order, step.qty, hold)
    draft.unlock(terms, held_asset(instrument, terms.side), hold - needed)
    leaves = None if order.leaves is None else order.leaves - step.qty
    visible = visible_part(terms, leaves) if comes_to_rest and leaves is not None else 0
    order = draft.trade(order, taker_fill, ends=ends, visible=visible, new_place=visible > 0)
    assert maker.leaves is not None
    draft.trade(maker, maker_fill, ends=maker.leaves == step.qty, visible=step.maker_visible, new_place=step.replenished)
    return order, needed


def _needed(terms: OrderTerms, instrument: Instrument, order: OrderUpdate, qty: int, hold: int) -> int:
    """What stays set aside after a trade of ``qty``: less than ``hold`` only where the price was better than the limit."""
    if terms.side == Side.SELL or terms.price is None:
        return hold
    assert order.leaves is not None
    return instrument.quote_of(terms.price, order.leaves - qty)


def _prevent(draft: Draft, taker: OrderTerms, step: PreventedTrade) -> None:
    """End the own resting order that the walk met, where the taker's mode says so."""
    if taker.self_trade_prevention == SelfTradePrevention.CANCEL_TAKER:
        return
    maker = draft.newest(step.maker)
    instrument = maker.terms.instrument
    assert instrument is not None
    draft.unlock(maker.terms, held_asset(instrument, maker.terms.side), held_for(maker))
    prevented = PreventedMatch(taker.order_id, step.price, step.qty)
    draft.cancel(maker, CancelReason.SELF_TRADE, reason_text=_met(taker.order_id), prevented=prevented)


def _end(draft: Draft, order: OrderUpdate, plan: Plan) -> None:
    terms = order.terms
    if plan.end == WalkEnd.SELF_TRADE:
        step = plan.steps[-1]
        maker_id = step.maker.terms.order_id
        prevented = PreventedMatch(maker_id, step.price, step.qty)
        draft.cancel(order, CancelReason.SELF_TRADE, reason_text=_met(maker_id), prevented=prevented)
    elif plan.end == WalkEnd.MATCH_LIMIT:
        text = f"the order made {plan.trade_count} trades, as many as one order may"
        draft.expire(order, ExpireReason.MATCH_LIMIT, text)
    elif terms.price is None:
        draft.expire(order, ExpireReason.MARKET_REST, "the book had nothing else to trade with")
    else:
        draft.expire(order, ExpireReason.IOC_REST, "nothing else in the book traded at the price or better")


def _met(order_id: int) -> str:
    return f"met order {order_id} of the same user"
