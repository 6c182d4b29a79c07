"""The whole product of statuses and events, one service each: what the lifecycle has no place for halts the history, behind all
that came before it.
"""

from itertools import product
from pathlib import Path

import pytest

from ordertape.v1 import order_pb2
from services.domain.kinds import OrderStatus
from services.domain.lifecycle import EXEC_TYPES, TRANSITIONS, OrderEvent
from tests.support.fake_engine import FakeEngine
from tests.support.ledger_builder import LedgerBuilder
from tests.support.running_history import RunningHistory

BUY, SELL = order_pb2.SIDE_BUY, order_pb2.SIDE_SELL
# What each event leaves an order in wherever it can happen; Replace and Trigger leave it as it was.
AFTER = {event: after for (before, event), after in TRANSITIONS.items() if before != after}
IMPOSSIBLE = [pair for pair in product((None, *OrderStatus), OrderEvent) if pair not in TRANSITIONS]


@pytest.fixture
def ledger() -> LedgerBuilder:
    builder = LedgerBuilder()
    builder.open_market(("alice", "bob"))
    return builder


def order_in(ledger: LedgerBuilder, status: OrderStatus | None) -> order_pb2.OrderUpdate:
    """An order of alice's that has come to a status; for None one that no update was ever told of."""
    if status is None:
        return ledger._new_order("alice", BUY, 100, 10, "BTC-USD", None, False)
    if status == OrderStatus.REJECTED:
        return ledger.orders[ledger.reject("alice")]
    order_id = ledger.place("alice", BUY, qty=10, immediate=status == OrderStatus.EXPIRED)
    if status == OrderStatus.CANCELLED:
        ledger.cancel(order_id)
    if status in (OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED):
        qty = 10 if status == OrderStatus.FILLED else 4
        ledger.place("bob", SELL, qty=qty, takes=[(order_id, qty)])
    assert ledger.orders[order_id].status == status
    return ledger.orders[order_id]


@pytest.mark.parametrize(("status", "event"), IMPOSSIBLE)
def test_what_cannot_happen_to_an_order_halts_the_history(
    ledger: LedgerBuilder, tmp_path: Path, status: OrderStatus | None, event: OrderEvent
) -> None:
    order = order_in(ledger, status)
    good = ledger.sequence
    ledger._begin()
    after = AFTER.get(event, status or OrderStatus.NEW)
    ledger._update(order, status=int(after), exec_type=int(EXEC_TYPES[event]))
    ledger._end()
    with FakeEngine(ledger.batches) as engine, RunningHistory(engine, tmp_path) as history:
        assert f"ledger sequence {good + 1}: order {order.order_id} cannot go from" in history.wait_until_halted()
        assert history.status().applied_sequence == good
        assert not history.is_serving()


def test_the_pairs_are_all_that_the_table_leaves_out() -> None:
    assert len(IMPOSSIBLE) + len(TRANSITIONS) == 7 * 9
    assert AFTER.keys() == set(OrderEvent) - {OrderEvent.REPLACE, OrderEvent.TRIGGER}
