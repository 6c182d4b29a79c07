"""A stop order is triggered: it sets aside what it could not know before, says TRIGGERED, and takes from the book."""

from services.domain.commands import TriggerStop
from services.domain.draft import Draft, held_asset, held_for
from services.domain.kinds import ExpireReason
from services.domain.placing import hold_of, not_covered
from services.domain.state import ExchangeState
from services.domain.taking import first_visible, plan_for, take


def trigger(state: ExchangeState, command: TriggerStop, draft: Draft) -> None:
    """Decide what a triggered stop order brings about. One that is not covered says that it was triggered, and expires."""
    order = state.orders.get(command.order_id)
    assert order is not None
    assert order.waits_for_trigger, f"order {command.order_id} waits for no trigger"
    terms = order.terms
    instrument = terms.instrument
    assert instrument is not None
    plan = plan_for(state.rules, state.books[terms.symbol], instrument, terms, order.leaves, order.leaves_quote)
    held, hold = held_for(order), hold_of(terms, instrument, plan)
    asset = held_asset(instrument, terms.side)
    available = draft.available(terms.user_id, asset)
    if available < hold - held:
        triggered = draft.trigger(order, 0)
        text = not_covered(state, asset, available, hold - held)
        draft.expire(triggered, ExpireReason.STOP_NOT_COVERED, text)
        return
    draft.lock(terms, asset, hold - held)
    take(draft, draft.trigger(order, first_visible(terms, plan, order.leaves)), plan, hold)


def next_triggered(state: ExchangeState) -> int | None:
    """The stop order that the last trades reach and that was accepted first; None where there is none."""
    first: int | None = None
    for symbol in state.orders.symbols_with_stops:
        last = state.books[symbol].last_trade_price
        reached = state.orders.triggered(symbol, last) if last is not None and symbol not in state.halted else None
        if reached is not None and (first is None or reached < first):
            first = reached
    return first
