"""One order that takes thousands: a ledger batch of megabytes, atomic everywhere, also where it needs several messages and is cut
off in the middle.
"""

import random
import time

from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_pb2
from services.wire.position import encode_position
from tests.support.exact_watch import watching
from tests.support.exchange_process import Exchange
from tests.support.exchange_proof import prove_acknowledged, prove_running, prove_stopped
from tests.support.kills import kill_both, kill_engine, kill_history
from tests.support.order_flow import Load, Step

MAKERS = 3_000
SUBMITTED_AT_ONCE = 500


def place(name: str, user_id: str, side: int, qty: str, **changes: object) -> engine_pb2.SubmitOrdersItem:
    return engine_pb2.SubmitOrdersItem(
        place=engine_pb2.PlaceOrderRequest(
            user_id=user_id, client_order_id=name, symbol="BTC-USD", side=side,
            **{"order_type": order_pb2.ORDER_TYPE_LIMIT, "price": "60000", "qty": qty, **changes},
        )  # type: ignore[arg-type]
    )  # fmt: skip


def makers() -> list[Step]:
    """Money, and a book of small asks."""
    steps: list[Step] = [
        engine_pb2.DepositRequest(user_id=user_id, asset=asset, amount="1000000", request_id=f"in-{asset}")
        for user_id in ("maker", "taker")
        for asset in ("USD", "BTC")
    ]
    asks = [place(f"ask{n}", "maker", order_pb2.SIDE_SELL, "0.001") for n in range(MAKERS)]
    begins = range(0, MAKERS, SUBMITTED_AT_ONCE)
    return [*steps, *(engine_pb2.SubmitOrdersRequest(items=asks[begin : begin + SUBMITTED_AT_ONCE]) for begin in begins)]


def test_a_batch_of_thousands_of_trades_is_seen_whole_and_once_over_kills(exchange: Exchange) -> None:
    chance = random.Random(8)
    taking = engine_pb2.SubmitOrdersRequest(items=[place("all", "taker", order_pb2.SIDE_BUY, str(MAKERS / 1000))])
    with (
        watching(exchange.history_address, ("maker", "taker"), encode_position(exchange.ledger_id, 0)) as watches,
        Load(exchange.engine_address, [*makers(), taking]) as load,
    ):
        load.wait_for(0.99)
        for kill in (kill_history, kill_history, kill_engine, kill_both):
            time.sleep(chance.uniform(0, 0.1))
            kill(exchange)
        load.finish()
        ledger = prove_running(exchange, watches)
        answer = load.sent[-1].answer
        assert isinstance(answer, engine_pb2.SubmitOrdersResponse)
        assert len(answer.results[0].updates) + answer.results[0].updates_omitted == 1 + MAKERS
        assert max(len(batch.data) for batch in ledger.batches) > 1 << 20
        with exchange.history_client() as history:
            request = history_pb2.GetOrderRequest(user_id="taker", client_order_id="all", at_least=answer.position)
            order = history.call(history.orders.GetOrder, request).order
            assert (order.status, order.filled_qty, order.update_number) == (order_pb2.ORDER_STATUS_FILLED, "3", 1 + MAKERS)
        exchange.terminate()
        prove_acknowledged(ledger, load.sent)
        prove_stopped(exchange, ledger)
