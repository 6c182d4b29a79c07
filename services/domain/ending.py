"""Open orders come to an end by somebody's will or by the clock: one by one, or many at a time."""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from services.domain.commands import Cancel, CancelOrders, ExpireDue, ForceCancel, SessionLost, SetUserStatus
from services.domain.draft import Draft, held_asset, held_for
from services.domain.errors import OrderNotOpen
from services.domain.events import MassCancelDone, UserStatusChanged
from services.domain.kinds import CancelReason, ExpireReason, TimeInForce
from services.domain.order import OrderUpdate
from services.domain.state import ExchangeState, find_open_order

ORDERS_PER_COMMAND_MAX: Final = 500


def cancel(state: ExchangeState, command: Cancel, draft: Draft) -> None:
    """A user ends one order. Raises OrderNotOpen."""
    order = find_open_order(state, command.user_id, command.order_id, command.client_order_id)
    _free(draft, order)
    draft.cancel(order, CancelReason.USER, request_id=command.request_id)


def force_cancel(state: ExchangeState, command: ForceCancel, draft: Draft) -> None:
    """An operator ends one order. Raises OrderNotOpen."""
    order = state.orders.get(command.order_id)
    if order is None:
        raise OrderNotOpen(f"there is no open order of order_id {command.order_id}")
    _free(draft, order)
    draft.cancel(order, CancelReason.OPERATOR, reason_text=command.reason_text)


def cancel_orders(state: ExchangeState, command: CancelOrders, draft: Draft) -> None:
    """A user ends many orders: 500 at a time, and MassCancelDone with the last of them, alone where there is none."""
    wanted = list(islice(matching(state, command), ORDERS_PER_COMMAND_MAX + 1))
    for order in wanted[:ORDERS_PER_COMMAND_MAX]:
        _free(draft, order)
        draft.cancel(order, CancelReason.MASS_CANCEL, request_id=command.request_id)
    if len(wanted) <= ORDERS_PER_COMMAND_MAX:
        count = state.mass_cancelled + len(wanted)
        draft.events.append(MassCancelDone(command.user_id, command.request_id, count))


def matching(state: ExchangeState, command: CancelOrders) -> Iterable[OrderUpdate]:
    """The open orders that a mass cancel means, in the order of acceptance."""
    return (
        order
        for order in state.orders.of_user(command.user_id)
        if (not command.symbols or order.terms.symbol in command.symbols)
        and (command.side is None or order.terms.side == command.side)
    )


def set_user_status(state: ExchangeState, command: SetUserStatus, draft: Draft) -> None:
    """An operator suspends or readmits a user, and ends the user's orders first if told to: 500 at a time, and the status with
    the last of them.
    """
    limit = ORDERS_PER_COMMAND_MAX + 1 if command.cancel_open_orders else 0
    orders = list(islice(state.orders.of_user(command.user_id), limit))
    for order in orders[:ORDERS_PER_COMMAND_MAX]:
        _free(draft, order)
        draft.cancel(order, CancelReason.OPERATOR, reason_text=command.reason_text)
    if len(orders) <= ORDERS_PER_COMMAND_MAX:
        draft.events.append(UserStatusChanged(command.user_id, command.status, command.reason_text))


def session_lost(state: ExchangeState, command: SessionLost, draft: Draft) -> None:
    """A lost session's user has no open orders left; nothing happens where there were none."""
    for order in list(islice(state.orders.of_user(command.user_id), ORDERS_PER_COMMAND_MAX)):
        _free(draft, order)
        draft.cancel(order, CancelReason.DISCONNECT, reason_text="the order session was lost")


def expire_due(state: ExchangeState, _command: ExpireDue, draft: Draft) -> None:
    """Orders whose time has come end, those whose time came first before the others."""
    for order in state.orders.due(draft.time, ORDERS_PER_COMMAND_MAX):
        _free(draft, order)
        if order.terms.time_in_force == TimeInForce.DAY:
            draft.expire(order, ExpireReason.SESSION_END, "the session ended")
        else:
            draft.expire(order, ExpireReason.GTD_REACHED, "expire_time was reached")


def _free(draft: Draft, order: OrderUpdate) -> None:
    instrument = order.terms.instrument
    assert instrument is not None
    draft.unlock(order.terms, held_asset(instrument, order.terms.side), held_for(order))
