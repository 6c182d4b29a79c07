import itertools
from collections.abc import Callable

import pytest

from services.domain.draft import Draft
from services.domain.errors import ImpossibleTransition
from services.domain.kinds import CancelReason, ExecType, ExpireReason, LiquiditySide, OrderStatus, Side, TimeInForce
from services.domain.lifecycle import EXEC_TYPES, OPEN_STATUSES, TRANSITIONS, OrderEvent, allows, next_status
from services.domain.order import Fill, OrderUpdate
from tests.support.exchange import Core, updates

STATUSES = [None, *OrderStatus]


@pytest.mark.parametrize(("status", "event"), list(itertools.product(STATUSES, OrderEvent)))
def test_every_pair_of_status_and_event_is_either_in_the_table_or_refused(status: OrderStatus | None, event: OrderEvent) -> None:
    if (status, event) in TRANSITIONS:
        after = next_status(status, event)
        assert allows(status, EXEC_TYPES[event], after)
    else:
        with pytest.raises(ImpossibleTransition):
            next_status(status, event)


def test_nothing_happens_to_a_closed_order() -> None:
    for status, _ in TRANSITIONS:
        assert status is None or status in OPEN_STATUSES


def test_what_a_reader_may_see_is_exactly_what_the_table_makes() -> None:
    seen = {
        (before, exec_type, after)
        for before, exec_type, after in itertools.product(STATUSES, ExecType, OrderStatus)
        if allows(before, exec_type, after)
    }
    assert seen == {(before, EXEC_TYPES[event], after) for (before, event), after in TRANSITIONS.items()}
    assert not allows(None, 99, 1)


def order_in(core: Core, status: OrderStatus) -> OrderUpdate:
    """An order that has come to a status."""
    time_in_force = TimeInForce.IOC if status == OrderStatus.EXPIRED else TimeInForce.GTC
    price = "0.001" if status == OrderStatus.REJECTED else "100"
    order_id = updates(core.place("a", Side.BUY, price=price, qty="2", time_in_force=time_in_force))[0].terms.order_id
    if status == OrderStatus.CANCELLED:
        core.cancel("a", order_id)
    if status in (OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED):
        core.place("b", Side.SELL, price="100", qty="2" if status == OrderStatus.FILLED else "1")
    order = core.timeline(order_id)[-1]
    assert order.status == status
    return order


def happen(draft: Draft, order: OrderUpdate, event: OrderEvent) -> None:
    """Have the engine's code say that an event has happened to an order."""
    fill = Fill(1, 10000, 1, 1, LiquiditySide.MAKER, 0)
    more, less = (order.terms.replaced(qty=order.filled + change) for change in (1, 0))
    say: dict[OrderEvent, Callable[[], object]] = {
        OrderEvent.TRADE_IN_PART: lambda: draft.trade(order, fill, ends=False, visible=0, new_place=False),
        OrderEvent.TRADE_IN_FULL: lambda: draft.trade(order, fill, ends=True, visible=0, new_place=False),
        OrderEvent.CANCEL: lambda: draft.cancel(order, CancelReason.USER),
        OrderEvent.EXPIRE: lambda: draft.expire(order, ExpireReason.IOC_REST, ""),
        OrderEvent.REPLACE: lambda: draft.replace(order, more, visible=0, new_place=False, request_id=None),
        OrderEvent.REPLACE_TO_FILLED: lambda: draft.replace(order, less, visible=0, new_place=False, request_id=None),
        OrderEvent.TRIGGER: lambda: draft.trigger(order, 0),
    }
    say[event]()


# An order is accepted or rejected before there is one: a second beginning is what the state refuses, below.
LATER_EVENTS = [event for event in OrderEvent if event not in (OrderEvent.ACCEPT, OrderEvent.REJECT)]


@pytest.mark.parametrize(("status", "event"), list(itertools.product(OrderStatus, LATER_EVENTS)))
def test_the_engine_says_of_an_order_what_the_table_has_and_refuses_all_else(status: OrderStatus, event: OrderEvent) -> None:
    core = Core()
    core.deposit("a", USD="1000")
    core.deposit("b", BTC="10")
    order = order_in(core, status)
    draft = Draft(core.state, core.time)
    if (status, event) not in TRANSITIONS:
        with pytest.raises(ImpossibleTransition, match="cannot happen"):
            happen(draft, order, event)
        assert not draft.events
        return
    happen(draft, order, event)
    (update,) = updates(draft.events)
    assert (update.previous_status, update.exec_type, update.status) == (status, EXEC_TYPES[event], TRANSITIONS[status, event])


@pytest.mark.parametrize("claimed", [None, *OrderStatus])
@pytest.mark.parametrize("status", sorted(OPEN_STATUSES))
def test_the_state_takes_no_update_that_does_not_follow_on_how_the_order_stands(
    status: OrderStatus, claimed: OrderStatus | None
) -> None:
    core = Core()
    core.deposit("a", USD="1000")
    core.deposit("b", BTC="10")
    draft = Draft(core.state, core.time)
    happen(draft, order_in(core, status), OrderEvent.CANCEL)
    (update,) = updates(draft.events)
    update.previous_status = claimed
    before = core.state.describe()
    if claimed == status:
        core.state.apply([update], core.time)
        assert len(core.state.orders) == 0
    else:
        with pytest.raises(ImpossibleTransition):
            core.state.apply([update], core.time)
        assert core.state.describe() == before
