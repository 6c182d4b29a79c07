"""What becomes of a new order: the checks in their documented order, what it sets aside, and what it takes from the book."""

from typing import Final

from services.domain.book import Book
from services.domain.checks import (
    Objection,
    book_objection,
    is_plainly_fine,
    limit_objection,
    step_objection,
    units_of,
)
from services.domain.commands import Place
from services.domain.draft import Draft, held_asset
from services.domain.instrument import Instrument
from services.domain.kinds import ExpireReason, OrderType, RejectReason, Side, TimeInForce
from services.domain.money import to_text
from services.domain.order import OrderTerms
from services.domain.plan import Plan, WalkEnd
from services.domain.state import ExchangeState
from services.domain.taking import NO_WALK, first_visible, plan_for, take

_DAY_MICROSECONDS: Final = 86_400_000_000
_STOPS: Final = (OrderType.STOP, OrderType.STOP_LIMIT)


def place(state: ExchangeState, command: Place, draft: Draft) -> None:
    """Decide what a new order brings about. A refused order is an event too."""
    instrument = state.instruments.get(command.symbol)
    terms = _terms(state, command, draft, instrument)
    if instrument is None:
        draft.reject(terms, RejectReason.UNKNOWN_SYMBOL, f"symbol {command.symbol} is not listed")
        return
    book = state.books[command.symbol]
    objection = _objection(state, terms, instrument, book, draft.time)
    if objection is not None:
        draft.reject(terms, objection.reason, objection.text)
        return
    waits = terms.order_type in _STOPS
    plan = NO_WALK if waits else plan_for(state.rules, book, instrument, terms, terms.qty, terms.quote_qty)
    unfillable = terms.time_in_force == TimeInForce.FOK and plan.end != WalkEnd.FILLED
    if unfillable:
        plan = Plan([], plan.end)
    hold = hold_of(terms, instrument, plan)
    asset = held_asset(instrument, terms.side)
    available = draft.available(terms.user_id, asset)
    if available < hold:
        draft.reject(terms, RejectReason.INSUFFICIENT_FUNDS, not_covered(state, asset, available, hold))
        return
    draft.lock(terms, asset, hold)
    if waits:
        draft.accept(terms, 0)
        return
    order = draft.accept(terms, first_visible(terms, plan, terms.qty))
    if unfillable:
        draft.unlock(terms, asset, hold)
        draft.expire(order, ExpireReason.FOK_NOT_FILLABLE, "the book could not fill the order whole")
    else:
        take(draft, order, plan, hold)


def hold_of(terms: OrderTerms, instrument: Instrument, plan: Plan) -> int:
    """What a new or triggered order sets aside: what it can cost at most. A stop order to buy a qty at the market does not know
    yet, and sets aside what its walk costs once it is triggered.
    """
    if terms.quote_qty is not None:
        return terms.quote_qty
    assert terms.qty is not None
    if terms.side == Side.SELL:
        return instrument.base_of(terms.qty)
    return instrument.quote_of(terms.price, terms.qty) if terms.price is not None else plan.cost


def not_covered(state: ExchangeState, asset: str, available: int, needed: int) -> str:
    """In words: the balance does not cover what is to be set aside."""
    decimals = state.asset_decimals[asset]
    return f"available {to_text(available, decimals)} {asset} does not cover {to_text(needed, decimals)} {asset}"


def _objection(state: ExchangeState, terms: OrderTerms, instrument: Instrument, book: Book, time: int) -> Objection | None:
    """The first rule that the order breaks, in the order of RejectReason; funds come later."""
    if terms.symbol in state.halted:
        return Objection(RejectReason.SYMBOL_HALTED, f"symbol {terms.symbol} is halted")
    if terms.user_id in state.suspended:
        return Objection(RejectReason.USER_SUSPENDED, f"user_id {terms.user_id} is suspended")
    most = state.rules.open_orders_per_user_max
    if most and state.orders.count_of_user(terms.user_id) >= most:
        return Objection(
            RejectReason.TOO_MANY_OPEN_ORDERS, f"user_id {terms.user_id} has {most} open orders, as many as a user may"
        )
    if not is_plainly_fine(terms, instrument):
        objection = step_objection(terms, instrument) or limit_objection(terms, instrument, book)
        if objection is not None:
            return objection
    if terms.expire_time is not None and terms.expire_time <= time:
        return Objection(RejectReason.EXPIRE_TIME_IN_PAST, "expire_time is not later than the engine's time")
    return book_objection(terms, book) if terms.post_only or terms.order_type == OrderType.MARKET else None


def _terms(state: ExchangeState, command: Place, draft: Draft, instrument: Instrument | None) -> OrderTerms:
    price = qty = quote_qty = stop_price = display_qty = None
    if instrument is not None:
        price = units_of(command.price, instrument.price_decimals)
        qty = units_of(command.qty, instrument.qty_decimals)
        if command.order_type != OrderType.LIMIT:
            quote_qty = units_of(command.quote_qty, instrument.quote_decimals)
            stop_price = units_of(command.stop_price, instrument.price_decimals)
        elif command.display_qty is not None:
            display_qty = units_of(command.display_qty, instrument.qty_decimals)
    # By position, since every order passes here and names cost as much as the rest of it.
    return OrderTerms(
        state.last_order_id + 1,
        command.client_order_id,
        command.user_id,
        command.symbol,
        command.side,
        command.order_type,
        command.time_in_force,
        command.price,
        command.qty,
        command.quote_qty,
        command.post_only,
        command.self_trade_prevention,
        draft.next_order_number(command.user_id),
        0,
        1,
        instrument,
        price,
        qty,
        quote_qty,
        command.stop_price,
        stop_price,
        command.display_qty,
        display_qty,
        _session_end(state, draft.time) if command.time_in_force == TimeInForce.DAY else command.expire_time,
    )


def _session_end(state: ExchangeState, time: int) -> int:
    """The first session end later than ``time``."""
    midnight = time - time % _DAY_MICROSECONDS
    end = midnight + state.rules.session_end_seconds * 1_000_000
    return end if end > time else end + _DAY_MICROSECONDS
