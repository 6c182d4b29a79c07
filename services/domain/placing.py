"""What becomes of a new order: the checks in their documented order, the walk through the book, and how what is left of it
ends. docs/lifecycle.md and contract.md's batch order are the specification.
"""

from typing import NamedTuple

from services.domain.book import Book
from services.domain.commands import Place
from services.domain.draft import Draft, held_asset
from services.domain.instrument import Instrument
from services.domain.kinds import ExpireReason, OrderType, RejectReason, Side, TimeInForce
from services.domain.money import WHOLE_LIMIT, to_text, to_units
from services.domain.order import OrderTerms, OrderUpdate
from services.domain.plan import Plan, WalkEnd, crosses, plan_by_qty, plan_by_quote
from services.domain.state import ExchangeState

_NO_WALK = Plan([], WalkEnd.BOOK_ENDED)


class _Objection(NamedTuple):
    reason: RejectReason
    text: str


class _Amounts(NamedTuple):
    """What the order names, in units; None where it does not, or where the text is finer than any unit."""

    price: int | None
    qty: int | None
    quote_qty: int | None


def place(state: ExchangeState, command: Place, draft: Draft) -> None:
    """Decide what a new order brings about. A refused order is an event too."""
    instrument = state.instruments.get(command.symbol)
    if instrument is None:
        text = f"symbol {command.symbol} is not listed"
        draft.reject(_terms(state, command, draft, None, _Amounts(None, None, None)), RejectReason.UNKNOWN_SYMBOL, text)
        return
    amounts = _amounts(command, instrument)
    terms = _terms(state, command, draft, instrument, amounts)
    book = state.books[command.symbol]
    objection = _objection(command, instrument, amounts, book)
    if objection is not None:
        draft.reject(terms, objection.reason, objection.text)
        return
    plan = _plan(state, terms, instrument, book)
    unfillable = terms.time_in_force == TimeInForce.FOK and plan.end != WalkEnd.FILLED
    if unfillable:
        plan = Plan([], plan.end)
    hold = _hold(terms, instrument, plan)
    asset = held_asset(instrument, terms.side)
    available = state.accounts.balance(terms.user_id, asset).available
    if available < hold:
        decimals = state.asset_decimals[asset]
        text = f"available {to_text(available, decimals)} {asset} does not cover {to_text(hold, decimals)} {asset}"
        draft.reject(terms, RejectReason.INSUFFICIENT_FUNDS, text)
        return
    _carry_out(draft, terms, instrument, plan, hold, unfillable)


def _carry_out(draft: Draft, terms: OrderTerms, instrument: Instrument, plan: Plan, hold: int, unfillable: bool) -> None:
    """Lock, NEW, the trades, and the end of what is left."""
    asset = held_asset(instrument, terms.side)
    rests = terms.time_in_force == TimeInForce.GTC and plan.end == WalkEnd.BOOK_ENDED
    draft.lock(terms, asset, hold)
    order = draft.accept(terms, in_book=rests and not plan.trades)
    last = len(plan.trades) - 1
    for number, trade in enumerate(plan.trades):
        taker_fill, maker_fill = draft.match(terms, trade.maker.terms, trade.price, trade.qty, trade.quote)
        ends = number == last and plan.end == WalkEnd.FILLED
        hold -= trade.quote if terms.side == Side.BUY else instrument.base_of(trade.qty)
        needed = 0 if ends else _needed(terms, instrument, order, trade.qty, hold)
        draft.unlock(terms, asset, hold - needed)
        hold = needed
        order = draft.trade(order, taker_fill, ends=ends, in_book=rests and number == last)
        maker_leaves = trade.maker.leaves
        assert maker_leaves is not None
        empties = maker_leaves == trade.qty
        draft.trade(trade.maker, maker_fill, ends=empties, in_book=not empties)
    if order.is_open and not rests:
        draft.unlock(terms, asset, hold)
        reason, text = _expiry(terms, plan, unfillable)
        draft.expire(order, reason, text)


def _needed(terms: OrderTerms, instrument: Instrument, order: OrderUpdate, qty: int, hold: int) -> int:
    """What stays set aside after a trade of ``qty``: less than ``hold`` only where the price was better than the limit."""
    if terms.side == Side.SELL or terms.price is None:
        return hold
    assert order.leaves is not None
    return instrument.quote_of(terms.price, order.leaves - qty)


def _hold(terms: OrderTerms, instrument: Instrument, plan: Plan) -> int:
    """What the order sets aside: what it can cost at most."""
    if terms.quote_qty is not None:
        return terms.quote_qty
    assert terms.qty is not None
    if terms.side == Side.SELL:
        return instrument.base_of(terms.qty)
    return instrument.quote_of(terms.price, terms.qty) if terms.price is not None else plan.cost


def _plan(state: ExchangeState, terms: OrderTerms, instrument: Instrument, book: Book) -> Plan:
    opposite = book.opposite(terms.side)
    best = opposite.best_price
    if best is None or not crosses(terms.side, terms.price, best):
        return _NO_WALK
    trades_max = state.rules.trades_per_order_max
    if terms.quote_qty is not None:
        return plan_by_quote(opposite.orders(), instrument, terms.quote_qty, trades_max)
    assert terms.qty is not None
    return plan_by_qty(opposite.orders(), instrument, terms.side, terms.price, terms.qty, trades_max)


def _expiry(terms: OrderTerms, plan: Plan, unfillable: bool) -> tuple[ExpireReason, str]:
    if unfillable:
        return ExpireReason.FOK_NOT_FILLABLE, "the book could not fill the order whole"
    if plan.end == WalkEnd.MATCH_LIMIT:
        return ExpireReason.MATCH_LIMIT, f"the order made {len(plan.trades)} trades, as many as one order may"
    if terms.order_type == OrderType.MARKET:
        return ExpireReason.MARKET_REST, "the book had nothing else to trade with"
    return ExpireReason.IOC_REST, "nothing else in the book traded at the price or better"


def _amounts(command: Place, instrument: Instrument) -> _Amounts:
    price = None if command.price is None else to_units(command.price, instrument.price_decimals)
    qty = None if command.qty is None else to_units(command.qty, instrument.qty_decimals)
    quote_qty = None if command.quote_qty is None else to_units(command.quote_qty, instrument.quote_decimals)
    return _Amounts(price, qty, quote_qty)


def _objection(command: Place, instrument: Instrument, amounts: _Amounts, book: Book) -> _Objection | None:
    """The first rule that the order breaks, in the order of RejectReason; funds come later."""
    symbol, rules = instrument.symbol, instrument.rules
    price, qty, quote_qty = amounts
    if command.price is not None and (price is None or price % instrument.price_step):
        text = f"price {command.price} is not a multiple of the step {rules.price_step} of {symbol}"
        return _Objection(RejectReason.PRICE_OFF_STEP, text)
    if command.qty is not None and (qty is None or qty % instrument.qty_step):
        text = f"qty {command.qty} is not a multiple of the step {rules.qty_step} of {symbol}"
        return _Objection(RejectReason.QTY_OFF_STEP, text)
    if command.quote_qty is not None and quote_qty is None:
        text = f"quote_qty {command.quote_qty} has more than the {instrument.quote_decimals} decimals of {rules.quote_asset}"
        return _Objection(RejectReason.QTY_OFF_STEP, text)
    if price is not None and not instrument.price_min <= price <= instrument.price_max:
        text = f"price {command.price} is outside {rules.price_min} to {rules.price_max} of {symbol}"
        return _Objection(RejectReason.PRICE_OUTSIDE_LIMITS, text)
    if qty is not None and not instrument.qty_min <= qty <= instrument.qty_max:
        text = f"qty {command.qty} is outside {rules.qty_min} to {rules.qty_max} of {symbol}"
        return _Objection(RejectReason.QTY_OUTSIDE_LIMITS, text)
    return _notional_objection(instrument, amounts) or _book_objection(command, price, book, symbol)


def _notional_objection(instrument: Instrument, amounts: _Amounts) -> _Objection | None:
    price, qty, quote_qty = amounts
    if quote_qty is not None:
        name, notional = "quote_qty", quote_qty
    elif price is not None and qty is not None:
        name, notional = "price x qty", instrument.quote_of(price, qty)
    else:
        return None
    if instrument.notional_min <= notional < WHOLE_LIMIT * 10**instrument.quote_decimals:
        return None
    shown = f"{name} {to_text(notional, instrument.quote_decimals)} {instrument.quote_asset}"
    if notional < instrument.notional_min:
        text = f"{shown} is below the least notional {instrument.rules.notional_min} of {instrument.symbol}"
        return _Objection(RejectReason.NOTIONAL_TOO_SMALL, text)
    return _Objection(RejectReason.NOTIONAL_TOO_LARGE, f"{shown} is 10^18 or more")


def _book_objection(command: Place, price: int | None, book: Book, symbol: str) -> _Objection | None:
    best = book.opposite(command.side).best_price
    if command.order_type == OrderType.MARKET and best is None:
        side = "asks" if command.side == Side.BUY else "bids"
        return _Objection(RejectReason.NO_LIQUIDITY, f"there are no {side} of {symbol}")
    if command.post_only and best is not None and crosses(command.side, price, best):
        return _Objection(RejectReason.POST_ONLY_WOULD_TAKE, f"price {command.price} would take from the book of {symbol}")
    return None


def _terms(state: ExchangeState, command: Place, draft: Draft, instrument: Instrument | None, amounts: _Amounts) -> OrderTerms:
    return OrderTerms(
        order_id=state.last_order_id + 1,
        client_order_id=command.client_order_id,
        user_id=command.user_id,
        symbol=command.symbol,
        side=command.side,
        order_type=command.order_type,
        time_in_force=command.time_in_force,
        price_text=command.price,
        qty_text=command.qty,
        quote_qty_text=command.quote_qty,
        post_only=command.post_only,
        self_trade_prevention=command.self_trade_prevention,
        order_number=draft.next_order_number(command.user_id),
        created_at=0,
        version=1,
        instrument=instrument,
        price=amounts.price,
        qty=amounts.qty,
        quote_qty=amounts.quote_qty,
    )
