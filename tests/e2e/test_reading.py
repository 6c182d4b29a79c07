"""Reading across both services: what was written is read at once where its position is named, and the past is as the timeline
says, at every position and every time of an order's life, also after both were killed.
"""

from collections.abc import Iterator

import grpc
import pytest

from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_pb2
from services.cli.client import Engine, History
from services.wire.position import decode_position, encode_position
from tests.support.exchange_process import Exchange
from tests.support.exchange_proof import WrittenLedger
from tests.support.kills import kill_both
from tests.support.order_flow import Load, Step, flow_of

OPEN = (order_pb2.ORDER_STATUS_NEW, order_pb2.ORDER_STATUS_PARTIALLY_FILLED)


@pytest.fixture
def engine(exchange: Exchange) -> Iterator[Engine]:
    with exchange.engine_client() as engine:
        for user_id in ("writer", "maker"):
            for asset, amount in (("USD", "1000000"), ("BTC", "100")):
                request = engine_pb2.DepositRequest(user_id=user_id, asset=asset, amount=amount, request_id=f"in-{asset}")
                engine.call(engine.operator.Deposit, request)
        yield engine


@pytest.fixture
def history(exchange: Exchange) -> Iterator[History]:
    with exchange.history_client() as history:
        yield history


def place(engine: Engine, name: str, side: int, price: str, qty: str, user_id: str = "writer") -> engine_pb2.PlaceOrderResponse:
    request = engine_pb2.PlaceOrderRequest(
        user_id=user_id, client_order_id=name, symbol="BTC-USD", side=side, order_type=order_pb2.ORDER_TYPE_LIMIT,
        price=price, qty=qty,
    )  # type: ignore[arg-type]  # fmt: skip
    return engine.call(engine.orders.PlaceOrder, request)


def order_at(history: History, order_id: int, **question: object) -> order_pb2.OrderUpdate:
    request = history_pb2.GetOrderRequest(user_id="writer", order_id=order_id, **question)  # type: ignore[arg-type]
    return history.call(history.orders.GetOrder, request).order


def test_a_read_at_the_position_of_a_write_shows_it_under_load(exchange: Exchange, engine: Engine, history: History) -> None:
    busy = flow_of(seed=4, messages=400)
    with Load(exchange.engine_address, busy) as load:
        for number in range(100):
            placed = place(engine, f"w{number}", order_pb2.SIDE_BUY, str(30_000 + number), "0.001")
            order, at = placed.updates[-1], placed.position
            assert order_at(history, order.order_id, at_least=at) == order
            active = history_pb2.ListActiveOrdersRequest(user_id="writer", page_size=1, at_least=at)
            assert list(history.call(history.orders.ListActiveOrders, active).orders) == [order]
            if number % 2:
                request = engine_pb2.CancelOrderRequest(user_id="writer", order_id=order.order_id, request_id=f"c{number}")
                cancelled = engine.call(engine.orders.CancelOrder, request)
                listed = history_pb2.ListOrderHistoryRequest(user_id="writer", page_size=1, at_least=cancelled.position)
                assert list(history.call(history.orders.ListOrderHistory, listed).orders) == list(cancelled.updates)
        assert load.answered > 0
        load.finish()


def test_as_of_every_position_and_time_of_an_orders_life_is_what_the_timeline_says(
    exchange: Exchange, engine: Engine, history: History
) -> None:
    first = place(engine, "first", order_pb2.SIDE_BUY, "50000", "0.01")
    life = place(engine, "life", order_pb2.SIDE_BUY, "60000", "1")
    order_id = life.updates[-1].order_id
    for number in range(4):
        place(engine, f"ask{number}", order_pb2.SIDE_SELL, "60000", "0.2", user_id="maker")
        place(engine, f"other{number}", order_pb2.SIDE_BUY, "40000", "0.01")
    request = engine_pb2.CancelOrderRequest(user_id="writer", client_order_id="life", request_id="end")
    end = engine.call(engine.orders.CancelOrder, request)
    last = place(engine, "last", order_pb2.SIDE_BUY, "50000", "0.01")
    kill_both(exchange)

    asked = history_pb2.ListOrderUpdatesRequest(user_id="writer", order_id=order_id, at_least=last.position)
    timeline = list(history.call(history.orders.ListOrderUpdates, asked).updates)
    assert [update.status for update in timeline] == [
        order_pb2.ORDER_STATUS_NEW, *[order_pb2.ORDER_STATUS_PARTIALLY_FILLED] * 4, order_pb2.ORDER_STATUS_CANCELLED
    ]  # fmt: skip
    assert timeline[-1] == end.updates[-1]
    assert timeline == [update for update in WrittenLedger(exchange.engine_folder).updates if update.order_id == order_id]

    begin, until = decode_position(first.position).sequence, decode_position(last.position).sequence
    for sequence in range(begin, until + 1):
        so_far = [update for update in timeline if update.sequence <= sequence]
        position = encode_position(exchange.ledger_id, sequence)
        if so_far:
            assert order_at(history, order_id, as_of=position) == so_far[-1]
        else:
            assert_not_found(history, order_id, as_of=position)
    for update in timeline:
        assert order_at(history, order_id, as_of_time=update.timestamp) == update
    assert_not_found(history, order_id, as_of_time=first.updates[-1].timestamp)


def test_a_position_ahead_of_the_history_waits_until_the_history_is_back(
    exchange: Exchange, engine: Engine, history: History, flow: list[Step]
) -> None:
    exchange.history.freeze()
    with Load(exchange.engine_address, flow[:80]) as load:
        load.finish()
    placed = place(engine, "ahead", order_pb2.SIDE_BUY, "50000", "0.01")
    exchange.history.kill()
    exchange.history.launch()
    order = placed.updates[-1]
    assert order_at(history, order.order_id, at_least=placed.position) == order
    assert order_at(history, order.order_id, as_of=placed.position) == order


def assert_not_found(history: History, order_id: int, **question: object) -> None:
    request = history_pb2.GetOrderRequest(user_id="writer", order_id=order_id, **question)  # type: ignore[arg-type]
    with pytest.raises(grpc.RpcError) as refused:
        history.orders.GetOrder(request, timeout=10)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
