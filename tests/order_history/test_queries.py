"""The reads over real gRPC, compared with what follows from the ledger the plain way."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_pb2
from services.order_history.stores import FillFilter, OrderFilter
from services.wire.position import encode_position
from tests.support.fake_engine import FakeEngine
from tests.support.history_model import OPEN, fills_of, newest, orders_of
from tests.support.ledger_builder import LedgerBuilder, timestamp_of
from tests.support.running_history import RunningHistory

USERS = ("alice", "bob", "carol")
SYMBOLS = ("BTC-USD", "ETH-USD")


@pytest.fixture(scope="module")
def ledger() -> LedgerBuilder:
    builder = LedgerBuilder()
    builder.open_market(USERS, SYMBOLS)
    builder.live_on(400, USERS, SYMBOLS, open_orders_max=120)
    return builder


@pytest.fixture(scope="module")
def history(ledger: LedgerBuilder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHistory]:
    """A history of the whole ledger, for tests that only read."""
    with (
        FakeEngine(ledger.batches, ledger_id=ledger.ledger_id) as engine,
        RunningHistory(engine, tmp_path_factory.mktemp("history")) as running,
    ):
        running.wait_until_applied(ledger.sequence)
        yield running


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[tuple[LedgerBuilder, FakeEngine, RunningHistory]]:
    """A small ledger and its history, for tests that go on with it."""
    ledger = LedgerBuilder()
    ledger.open_market(USERS, SYMBOLS)
    with FakeEngine(ledger.batches, ledger_id=ledger.ledger_id) as engine, RunningHistory(engine, tmp_path) as running:
        running.wait_until_applied(ledger.sequence)
        yield ledger, engine, running


def position_of(ledger: LedgerBuilder, sequence: int | None = None) -> str:
    return encode_position(ledger.ledger_id, ledger.sequence if sequence is None else sequence)


def walk(call: Callable[..., Any], request: Any, field: str) -> list[Any]:
    """Everything on all pages. No page is longer than it was asked to be."""
    found: list[Any] = []
    while True:
        response = call(request, timeout=10)
        items = getattr(response, field)
        assert len(items) <= (request.page_size or 50)
        found += items
        if not response.next_page_token:
            return found
        request.page_token = response.next_page_token


def failure(call: Callable[..., Any], request: Any, timeout: float = 10) -> tuple[grpc.StatusCode, str, Any]:
    """(code, reason, violated fields) of a call that has to fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=timeout)
    status = rpc_status.from_call(caught.value)
    assert status is not None, caught.value
    info, fields = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status.details[0].Unpack(info)
    if len(status.details) > 1:
        status.details[1].Unpack(fields)
    return caught.value.code(), info.reason, sorted({violation.field for violation in fields.field_violations})


def test_every_order_is_found_as_it_stands_by_either_name(ledger: LedgerBuilder, history: RunningHistory) -> None:
    for order in list(ledger.orders.values())[:100]:
        request = pb.GetOrderRequest(user_id=order.user_id, order_id=order.order_id)
        answer = history.stub.GetOrder(request)
        assert answer.order == order
        assert answer.position == position_of(ledger)
        if order.HasField("client_order_id"):
            request = pb.GetOrderRequest(user_id=order.user_id, client_order_id=order.client_order_id)
            assert history.stub.GetOrder(request).order == order


def test_an_order_is_found_as_it_stood_at_each_position_and_time(ledger: LedgerBuilder, history: RunningHistory) -> None:
    order = max(ledger.orders.values(), key=lambda o: o.update_number)
    timeline = [u for u in ledger.updates if u.order_id == order.order_id]
    assert len(timeline) > 3
    for batch in ledger.batches:
        request = pb.GetOrderRequest(user_id=order.user_id, order_id=order.order_id)
        request.as_of = position_of(ledger, batch.last_sequence)
        before = [u for u in timeline if u.sequence <= batch.last_sequence]
        if before:
            answer = history.stub.GetOrder(request)
            assert answer.order == before[-1]
            assert answer.position == request.as_of
        elif batch.first_sequence > timeline[0].sequence - 20:
            assert failure(history.stub.GetOrder, request)[:2] == (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND")
    for update, following in zip(timeline, [*timeline[1:], None], strict=True):
        request = pb.GetOrderRequest(user_id=order.user_id, order_id=order.order_id, as_of_time=update.timestamp)
        assert history.stub.GetOrder(request).order == update
        if following is not None:
            request.as_of_time.CopyFrom(timestamp_of(following.timestamp.ToMicroseconds() - 1))
            answer = history.stub.GetOrder(request)
            assert answer.order == update
            assert int(answer.position.split(":")[1]) < following.sequence
    request.as_of_time.CopyFrom(timestamp_of(timeline[0].timestamp.ToMicroseconds() - 1))
    assert failure(history.stub.GetOrder, request)[0] == grpc.StatusCode.NOT_FOUND


def test_an_order_of_another_user_is_not_found(ledger: LedgerBuilder, history: RunningHistory) -> None:
    order = next(o for o in ledger.orders.values() if o.user_id == "alice" and o.HasField("client_order_id"))
    not_found = (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND", [])
    stub = history.stub
    for names in ({"order_id": order.order_id}, {"client_order_id": order.client_order_id}, {"order_id": 10**9}):
        assert failure(stub.GetOrder, pb.GetOrderRequest(user_id="bob", **names)) == not_found
        assert failure(stub.ListOrderUpdates, pb.ListOrderUpdatesRequest(user_id="bob", **names)) == not_found
    assert not stub.ListFills(pb.ListFillsRequest(user_id="bob", order_id=order.order_id)).fills


def test_active_orders_are_the_open_ones_newest_first(ledger: LedgerBuilder, history: RunningHistory) -> None:
    for user_id in USERS:
        for filters in ({}, {"symbols": ["ETH-USD"]}, {"side": order_pb2.SIDE_SELL}, {"symbols": SYMBOLS, "side": 1}):
            expected = [
                order
                for order in reversed(ledger.open_orders(user_id))
                if order.symbol in filters.get("symbols", SYMBOLS) and filters.get("side", order.side) == order.side
            ]
            for page_size in (1, 7, 0):
                request = pb.ListActiveOrdersRequest(user_id=user_id, page_size=page_size, **filters)
                assert walk(history.stub.ListActiveOrders, request, "orders") == expected


def test_pages_of_the_order_history_are_what_the_filter_leaves_of_all_orders(
    ledger: LedgerBuilder, history: RunningHistory
) -> None:
    chance = random.Random(3)
    times = [update.timestamp.ToMicroseconds() for update in ledger.updates]
    bounds = ("created_from", "created_until", "updated_from", "updated_until")
    for _ in range(60):
        user_id = chance.choice(USERS)
        symbols = chance.choice(((), ("BTC-USD",), SYMBOLS))
        statuses = frozenset(chance.sample(range(1, 7), chance.choice((0, 0, 1, 3))))
        side = chance.choice((0, 0, 1, 2))
        chosen = {name: chance.choice(times) for name in bounds if chance.random() < 0.25}
        request = pb.ListOrderHistoryRequest(
            user_id=user_id, symbols=symbols, statuses=statuses, side=side, page_size=chance.choice((1, 6, 50, 500)),
            **{name: timestamp_of(time) for name, time in chosen.items()},
        )  # fmt: skip
        expected = orders_of(ledger.updates, user_id, OrderFilter(symbols, statuses, side, **chosen))
        assert walk(history.stub.ListOrderHistory, request, "orders") == expected


def test_a_bound_between_two_microseconds_is_exact(ledger: LedgerBuilder, history: RunningHistory) -> None:
    order = orders_of(ledger.updates, "alice", OrderFilter())[5]
    between = timestamp_of(order.created_at.ToMicroseconds())
    between.nanos += 500
    request = pb.ListOrderHistoryRequest(user_id="alice", created_from=between, page_size=500)
    assert order.order_id not in [o.order_id for o in history.stub.ListOrderHistory(request).orders]
    request = pb.ListOrderHistoryRequest(user_id="alice", created_until=between)
    assert history.stub.ListOrderHistory(request).orders[0] == order


def test_an_orders_timeline_comes_whole_in_pages(ledger: LedgerBuilder, history: RunningHistory) -> None:
    order = max((o for o in ledger.orders.values() if o.HasField("client_order_id")), key=lambda o: o.update_number)
    expected = [u for u in ledger.updates if u.order_id == order.order_id]
    for names in ({"order_id": order.order_id}, {"client_order_id": order.client_order_id}):
        for page_size in (1, 2, 500):
            request = pb.ListOrderUpdatesRequest(user_id=order.user_id, page_size=page_size, **names)
            assert walk(history.stub.ListOrderUpdates, request, "updates") == expected


def test_pages_of_fills_are_what_the_filter_leaves_of_all_fills(ledger: LedgerBuilder, history: RunningHistory) -> None:
    chance = random.Random(4)
    times = [update.timestamp.ToMicroseconds() for update in ledger.updates]
    for _ in range(40):
        user_id, symbols = chance.choice(USERS), chance.choice(((), ("BTC-USD",), SYMBOLS))
        order_id = chance.choice((None, None, chance.choice(list(ledger.orders))))
        chosen = {name: chance.choice(times) for name in ("traded_from", "traded_until") if chance.random() < 0.3}
        request = pb.ListFillsRequest(
            user_id=user_id, symbols=symbols, order_id=order_id, page_size=chance.choice((1, 9, 500)),
            **{name: timestamp_of(time) for name, time in chosen.items()},
        )  # fmt: skip
        expected = [
            pb.OrderFill(
                fill=u.fill, order_id=u.order_id, symbol=u.symbol, side=u.side, sequence=u.sequence, timestamp=u.timestamp,
                client_order_id=u.client_order_id if u.HasField("client_order_id") else None,
            )
            for u in fills_of(ledger.updates, user_id, FillFilter(symbols, order_id, **chosen))
        ]  # fmt: skip
        assert walk(history.stub.ListFills, request, "fills") == expected


def test_a_page_has_50_and_at_most_500(ledger: LedgerBuilder, history: RunningHistory) -> None:
    busiest = max(USERS, key=lambda user_id: len(fills_of(ledger.updates, user_id, FillFilter())))
    assert len(history.stub.ListFills(pb.ListFillsRequest(user_id=busiest)).fills) == 50
    request = pb.ListOrderHistoryRequest(user_id=busiest, page_size=10**6)
    everything = orders_of(ledger.updates, busiest, OrderFilter())
    assert len(history.stub.ListOrderHistory(request).orders) == min(len(everything), 500)


def test_a_user_without_orders_has_empty_lists_that_end(history: RunningHistory) -> None:
    stub = history.stub
    for call, request, field in (
        (stub.ListActiveOrders, pb.ListActiveOrdersRequest(user_id="nobody"), "orders"),
        (stub.ListOrderHistory, pb.ListOrderHistoryRequest(user_id="nobody"), "orders"),
        (stub.ListFills, pb.ListFillsRequest(user_id="nobody"), "fills"),
    ):
        assert walk(call, request, field) == []


def test_a_read_waits_for_the_position_that_it_asks_for(growing: tuple[LedgerBuilder, FakeEngine, RunningHistory]) -> None:
    ledger, engine, history = growing
    applied = len(ledger.batches)
    order_id = ledger.place("alice", client_order_id="mine")
    position = position_of(ledger)
    stub = history.stub
    waiting = [
        stub.GetOrder.future(pb.GetOrderRequest(user_id="alice", order_id=order_id, at_least=position), timeout=10),
        stub.GetOrder.future(pb.GetOrderRequest(user_id="alice", client_order_id="mine", as_of=position), timeout=10),
        stub.ListActiveOrders.future(pb.ListActiveOrdersRequest(user_id="alice", at_least=position), timeout=10),
        stub.ListOrderHistory.future(pb.ListOrderHistoryRequest(user_id="alice", at_least=position), timeout=10),
        stub.ListOrderUpdates.future(
            pb.ListOrderUpdatesRequest(user_id="alice", order_id=order_id, at_least=position), timeout=10
        ),
        stub.ListFills.future(pb.ListFillsRequest(user_id="alice", at_least=position), timeout=10),
        stub.GetHistoryStatus.future(pb.GetHistoryStatusRequest(at_least=position), timeout=10),
    ]
    assert not stub.ListActiveOrders(pb.ListActiveOrdersRequest(user_id="alice")).orders
    engine.publish(*ledger.batches[applied:])
    answers = [call.result() for call in waiting]
    assert all(answer.position == position for answer in answers)
    order = ledger.orders[order_id]
    assert answers[0].order == answers[1].order == answers[2].orders[0] == answers[3].orders[0] == answers[4].updates[0] == order


def test_a_position_that_is_not_reached_in_time_names_the_one_that_is(
    growing: tuple[LedgerBuilder, FakeEngine, RunningHistory],
) -> None:
    ledger, _, history = growing
    ahead = position_of(ledger, ledger.sequence + 1)
    for request in (
        pb.GetOrderRequest(user_id="alice", order_id=1, at_least=ahead),
        pb.GetOrderRequest(user_id="alice", order_id=1, as_of=ahead),
    ):
        assert failure(history.stub.GetOrder, request, timeout=0.5)[:2] == (grpc.StatusCode.UNAVAILABLE, "NOT_YET_APPLIED")
    with pytest.raises(grpc.RpcError) as caught:
        history.stub.ListFills(pb.ListFillsRequest(user_id="alice", at_least=ahead), timeout=0.5)
    info = error_details_pb2.ErrorInfo()
    rpc_status.from_call(caught.value).details[0].Unpack(info)
    assert info.metadata["applied_position"] == position_of(ledger)


def test_a_position_of_another_ledger_is_out_of_range(history: RunningHistory) -> None:
    stranger = encode_position("f" * 16, 1)
    out_of_range = (grpc.StatusCode.OUT_OF_RANGE, "POSITION_OUT_OF_RANGE")
    for field in ("at_least", "as_of"):
        request = pb.GetOrderRequest(user_id="alice", order_id=1, **{field: stranger})
        assert failure(history.stub.GetOrder, request)[:2] == out_of_range
    assert failure(history.stub.ListFills, pb.ListFillsRequest(user_id="alice", at_least=stranger))[:2] == out_of_range


def test_a_time_to_come_is_invalid(history: RunningHistory) -> None:
    request = pb.GetOrderRequest(user_id="alice", order_id=1)
    request.as_of_time.GetCurrentTime()
    request.as_of_time.seconds += 60
    expected = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", ["as_of_time"])
    assert failure(history.stub.GetOrder, request) == expected


def test_a_question_about_a_time_waits_for_what_the_engine_has_synced_by_now(
    growing: tuple[LedgerBuilder, FakeEngine, RunningHistory],
) -> None:
    ledger, engine, history = growing
    order_id = ledger.place("alice")
    engine.append(*ledger.batches[-1:])  # durable, but its frame was lost: the next heartbeats will show it
    request = pb.GetOrderRequest(user_id="alice", order_id=order_id, as_of_time=ledger.orders[order_id].timestamp)
    assert history.stub.GetOrder(request, timeout=10).order == ledger.orders[order_id]
    engine.stop()
    unavailable = (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_DOWN")
    assert failure(history.stub.GetOrder, request, timeout=2)[:2] == unavailable


def test_a_list_goes_on_where_it_was_though_orders_end_between_its_pages(
    growing: tuple[LedgerBuilder, FakeEngine, RunningHistory],
) -> None:
    ledger, engine, history = growing
    applied = len(ledger.batches)
    order_ids = [ledger.place("alice") for _ in range(30)]
    engine.publish(*ledger.batches[applied:])
    request = pb.ListOrderHistoryRequest(user_id="alice", page_size=4, at_least=position_of(ledger))
    listed: list[int] = []
    while True:
        answer = history.stub.ListOrderHistory(request, timeout=10)
        listed += [order.order_id for order in answer.orders]
        assert all(order == ledger.orders[order.order_id] for order in answer.orders)
        if not answer.next_page_token:
            break
        applied = len(ledger.batches)
        for order_id in (order_ids[-1 - len(listed)], order_ids[0], order_ids[len(listed)]):
            if ledger.orders[order_id].status in OPEN:
                ledger.cancel(order_id)
        ledger.place("alice")
        engine.publish(*ledger.batches[applied:])
        request.page_token, request.at_least = answer.next_page_token, position_of(ledger)
    assert listed == order_ids[::-1]


@pytest.mark.parametrize(
    ("call", "request_", "fields"),
    [
        ("GetOrder", pb.GetOrderRequest(), ["order", "user_id"]),
        ("GetOrder", pb.GetOrderRequest(user_id="a b", client_order_id="x" * 65), ["client_order_id", "user_id"]),
        ("GetOrder", pb.GetOrderRequest(user_id="a", order_id=0, at_least="7", as_of="x"), ["as_of", "at_least", "order_id"]),
        (
            "GetOrder",
            pb.GetOrderRequest(user_id="a", order_id=1, as_of=f"{'0' * 16}:1", as_of_time=timestamp_of(1)),
            ["as_of_time"],
        ),
        ("ListActiveOrders", pb.ListActiveOrdersRequest(page_size=-1, page_token="?"), ["page_size", "page_token", "user_id"]),
        ("ListActiveOrders", pb.ListActiveOrdersRequest(user_id="a", symbols=["$"], side=7), ["side", "symbols"]),
        ("ListActiveOrders", pb.ListActiveOrdersRequest(user_id="a", symbols=["B"] * 101), ["symbols"]),
        ("ListOrderHistory", pb.ListOrderHistoryRequest(user_id="a", statuses=[0, 9], at_least="x"), ["at_least", "statuses"]),
        (
            "ListOrderHistory",
            pb.ListOrderHistoryRequest(user_id="a", created_from={"nanos": -1}, updated_until={"seconds": 10**12}),
            ["created_from", "updated_until"],
        ),
        ("ListOrderUpdates", pb.ListOrderUpdatesRequest(user_id="", page_size=-5), ["order", "page_size", "user_id"]),
        ("ListFills", pb.ListFillsRequest(user_id="a", order_id=-1, traded_from={"nanos": -1}), ["order_id", "traded_from"]),
        ("GetHistoryStatus", pb.GetHistoryStatusRequest(at_least="x"), ["at_least"]),
    ],
)
def test_what_is_wrong_with_a_request_is_said_all_at_once(
    history: RunningHistory, call: str, request_: Any, fields: list[str]
) -> None:
    expected = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", fields)
    assert failure(getattr(history.stub, call), request_) == expected


def test_a_token_of_another_list_or_filter_is_refused(history: RunningHistory) -> None:
    stub = history.stub
    token = stub.ListOrderHistory(pb.ListOrderHistoryRequest(user_id="alice", page_size=1)).next_page_token
    assert token
    assert stub.ListOrderHistory(pb.ListOrderHistoryRequest(user_id="alice", page_size=9, page_token=token)).orders
    for call, request in (
        (stub.ListOrderHistory, pb.ListOrderHistoryRequest(user_id="bob", page_token=token)),
        (stub.ListOrderHistory, pb.ListOrderHistoryRequest(user_id="alice", side=1, page_token=token)),
        (stub.ListFills, pb.ListFillsRequest(user_id="alice", page_token=token)),
    ):
        assert failure(call, request) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", ["page_token"])


def test_the_model_sees_each_order_once(ledger: LedgerBuilder) -> None:
    orders = [order for user_id in USERS for order in orders_of(ledger.updates, user_id, OrderFilter())]
    assert sorted(order.order_id for order in orders) == sorted(newest(ledger.updates)) == sorted(ledger.orders)
