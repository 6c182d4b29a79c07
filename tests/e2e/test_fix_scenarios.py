"""The order state changes of FIX 4.4 / 5.0 SP2 Appendix D ("Order State Change Matrices"; the numbers in the names), each told
message by message: what happened, the status, filled, left, the reason. ``*``: no call of the order's own user caused it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_pb2
from services.matching_engine.bootstrap import Engine
from tests.support.engine_client import (
    BUY,
    FOK,
    IOC,
    SELL,
    EngineClient,
    cancel,
    failure_of,
    limit,
    market,
    replace,
)
from tests.support.engine_clock import MovableClock
from tests.support.eventually import eventually
from tests.support.timelines import Scenes, Trader, line_of, scenes_in_process

DAY = order_pb2.TIME_IN_FORCE_DAY
CODE = grpc.StatusCode


class Stage(NamedTuple):
    """An exchange with two users who have just come to it."""

    scenes: Scenes
    engine: Engine
    a: Trader
    b: Trader


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scenes, Engine]]:
    with scenes_in_process(tmp_path_factory.mktemp("scenes"), session_end_seconds=0) as running:
        yield running


@pytest.fixture
def stage(exchange: tuple[Scenes, Engine]) -> Iterator[Stage]:
    """The book is empty before and after each scene."""
    scenes, engine = exchange
    stage = Stage(scenes, engine, scenes.trader("a"), scenes.trader("b"))
    yield stage
    for trader in (stage.a, stage.b):
        scenes.client.cancel_orders(trader.user_id)


def asks(trader: Trader, qty: str = "10", price: str = "300", **changes: Any) -> int:
    return trader.place(limit, SELL, price, qty, **changes)


def bids(trader: Trader, qty: str, price: str = "300", **changes: Any) -> int:
    return trader.place(limit, BUY, price, qty, **changes)


def too_late(call: Callable[[], object], status: str = "FILLED") -> None:
    """The call fails since the order is closed already."""
    failure = failure_of(call)
    assert (failure.code, failure.reason, failure.metadata["status"]) == (CODE.FAILED_PRECONDITION, "ORDER_CLOSED", status)
    assert failure.text.startswith("too late")


def test_a_1_a_an_order_is_filled_in_two_or_more_parts(stage: Stage) -> None:
    order = asks(stage.a)
    first, second = bids(stage.b, "2"), bids(stage.b, "8")
    stage.a.assert_life(order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8", "* TRADE FILLED 10 0")
    stage.b.assert_life(first, "NEW NEW 0 2", "TRADE FILLED 2 0")
    stage.b.assert_life(second, "NEW NEW 0 8", "TRADE FILLED 8 0")


def test_a_1_b_a_part_filled_day_order_is_done_for_the_day(tmp_path: Path) -> None:
    session_end = (int(time.time()) + 3600) % 86400
    with scenes_in_process(tmp_path, session_end_seconds=session_end) as (scenes, engine):
        a, b = scenes.trader("a"), scenes.trader("b")
        order = asks(a, time_in_force=DAY)
        bids(b, "2")
        assert a.order(order).expire_time.seconds % 86400 == session_end
        MovableClock(engine).ahead_seconds = 3601
        eventually(lambda: a.now(order).startswith("EXPIRED"))
        a.assert_life(
            order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8", "* EXPIRED EXPIRED 2 0 SESSION_END"
        )  # fmt: skip
        assert a.order(order).timestamp.ToMicroseconds() >= a.order(order).expire_time.ToMicroseconds()


def test_b_1_a_an_order_with_nothing_filled_is_cancelled(stage: Stage) -> None:
    order = asks(stage.a)
    stage.a.cancel(order, "why")
    stage.a.assert_life(order, "NEW NEW 0 10", "CANCELLED CANCELLED 0 0 USER")
    assert stage.a.order(order).request_id == "why"


def test_b_1_b_a_part_filled_order_is_filled_further_while_its_cancel_is_on_its_way(stage: Stage) -> None:
    order = asks(stage.a)
    bids(stage.b, "2")
    bid = limit(stage.b.user_id, BUY, "300", "5")
    bought, cancelled = both_on_their_way(stage, lambda c: c.place(bid), lambda c: c.cancel(cancel(stage.a.user_id, order)))
    stage.b.heard(bought.result())
    stage.a.heard(cancelled.result())
    stage.a.assert_life(
        order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8", "* TRADE PARTIALLY_FILLED 7 3", "CANCELLED CANCELLED 7 0 USER"
    )


def test_b_1_c_an_order_is_filled_before_its_cancel_is_processed(stage: Stage) -> None:
    order = asks(stage.a)
    bids(stage.b, "2")
    bid = limit(stage.b.user_id, BUY, "300", "8")
    bought, refused = both_on_their_way(stage, lambda c: c.place(bid), lambda c: c.cancel(cancel(stage.a.user_id, order)))
    stage.b.heard(bought.result())
    too_late(refused.result)
    stage.a.assert_life(order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8", "* TRADE FILLED 10 0")


@pytest.mark.parametrize("name", ["by the client's name", "by number"])
def test_b_1_d_a_cancel_is_sent_before_the_acknowledgement_and_comes_after_the_order(stage: Stage, name: str) -> None:
    user_id = stage.a.user_id
    number = stage.a.place(limit, SELL, "999", "1") + 1  # a client that guesses right is as good as one that was told
    which: int | str = number if name == "by number" else "crossing"
    order = limit(user_id, SELL, "300", "10", client_order_id="crossing")
    placed, cancelled = both_on_their_way(stage, lambda c: c.place(order), lambda c: c.cancel(cancel(user_id, which)))
    stage.a.heard(placed.result())
    assert stage.a.heard(cancelled.result()) == number
    stage.a.assert_life(number, "NEW NEW 0 10", "CANCELLED CANCELLED 0 0 USER")


def test_b_1_e_a_cancel_overtakes_its_order_is_refused_and_works_when_it_is_sent_again(stage: Stage) -> None:
    user_id = stage.a.user_id
    request = cancel(user_id, "overtaken", "same-request")
    order = limit(user_id, SELL, "300", "10", client_order_id="overtaken")
    refused, placed = both_on_their_way(stage, lambda c: c.cancel(request), lambda c: c.place(order))
    failure = failure_of(refused.result)
    assert (failure.code, failure.reason) == (CODE.NOT_FOUND, "ORDER_NOT_FOUND")
    number = stage.a.heard(placed.result())
    assert stage.a.now(number) == "NEW NEW 0 10"
    stage.a.heard(stage.scenes.client.cancel(request))
    stage.a.assert_life(number, "NEW NEW 0 10", "CANCELLED CANCELLED 0 0 USER")


def both_on_their_way(
    stage: Stage, first: Callable[[EngineClient], Any], second: Callable[[EngineClient], Any]
) -> tuple["Future[Any]", "Future[Any]"]:
    """Two calls on two connections, both there before either is answered, the first one first: both are over."""
    sequencer = stage.engine.sequencer
    busy, go_on = threading.Event(), threading.Event()
    address = stage.engine.address
    calls = []
    with EngineClient(address) as one, EngineClient(address) as two, ThreadPoolExecutor(3) as threads:
        threads.submit(sequencer.read, lambda _: (busy.set(), go_on.wait(20)))
        assert busy.wait(20)
        try:
            for number, (call, client) in enumerate(((first, one), (second, two)), start=1):
                calls.append(threads.submit(call, client))
                eventually(lambda number=number: sequencer._queue.qsize() == number)
            assert not any(call.done() for call in calls)
        finally:
            go_on.set()
    return calls[0], calls[1]


def test_b_1_f_a_cancel_names_an_order_that_never_was(stage: Stage) -> None:
    client, before = stage.scenes.client, stage.scenes.position()
    for name in ("never", 999_999_999):
        failure = failure_of(lambda name=name: client.cancel(cancel(stage.a.user_id, name)))
        assert (failure.code, failure.reason) == (CODE.NOT_FOUND, "ORDER_NOT_FOUND")
    theirs = asks(stage.b)
    assert failure_of(lambda: client.cancel(cancel(stage.a.user_id, theirs))).code == CODE.NOT_FOUND
    assert stage.a.open_orders() == []
    stage.b.assert_life(theirs, "NEW NEW 0 10")
    assert stage.scenes.position() != before  # of b's order alone:
    assert client.durable_sequence() == stage.b.order(theirs).sequence


def test_c_1_a_the_qty_of_an_order_with_nothing_filled_goes_up(stage: Stage) -> None:
    order = asks(stage.a)
    stage.a.replace(order, qty="11", request_id="more")
    assert (stage.a.order(order).version, stage.a.order(order).request_id) == (2, "more")
    bids(stage.b, "11")
    stage.a.assert_life(order, "NEW NEW 0 10", "REPLACED NEW 0 11", "* TRADE FILLED 11 0")


def test_c_1_b_the_qty_of_a_part_filled_order_goes_up_with_a_fill_in_between(stage: Stage) -> None:
    order = asks(stage.a)
    bids(stage.b, "1")
    bid = limit(stage.b.user_id, BUY, "300", "2")
    more = replace(stage.a.user_id, order, qty="12")
    bought, replaced = both_on_their_way(stage, lambda c: c.place(bid), lambda c: c.replace(more))
    stage.b.heard(bought.result())
    stage.a.heard(replaced.result())
    bids(stage.b, "9")
    stage.a.assert_life(
        order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 1 9", "* TRADE PARTIALLY_FILLED 3 7", "REPLACED PARTIALLY_FILLED 3 9",
        "* TRADE FILLED 12 0",
    )  # fmt: skip


def test_c_1_c_an_order_is_filled_and_its_qty_can_no_longer_go_up(stage: Stage) -> None:
    order = asks(stage.a)
    bids(stage.b, "10")
    too_late(lambda: stage.a.replace(order, qty="12"))
    stage.a.assert_life(order, "NEW NEW 0 10", "* TRADE FILLED 10 0")


def test_c_2_a_a_change_of_price_is_refused_since_the_order_is_filled(stage: Stage) -> None:
    order = asks(stage.a)
    bid = limit(stage.b.user_id, BUY, "300", "10")
    dearer = replace(stage.a.user_id, order, price="301")
    bought, refused = both_on_their_way(stage, lambda c: c.place(bid), lambda c: c.replace(dearer))
    stage.b.heard(bought.result())
    too_late(refused.result)
    stage.a.assert_life(order, "NEW NEW 0 10", "* TRADE FILLED 10 0")
    assert stage.a.order(order).version == 1


def test_c_3_a_the_qty_goes_down_and_stays_above_what_is_filled(stage: Stage) -> None:
    order = qty_goes_down_while_a_fill_comes_in(stage, "8")
    bids(stage.b, "1")
    stage.a.assert_life(
        order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 3 7", "* TRADE PARTIALLY_FILLED 7 3", "REPLACED PARTIALLY_FILLED 7 1",
        "* TRADE FILLED 8 0",
    )  # fmt: skip


def test_c_3_b_the_qty_goes_down_to_what_is_filled(stage: Stage) -> None:
    order = qty_goes_down_while_a_fill_comes_in(stage, "7")
    stage.a.assert_life(order, *_FILLED_BY_REPLACE)
    assert stage.a.order(order).qty == "7"


def test_c_3_c_the_qty_goes_down_below_what_is_filled(stage: Stage) -> None:
    order = qty_goes_down_while_a_fill_comes_in(stage, "6")
    stage.a.assert_life(order, *_FILLED_BY_REPLACE)
    assert stage.a.order(order).qty == "7"
    assert stage.scenes.client.balances(stage.a.user_id)["BTC"] == ("993", "0")


_FILLED_BY_REPLACE = (
    "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 3 7", "* TRADE PARTIALLY_FILLED 7 3", "REPLACED FILLED 7 0"
)  # fmt: skip


def qty_goes_down_while_a_fill_comes_in(stage: Stage, qty: str) -> int:
    """Of 10, 3 are filled; 4 more are while the replace is on its way."""
    order = asks(stage.a)
    bids(stage.b, "3")
    bid = limit(stage.b.user_id, BUY, "300", "4")
    less = replace(stage.a.user_id, order, qty=qty)
    bought, replaced = both_on_their_way(stage, lambda c: c.place(bid), lambda c: c.replace(less))
    stage.b.heard(bought.result())
    stage.a.heard(replaced.result())
    return order


def test_d_1_a_two_replaces_are_sent_in_a_row_and_each_is_processed_in_turn(stage: Stage) -> None:
    order = asks(stage.a)
    requests = [replace(stage.a.user_id, order, request_id=f"r{number}", qty=qty) for number, qty in ((1, "8"), (2, "6"))]
    answers = both_on_their_way(stage, lambda c: c.replace(requests[0]), lambda c: c.replace(requests[1]))
    for answer in answers:
        stage.a.heard(answer.result())
    stage.a.assert_life(order, "NEW NEW 0 10", "REPLACED NEW 0 8", "REPLACED NEW 0 6")
    assert (stage.a.order(order).version, stage.a.order(order).request_id) == (3, "r2")


def test_d_2_a_two_replaces_are_sent_in_a_row_of_a_part_filled_order_with_a_fill_between_them(stage: Stage) -> None:
    order = asks(stage.a)
    bids(stage.b, "2")
    stage.a.replace(order, qty="9")
    bids(stage.b, "3")
    stage.a.replace(order, qty="7", price="301", expected_version=2)
    bids(stage.b, "2", price="301")
    stage.a.assert_life(
        order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8", "REPLACED PARTIALLY_FILLED 2 7", "* TRADE PARTIALLY_FILLED 5 4",
        "REPLACED PARTIALLY_FILLED 5 2", "* TRADE FILLED 7 0",
    )  # fmt: skip
    assert stage.a.order(order).version == 3


def test_e_1_b_an_order_is_cancelled_that_nobody_asked_to_cancel(stage: Stage) -> None:
    order = asks(stage.a)
    bids(stage.b, "2")
    answer = stage.scenes.client.force_cancel(order, f"force-{order}", "erroneous price")
    assert [line_of(update) for update in answer.updates] == ["CANCELLED CANCELLED 2 0 OPERATOR"]
    assert answer.updates[0].reason_text == "erroneous price"
    stage.a.assert_life(order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8", "* CANCELLED CANCELLED 2 0 OPERATOR")


def test_e_1_c_an_order_stands_as_it_did_after_a_halt(stage: Stage) -> None:
    first, second = asks(stage.a), asks(stage.a)
    halt(stage, "HALTED")
    stage.a.assert_life(first, "NEW NEW 0 10")
    halt(stage, "TRADING")
    bids(stage.b, "12")
    stage.a.assert_life(first, "NEW NEW 0 10", "* TRADE FILLED 10 0")
    stage.a.assert_life(second, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8")


def halt(stage: Stage, status: str) -> None:
    stage.scenes.client.set_symbol("BTC-USD", status, f"{status}-{stage.scenes.client.durable_sequence()}")


def test_f_1_a_a_name_is_used_again_with_other_content(stage: Stage) -> None:
    order = asks(stage.a, client_order_id="twice")
    failure = failure_of(lambda: asks(stage.a, "20", client_order_id="twice"))
    assert (failure.code, failure.reason, failure.metadata["field"]) == (CODE.ALREADY_EXISTS, "KEY_REUSED", "qty")
    stage.a.assert_life(order, "NEW NEW 0 10")
    assert len(stage.a.open_orders()) == 1


def test_f_1_b_a_name_is_used_again_with_the_same_content(stage: Stage) -> None:
    order = asks(stage.a, client_order_id="twice")
    bids(stage.b, "2")
    again = stage.scenes.client.place(limit(stage.a.user_id, SELL, "300", "10", client_order_id="twice"))
    assert again.replayed
    assert [line_of(update) for update in again.updates] == ["NEW NEW 0 10"]
    stage.a.assert_life(order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8")


def test_g_1_a_the_status_is_asked_of_an_order_that_never_was(stage: Stage) -> None:
    failure = failure_of(lambda: stage.a.order(999_999_999))
    assert (failure.code, failure.reason) == (CODE.NOT_FOUND, "ORDER_NOT_FOUND")
    assert stage.a.open_orders() == []
    assert snapshot_of(stage, stage.a) == []


def test_g_1_b_the_status_is_asked_of_an_order_with_nothing_done(stage: Stage) -> None:
    order = asks(stage.a)
    assert stage.a.now(order) == "NEW NEW 0 10"
    assert stage.a.open_orders() == snapshot_of(stage, stage.a) == [stage.a.order(order)]
    stage.a.assert_life(order, "NEW NEW 0 10")


def test_g_1_c_the_status_is_asked_all_through_an_orders_life(stage: Stage) -> None:
    order = asks(stage.a)
    steps = [
        (lambda: None, "NEW NEW 0 10"),
        (lambda: bids(stage.b, "2"), "TRADE PARTIALLY_FILLED 2 8"),
        (lambda: stage.a.replace(order, qty="9"), "REPLACED PARTIALLY_FILLED 2 7"),
        (lambda: bids(stage.b, "7"), "TRADE FILLED 9 0"),
    ]
    for step, line in steps:
        step()
        assert stage.a.now(order) == line
        snapshot = snapshot_of(stage, stage.a)
        assert snapshot == stage.a.open_orders()
        assert [line_of(update) for update in snapshot] == ([line] if "FILLED 9" not in line else [])
    stage.a.assert_life(order, *(line if "TRADE" not in line else f"* {line}" for _, line in steps))


def snapshot_of(stage: Stage, trader: Trader) -> list[order_pb2.OrderUpdate]:
    """The open orders as somebody sees them who begins to watch now."""
    orders: list[order_pb2.OrderUpdate] = []
    call = stage.scenes.tape.WatchOrders(history_pb2.WatchOrdersRequest(user_id=trader.user_id))
    for message in call:
        orders += message.snapshot.orders
        if message.snapshot.last_page:
            call.cancel()
            return orders
    raise AssertionError("the watch ended in its snapshot")


def test_i_1_a_a_fill_or_kill_order_cannot_be_filled_whole(stage: Stage) -> None:
    resting = asks(stage.a, "1")
    order = bids(stage.b, "2", time_in_force=FOK)
    stage.b.assert_life(order, "NEW NEW 0 2", "EXPIRED EXPIRED 0 0 FOK_NOT_FILLABLE")
    stage.a.assert_life(resting, "NEW NEW 0 1")


def test_i_1_b_an_immediate_or_cancel_order_hits_nothing_or_not_enough(stage: Stage) -> None:
    asks(stage.a, "1")
    missed = bids(stage.b, "2", "299", time_in_force=IOC)
    stage.b.assert_life(missed, "NEW NEW 0 2", "EXPIRED EXPIRED 0 0 IOC_REST")
    order = bids(stage.b, "2", time_in_force=IOC)
    stage.b.assert_life(order, "NEW NEW 0 2", "TRADE PARTIALLY_FILLED 1 1", "EXPIRED EXPIRED 1 0 IOC_REST")


def test_k_1_a_an_order_rests_through_a_halt_and_is_traded_with_afterwards(stage: Stage) -> None:
    order = asks(stage.a)
    bids(stage.b, "2")
    halt(stage, "HALTED")
    refused = bids(stage.b, "8")
    stage.b.assert_life(refused, "REJECTED REJECTED 0 0 SYMBOL_HALTED")
    assert failure_of(lambda: stage.a.replace(order, qty="20")).code == CODE.FAILED_PRECONDITION
    halt(stage, "TRADING")
    bids(stage.b, "8")
    stage.a.assert_life(order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8", "* TRADE FILLED 10 0")


def test_k_1_b_an_order_is_cancelled_in_a_halt(stage: Stage) -> None:
    order = asks(stage.a)
    bids(stage.b, "2")
    halt(stage, "HALTED")
    stage.a.cancel(order)
    halt(stage, "TRADING")
    stage.a.assert_life(order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8", "CANCELLED CANCELLED 2 0 USER")


def test_l_1_b_an_order_spends_an_amount_of_money(stage: Stage) -> None:
    asks(stage.a, "0.2", "300")
    asks(stage.a, "5", "400")
    order = stage.b.place(market, BUY, quote_qty="100.01")
    stage.b.assert_life(order, "NEW NEW 0 100.01", "TRADE PARTIALLY_FILLED 0.2 40.01", "TRADE FILLED 0.3 0")
    assert stage.b.order(order).cumulative_quote == "100"
    short = stage.b.place(market, BUY, quote_qty="10000")
    stage.b.assert_life(
        short, "NEW NEW 0 10000", "TRADE PARTIALLY_FILLED 4.9 8040", "EXPIRED EXPIRED 4.9 0 MARKET_REST"
    )  # fmt: skip
