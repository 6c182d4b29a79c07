"""The witness sees what is wrong: a ledger of the core is right as it is, and wrong with any one thing changed."""

from collections.abc import Callable

import pytest

from ordertape.v1 import ledger_pb2, order_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from tests.model.in_process import Trial
from tests.model.random_requests import INSTRUMENTS, RandomRequests, Request
from tests.model.witness import Witness

Batch = ledger_pb2.LedgerBatch


@pytest.fixture
def batches() -> list[Batch]:
    """bob's order takes part of ann's."""
    trial = Trial(list(INSTRUMENTS), trades_per_order_max=5)
    for request in [*RandomRequests(trial.witness.model).opening(), _limit("ann", 2, "2"), _limit("bob", 1, "0.5")]:
        trial.take(request)
    assert [command.WhichOneof("command") for command in trial.batches[-1].commands] == [
        "lock", "order_update", "match_exec", "order_update", "order_update",
    ]  # fmt: skip
    return trial.batches


def _limit(user: str, side: int, qty: str) -> Request:
    request = pb.PlaceOrderRequest(
        user_id=user, symbol="BTC-USD", side=side, order_type=order_pb2.ORDER_TYPE_LIMIT, price="100", qty=qty,
        time_in_force=order_pb2.TIME_IN_FORCE_GTC, self_trade_prevention=order_pb2.SELF_TRADE_PREVENTION_NONE,
    )  # fmt: skip
    return Request("place_order", request)


def _see(batches: list[Batch]) -> None:
    witness = Witness()
    for batch in batches:
        witness.see(batch)


def test_a_ledger_of_the_core_is_right_as_it_is(batches: list[Batch]) -> None:
    _see(batches)


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: setattr(batch.commands[-1].order_update, "visible_qty", "1.4"),
        lambda batch: setattr(batch.commands[-1].order_update, "queue_sequence", 99),
        lambda batch: setattr(batch.commands[-1].order_update, "avg_fill_price", "100.1"),
        lambda batch: setattr(batch.commands[-2].order_update.fill, "fee", "0"),
        lambda batch: setattr(batch.commands[-2].order_update, "user_update_number", 3),
        lambda batch: setattr(batch.commands[-1].order_update, "reject_reason", 1),
        lambda batch: setattr(batch.commands[0].lock, "amount", "49"),
        lambda batch: setattr(batch.commands[2].match_exec.maker_receives, "available_after", "1"),
        lambda batch: batch.commands.__delitem__(-1),
    ],
)
def test_one_thing_changed_is_noticed(batches: list[Batch], change: Callable[[Batch], None]) -> None:
    change(batches[-1])
    with pytest.raises(AssertionError):
        _see(batches)
