"""Every reason for which an order is refused, cancelled or expires, told message by message in every way in which the exchange
tells it; and the lives that only stops, icebergs and self-trade prevention lead. FIX 103, 378, 39=C, 150=L, 1138.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from ordertape.v1 import order_pb2
from services.matching_engine.bootstrap import Engine
from tests.support.engine_client import BUY, FOK, IOC, SELL, limit, market, stop
from tests.support.engine_clock import MovableClock
from tests.support.engine_exchange import BTC_USD, GOLD_USD, INSTRUMENTS
from tests.support.eventually import eventually
from tests.support.order_session import OrderSession
from tests.support.timelines import Scenes, Trader, scenes_in_process

GTD, DAY = order_pb2.TIME_IN_FORCE_GTD, order_pb2.TIME_IN_FORCE_DAY
BANDED = BTC_USD | {"symbol": "BAND-USD", "price_band_rate": "0.1"}
CANCEL_TAKER = order_pb2.SELF_TRADE_PREVENTION_CANCEL_TAKER
CANCEL_MAKER = order_pb2.SELF_TRADE_PREVENTION_CANCEL_MAKER
CANCEL_BOTH = order_pb2.SELF_TRADE_PREVENTION_CANCEL_BOTH


class Stage(NamedTuple):
    """An exchange where an order makes three trades and a user has six open orders at most, and two who are new to it."""

    scenes: Scenes
    engine: Engine
    clock: MovableClock
    a: Trader
    b: Trader


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scenes, Engine, MovableClock]]:
    rules = {"trades_per_order_max": 3, "open_orders_per_user_max": 6, "session_end_seconds": 0}
    instruments = [*INSTRUMENTS, BANDED]
    with scenes_in_process(tmp_path_factory.mktemp("reasons"), instruments=instruments, **rules) as (scenes, engine):
        yield scenes, engine, MovableClock(engine)


@pytest.fixture
def stage(exchange: tuple[Scenes, Engine, MovableClock]) -> Iterator[Stage]:
    """The book is empty before and after each scene."""
    stage = Stage(*exchange, exchange[0].trader("a"), exchange[0].trader("b"))
    yield stage
    for trader in (stage.a, stage.b):
        stage.scenes.client.cancel_orders(trader.user_id)
        assert {held for _, held in stage.scenes.client.balances(trader.user_id).values()} == {"0"}


def trade_at(stage: Stage, price: str) -> None:
    """Make this the last trade's price."""
    stage.scenes.client.submit(
        limit(stage.a.user_id, SELL, price, "1"), limit(stage.b.user_id, BUY, price, "1", time_in_force=IOC)
    )  # fmt: skip


def test_every_reason_to_refuse_an_order_is_told(stage: Stage) -> None:
    a, b, client = stage.a, stage.b, stage.scenes.client
    reasons = set()

    def assert_refused(trader: Trader, reason: str, *arguments: Any, **changes: Any) -> None:
        order = trader.place(*arguments, **changes)
        trader.assert_life(order, f"REJECTED REJECTED 0 0 {reason}")
        assert trader.order(order).reason_text
        reasons.add(f"REJECT_REASON_{reason}")

    a.place(limit, SELL, "200", "1")
    assert_refused(b, "UNKNOWN_SYMBOL", limit, BUY, "100", "1", symbol="NONE")
    assert_refused(b, "PRICE_OFF_STEP", limit, BUY, "100.001", "1")
    assert_refused(b, "PRICE_OFF_STEP", stop, BUY, "100.001", qty="1")
    assert_refused(b, "QTY_OFF_STEP", limit, BUY, "100", "1.00001")
    assert_refused(b, "QTY_OFF_STEP", limit, BUY, "100", "1", display_qty="0.00001")
    assert_refused(b, "PRICE_OUTSIDE_LIMITS", limit, BUY, "0.5", "1")
    assert_refused(b, "PRICE_OUTSIDE_LIMITS", stop, BUY, "1000001", qty="1")
    assert_refused(b, "QTY_OUTSIDE_LIMITS", limit, BUY, "100", "10001")
    assert_refused(b, "NOTIONAL_TOO_SMALL", limit, BUY, "1", "0.001")
    assert_refused(b, "NOTIONAL_TOO_LARGE", limit, BUY, "1000000000", "1000000000", symbol=GOLD_USD["symbol"])
    assert_refused(b, "EXPIRE_TIME_IN_PAST", limit, BUY, "100", "1", time_in_force=GTD, expire_time=Timestamp(seconds=1))
    assert_refused(b, "EXPIRE_TIME_IN_PAST", limit, BUY, "100", "1", time_in_force=GTD, expire_time=Timestamp(seconds=-1))
    assert_refused(b, "NO_LIQUIDITY", market, BUY, qty="1", symbol="ETH-USD")
    assert_refused(b, "POST_ONLY_WOULD_TAKE", limit, BUY, "200", "1", post_only=True)
    assert_refused(b, "INSUFFICIENT_FUNDS", limit, BUY, "150", "9000")
    assert_refused(b, "INSUFFICIENT_FUNDS", stop, SELL, "150", qty="2000")
    a.place(limit, SELL, "100", "1", symbol="BAND-USD")
    b.place(limit, BUY, "100", "1", symbol="BAND-USD")
    assert_refused(b, "PRICE_OUTSIDE_BAND", limit, BUY, "89.99", "1", symbol="BAND-USD")
    assert_refused(b, "PRICE_OUTSIDE_BAND", stop, BUY, "500", price="110.01", qty="1", symbol="BAND-USD")
    for _ in range(6):
        b.place(limit, BUY, "10", "1")
    assert_refused(b, "TOO_MANY_OPEN_ORDERS", limit, BUY, "10", "1")
    assert_refused(b, "TOO_MANY_OPEN_ORDERS", limit, BUY, "10", "1", time_in_force=IOC)
    client.set_user(b.user_id, "SUSPENDED", f"out-{b.user_id}")
    assert_refused(b, "USER_SUSPENDED", limit, BUY, "10", "1")
    client.set_symbol("BTC-USD", "HALTED", f"halt-{b.user_id}")
    assert_refused(b, "SYMBOL_HALTED", limit, BUY, "10", "1")
    client.set_symbol("BTC-USD", "TRADING", f"resume-{b.user_id}")
    assert {*order_pb2.RejectReason.keys()} - reasons == {"REJECT_REASON_UNSPECIFIED"}


def test_an_order_is_cancelled_by_its_user_alone_or_with_others_and_by_an_operator(stage: Stage) -> None:
    orders = [stage.a.place(limit, SELL, "300", "10") for _ in range(4)]
    waits = stage.a.place(stop, SELL, "5", price="4", qty="1")
    stage.b.place(limit, BUY, "300", "2")
    stage.a.cancel(orders[0])
    stage.a.assert_life(orders[0], "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8", "CANCELLED CANCELLED 2 0 USER")
    stage.scenes.client.force_cancel(orders[1], f"force-{orders[1]}")
    stage.a.assert_life(orders[1], "NEW NEW 0 10", "* CANCELLED CANCELLED 0 0 OPERATOR")
    stage.scenes.client.cancel_orders(stage.a.user_id, "all")
    for order, qty in ((orders[2], 10), (orders[3], 10), (waits, 1)):
        stage.a.assert_life(order, f"NEW NEW 0 {qty}", "* CANCELLED CANCELLED 0 0 MASS_CANCEL")
        assert stage.a.order(order).request_id == "all"


def test_the_orders_of_a_suspended_user_are_cancelled_by_the_operator(stage: Stage) -> None:
    order, other = stage.a.place(limit, SELL, "300", "10"), stage.b.place(limit, BUY, "10", "1")
    client = stage.scenes.client
    client.set_user(stage.a.user_id, "SUSPENDED", f"out-{order}", cancel_open_orders=True, reason_text="fraud")
    stage.a.assert_life(order, "NEW NEW 0 10", "* CANCELLED CANCELLED 0 0 OPERATOR")
    assert stage.a.order(order).reason_text == "fraud"
    stage.b.assert_life(other, "NEW NEW 0 1")


def test_the_orders_of_a_lost_session_are_cancelled_by_the_disconnect(stage: Stage) -> None:
    with OrderSession(stage.engine.address, user_id=stage.a.user_id) as session:
        (result,) = session.ask(limit(stage.a.user_id, SELL, "300", "10")).results
        order = stage.a.heard(result)
        session.lose()
    eventually(lambda: stage.a.now(order).startswith("CANCELLED"))
    stage.a.assert_life(order, "NEW NEW 0 10", "* CANCELLED CANCELLED 0 0 DISCONNECT")


@pytest.mark.parametrize("mode", [CANCEL_TAKER, CANCEL_MAKER, CANCEL_BOTH], ids=order_pb2.SelfTradePrevention.Name)
def test_an_order_meets_one_of_its_own_user(stage: Stage, mode: int) -> None:
    stage.b.place(limit, SELL, "299", "2")
    own = stage.a.place(limit, SELL, "300", "10")
    taker = stage.a.place(limit, BUY, "300", "5", self_trade_prevention=mode)
    met = ["NEW NEW 0 5", "TRADE PARTIALLY_FILLED 2 3"]
    prevented = stage.a.order(own if mode == CANCEL_MAKER else taker).prevented_match
    assert (prevented.order_id, prevented.price, prevented.qty) == (taker if mode == CANCEL_MAKER else own, "300", "3")
    if mode == CANCEL_TAKER:
        stage.a.assert_life(own, "NEW NEW 0 10")
    else:
        stage.a.assert_life(own, "NEW NEW 0 10", "* CANCELLED CANCELLED 0 0 SELF_TRADE")
    if mode == CANCEL_MAKER:
        stage.a.assert_life(taker, *met)
    else:
        stage.a.assert_life(taker, *met, "CANCELLED CANCELLED 2 0 SELF_TRADE")


def test_an_order_expires_with_what_it_could_not_do_at_once(stage: Stage) -> None:
    for _ in range(4):
        stage.a.place(limit, SELL, "300", "1")
    killed = stage.b.place(limit, BUY, "300", "5", time_in_force=FOK)
    stage.b.assert_life(killed, "NEW NEW 0 5", "EXPIRED EXPIRED 0 0 FOK_NOT_FILLABLE")
    missed = stage.b.place(limit, BUY, "299", "5", time_in_force=IOC)
    stage.b.assert_life(missed, "NEW NEW 0 5", "EXPIRED EXPIRED 0 0 IOC_REST")
    much = stage.b.place(limit, BUY, "300", "5")
    trades = [f"TRADE PARTIALLY_FILLED {done} {5 - done}" for done in (1, 2, 3)]
    stage.b.assert_life(much, "NEW NEW 0 5", *trades, "EXPIRED EXPIRED 3 0 MATCH_LIMIT")
    rest = stage.b.place(market, BUY, qty="2")
    stage.b.assert_life(rest, "NEW NEW 0 2", "TRADE PARTIALLY_FILLED 1 1", "EXPIRED EXPIRED 1 0 MARKET_REST")


def test_an_order_expires_when_its_time_or_its_day_is_over(stage: Stage) -> None:
    until = stage.clock.time_in(60)
    gtd = stage.a.place(limit, SELL, "300", "10", time_in_force=GTD, expire_time=until)
    day = stage.a.place(limit, SELL, "300", "5", time_in_force=DAY)
    stage.b.place(limit, BUY, "300", "2")
    stage.clock.ahead_seconds += 2 * 86400
    eventually(lambda: not stage.a.open_orders())
    stage.a.assert_life(gtd, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8", "* EXPIRED EXPIRED 2 0 GTD_REACHED")
    stage.a.assert_life(day, "NEW NEW 0 5", "* EXPIRED EXPIRED 0 0 SESSION_END")
    assert stage.a.order(gtd).expire_time == until


def test_a_stop_waits_is_triggered_by_a_trade_and_takes(stage: Stage) -> None:
    trade_at(stage, "250.5")
    falls = stage.a.place(stop, SELL, "250", qty="3")
    limited = stage.a.place(stop, SELL, "250", price="240", qty="2")
    money = stage.a.place(stop, BUY, "251", quote_qty="500")
    assert [order.order_id for order in stage.a.open_orders()] == [money, limited, falls]
    for price, qty in (("250", "1"), ("249", "3"), ("100", "1")):
        stage.b.place(limit, BUY, price, qty)
    stage.b.place(limit, SELL, "250", "1")
    stage.a.assert_life(falls, "NEW NEW 0 3", "* TRIGGERED NEW 0 3", "* TRADE FILLED 3 0")
    stage.a.assert_life(limited, "NEW NEW 0 2", "* TRIGGERED NEW 0 2")
    assert [level.price for level in stage.scenes.client.book().asks] == ["240"]
    stage.b.place(limit, BUY, "240", "1")
    stage.a.assert_life(limited, "NEW NEW 0 2", "* TRIGGERED NEW 0 2", "* TRADE PARTIALLY_FILLED 1 1")
    stage.a.assert_life(money, "NEW NEW 0 500")
    assert stage.a.order(falls).HasField("triggered_at")


def test_a_stop_that_is_reached_and_not_covered_expires(stage: Stage) -> None:
    trade_at(stage, "299")
    poor = stage.scenes.trader("poor", USD="1")
    order = poor.place(stop, BUY, "300", qty="1")
    stage.a.place(limit, SELL, "300", "2")
    stage.b.place(limit, BUY, "300", "1")
    poor.assert_life(order, "NEW NEW 0 1", "* TRIGGERED NEW 0 1", "* EXPIRED EXPIRED 0 0 STOP_NOT_COVERED")


def test_an_iceberg_shows_a_part_at_a_time_and_is_filled_whole(stage: Stage) -> None:
    order = stage.a.place(limit, SELL, "300", "5", display_qty="2")
    shown = [stage.a.order(order).visible_qty]
    for qty in ("1", "2", "2"):
        stage.b.place(limit, BUY, "300", qty)
        shown.append(stage.a.order(order).visible_qty)
    stage.a.assert_life(
        order, "NEW NEW 0 5", "* TRADE PARTIALLY_FILLED 1 4", "* TRADE PARTIALLY_FILLED 2 3", "* TRADE PARTIALLY_FILLED 3 2",
        "* TRADE PARTIALLY_FILLED 4 1", "* TRADE FILLED 5 0",
    )  # fmt: skip
    assert shown == ["2", "1", "1", ""]


def test_no_reason_is_left_untold_here() -> None:
    here = Path(__file__).read_text()
    for enum in (order_pb2.CancelReason, order_pb2.ExpireReason):
        names = [name.partition("_REASON_")[2] for name in enum.DESCRIPTOR.values_by_name]
        assert [name for name in names if f' {name}"' not in here] == ["UNSPECIFIED"]
