"""An open order gets other terms: as much of it as was asked for, or nothing at all.

qty is the new total, of which what is filled is a part (FIX 38). Less qty at the same price keeps the order's place; anything
else goes to the back, and a price that crosses takes, after the order has said REPLACED.
"""

from services.domain.checks import book_objection, limit_objection, step_objection, units_of
from services.domain.commands import Replace
from services.domain.draft import Draft, held_asset, held_for
from services.domain.errors import ReplaceRefused, VersionMismatch
from services.domain.instrument import Instrument
from services.domain.kinds import Side
from services.domain.money import to_text
from services.domain.order import OrderTerms, OrderUpdate
from services.domain.placing import not_covered
from services.domain.plan import Plan
from services.domain.state import ExchangeState, find_open_order
from services.domain.taking import NO_WALK, first_visible, plan_for, take, visible_part


def replace(state: ExchangeState, command: Replace, draft: Draft) -> None:
    """Decide what a replace brings about. Raises OrderNotOpen, VersionMismatch, ReplaceRefused."""
    order = find_open_order(state, command.user_id, command.order_id, command.client_order_id)
    instrument = order.terms.instrument
    assert instrument is not None
    if command.expected_version is not None and command.expected_version != order.terms.version:
        raise VersionMismatch(
            f"expected_version is {command.expected_version}, order {order.terms.order_id} has {order.terms.version}"
        )
    if order.terms.symbol in state.halted:
        raise ReplaceRefused(f"symbol {order.terms.symbol} is halted")
    if command.user_id in state.suspended:
        raise ReplaceRefused(f"user_id {command.user_id} is suspended")
    terms = _new_terms(order, command, instrument)
    off_step = step_objection(terms, instrument)
    if off_step is not None:
        raise ReplaceRefused(off_step.text)
    filled_by_it = terms.qty is not None and terms.qty <= order.filled
    if filled_by_it:
        terms.qty, terms.qty_text = order.filled, to_text(order.filled, instrument.qty_decimals)
    else:
        _check(state, terms, instrument)
    _carry_out(state, order, terms, command, draft, instrument, filled_by_it)


def _carry_out(
    state: ExchangeState,
    order: OrderUpdate,
    terms: OrderTerms,
    command: Replace,
    draft: Draft,
    instrument: Instrument,
    filled_by_it: bool,
) -> None:
    leaves = None if terms.qty is None else terms.qty - order.filled
    waits = order.waits_for_trigger
    keeps_place = waits or filled_by_it or _keeps_place(order, terms)
    plan = NO_WALK
    if not keeps_place:
        plan = plan_for(state.rules, state.books[terms.symbol], instrument, terms, leaves, None)
    held, hold = held_for(order), _hold(terms, instrument, leaves, order)
    asset = held_asset(instrument, terms.side)
    available = draft.available(terms.user_id, asset)
    if available < hold - held:
        raise ReplaceRefused(not_covered(state, asset, available, hold - held))
    draft.lock(terms, asset, max(hold - held, 0))
    draft.unlock(terms, asset, max(held - hold, 0))
    visible = 0 if waits or filled_by_it else _visible(order, terms, plan, leaves, keeps_place)
    replaced = draft.replace(
        order, terms, visible=visible, new_place=visible > 0 and not keeps_place, request_id=command.request_id
    )
    if not keeps_place:
        take(draft, replaced, plan, hold)


def _visible(order: OrderUpdate, terms: OrderTerms, plan: Plan, leaves: int | None, keeps_place: bool) -> int:
    if not keeps_place:
        return first_visible(terms, plan, leaves)
    assert leaves is not None
    return min(order.visible, leaves) if terms.display_qty is not None else visible_part(terms, leaves)


def _keeps_place(order: OrderUpdate, terms: OrderTerms) -> bool:
    before = order.terms
    assert terms.qty is not None
    assert before.qty is not None
    return terms.price == before.price and terms.qty <= before.qty and terms.display_qty == before.display_qty


def _hold(terms: OrderTerms, instrument: Instrument, leaves: int | None, order: OrderUpdate) -> int:
    if leaves is None:
        return order.leaves_quote or 0
    if terms.side == Side.SELL:
        return instrument.base_of(leaves)
    return 0 if terms.price is None else instrument.quote_of(terms.price, leaves)


def _check(state: ExchangeState, terms: OrderTerms, instrument: Instrument) -> None:
    if terms.display_qty is not None and terms.qty is not None and terms.display_qty > terms.qty:
        raise ReplaceRefused(f"display_qty {terms.display_qty_text} is more than qty {terms.qty_text}")
    book = state.books[terms.symbol]
    objection = limit_objection(terms, instrument, book) or book_objection(terms, book)
    if objection is not None:
        raise ReplaceRefused(objection.text)


def _new_terms(order: OrderUpdate, command: Replace, instrument: Instrument) -> OrderTerms:
    """The terms with the changes. Raises ReplaceRefused for a term that the order does not have, and where nothing changes."""
    asked = {
        "price": (command.price, instrument.price_decimals),
        "qty": (command.qty, instrument.qty_decimals),
        "stop_price": (command.stop_price, instrument.price_decimals),
        "display_qty": (command.display_qty, instrument.qty_decimals),
    }
    changes: dict[str, object] = {}
    for name, (text, decimals) in asked.items():
        if text is None:
            continue
        before = getattr(order.terms, f"{name}_text")
        if before is None:
            raise ReplaceRefused(f"{name} cannot be replaced: order {order.terms.order_id} has none")
        if name == "stop_price" and order.triggered_at is not None:
            raise ReplaceRefused(f"stop_price cannot be replaced: order {order.terms.order_id} was triggered")
        if text != before:
            changes |= {name: units_of(text, decimals), f"{name}_text": text}
    if not changes:
        raise ReplaceRefused(f"the replace changes nothing of order {order.terms.order_id}")
    return order.terms.replaced(**changes)
