"""Stop orders, orders with an end, iceberg orders and self-trade prevention, through the pure core."""

from dataclasses import replace

import pytest

from services.domain.events import Locked, Matched
from services.domain.kinds import (
    CancelReason,
    ExpireReason,
    OrderStatus,
    OrderType,
    RejectReason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from services.domain.order import OrderUpdate
from tests.support.exchange import BTC_USD, Core, updates

BUY, SELL = Side.BUY, Side.SELL
USD, BTC = 10**10, 10**8
FREE = replace(BTC_USD, maker_fee_rate="0", taker_fee_rate="0")


@pytest.fixture
def core() -> Core:
    made = Core(FREE)
    for user in "abc":
        made.deposit(user, USD="10000", BTC="10")
    return made


def stop(**changes: object) -> dict[str, object]:
    return {"order_type": OrderType.STOP, "time_in_force": TimeInForce.GTC} | changes


def first(events: list[object]) -> OrderUpdate:
    return next(event for event in events if isinstance(event, OrderUpdate))


def trade_at(core: Core, price: str) -> None:
    core.place("a", SELL, price=price, qty="0.1")
    core.place("b", BUY, price=price, qty="0.1")


def test_a_buy_stop_waits_until_a_trade_reaches_its_price_and_then_takes_as_a_market_order(core: Core) -> None:
    order = first(core.place("c", BUY, **stop(stop_price="110", qty="1")))
    assert core.balance("c", "USD") == (10000 * USD, 0)
    trade_at(core, "109")
    assert core.story(order.terms.order_id) == ["NEW NEW"]
    core.place("a", SELL, price="112", qty="0.4")
    trade_at(core, "110")
    assert core.story(order.terms.order_id) == ["NEW NEW", "TRIGGERED NEW", "TRADE PARTIALLY_FILLED", "EXPIRED EXPIRED"]
    last = core.timeline(order.terms.order_id)[-1]
    assert (last.expire_reason, last.filled) == (ExpireReason.MARKET_REST, 4 * BTC // 10)
    assert last.triggered_at is not None
    core.check()


def test_a_sell_stop_holds_its_qty_and_triggers_at_or_below_its_price(core: Core) -> None:
    order = first(core.place("c", SELL, **stop(stop_price="90", qty="1")))
    assert core.balance("c", "BTC") == (9 * BTC, 1 * BTC)
    core.place("b", BUY, price="80", qty="5")
    trade_at(core, "90")
    assert core.story(order.terms.order_id) == ["NEW NEW", "TRIGGERED NEW", "TRADE FILLED"]
    core.check()


def test_a_stop_whose_price_is_already_past_triggers_at_once(core: Core) -> None:
    trade_at(core, "100")
    order = first(core.place("c", SELL, **stop(stop_price="100", qty="1")))
    assert core.story(order.terms.order_id) == ["NEW NEW", "TRIGGERED NEW", "EXPIRED EXPIRED"]
    core.check()


def test_a_stop_limit_order_holds_like_a_limit_order_and_rests_once_triggered(core: Core) -> None:
    changes = stop(order_type=OrderType.STOP_LIMIT, stop_price="110", price="111", qty="1")
    order = first(core.place("c", BUY, **changes))
    assert core.balance("c", "USD") == (9889 * USD, 111 * USD)
    assert not core.state.books["BTC-USD"].bids
    trade_at(core, "115")
    triggered = core.timeline(order.terms.order_id)[-1]
    assert core.story(order.terms.order_id) == ["NEW NEW", "TRIGGERED NEW"]
    assert triggered.visible == 1 * BTC
    assert core.state.books["BTC-USD"].bids.best_price == 11100
    core.check()


def test_stops_trigger_one_after_the_other_in_the_order_of_acceptance_each_on_what_the_one_before_left(core: Core) -> None:
    core.place("a", SELL, price="120", qty="1")
    late = first(core.place("b", BUY, **stop(stop_price="115", qty="0.5")))
    early = first(core.place("c", BUY, **stop(stop_price="110", qty="0.5")))
    trade_at(core, "110")
    # The trade at 110 reaches only `early`, whose own trade at 120 reaches `late`.
    assert core.story(early.terms.order_id)[-1] == "TRADE FILLED"
    assert core.story(late.terms.order_id)[-1] == "TRADE FILLED"
    assert core.timeline(early.terms.order_id)[-1].sequence < core.timeline(late.terms.order_id)[-1].sequence
    core.check()


def test_a_triggered_stop_that_is_not_covered_says_so_and_expires(core: Core) -> None:
    order = first(core.place("pauper", BUY, **stop(stop_price="100", qty="1")))
    core.place("a", SELL, price="101", qty="1")
    trade_at(core, "100")
    assert core.story(order.terms.order_id) == ["NEW NEW", "TRIGGERED NEW", "EXPIRED EXPIRED"]
    assert core.timeline(order.terms.order_id)[-1].expire_reason == ExpireReason.STOP_NOT_COVERED
    core.check()


def test_a_stop_by_money_holds_it_and_spends_it_when_triggered(core: Core) -> None:
    order = first(core.place("c", BUY, **stop(stop_price="100", quote_qty="50")))
    assert core.balance("c", "USD") == (9950 * USD, 50 * USD)
    core.place("a", SELL, price="101", qty="1")
    trade_at(core, "100")
    assert core.story(order.terms.order_id)[-1] == "TRADE FILLED"
    assert core.balance("c", "USD")[1] == 0
    core.check()


def test_a_cancelled_stop_frees_what_it_held_and_never_triggers(core: Core) -> None:
    order = first(core.place("c", SELL, **stop(stop_price="90", qty="1")))
    core.cancel("c", order.terms.order_id)
    trade_at(core, "90")
    assert core.story(order.terms.order_id) == ["NEW NEW", "CANCELLED CANCELLED"]
    core.check()


def test_a_gtd_order_expires_when_its_time_is_reached_before_whatever_comes_then(core: Core) -> None:
    order = first(core.place("b", BUY, price="100", qty="1", time_in_force=TimeInForce.GTD, expire_time=core.time + 5_000_000))
    core.time += 4_990_000
    core.deposit("a", USD="1")
    assert core.story(order.terms.order_id) == ["NEW NEW"]
    core.time += 5_000_000
    assert not any(isinstance(event, Matched) for event in core.place("a", SELL, price="100", qty="1"))
    assert core.timeline(order.terms.order_id)[-1].expire_reason == ExpireReason.GTD_REACHED
    assert core.balance("b", "USD") == (10000 * USD, 0)
    core.check()


def test_a_gtd_order_whose_time_is_past_is_refused(core: Core) -> None:
    update = first(core.place("b", BUY, price="100", qty="1", time_in_force=TimeInForce.GTD, expire_time=core.time))
    assert update.reject_reason == RejectReason.EXPIRE_TIME_IN_PAST


def test_a_day_order_gets_the_sessions_end_and_expires_there() -> None:
    core = Core(FREE, session_end_seconds=22 * 3600)
    core.deposit("b", USD="1000")
    order = first(core.place("b", BUY, price="100", qty="1", time_in_force=TimeInForce.DAY))
    end = order.terms.expire_time
    assert end is not None
    assert end % 86_400_000_000 == 22 * 3_600_000_000
    assert core.time < end <= core.time + 86_400_000_000
    core.time = end
    core.deposit("b", USD="1")
    assert core.timeline(order.terms.order_id)[-1].expire_reason == ExpireReason.SESSION_END
    core.check()


def test_an_iceberg_shows_a_part_and_each_new_part_goes_to_the_back_of_its_price(core: Core) -> None:
    berg = first(core.place("a", SELL, price="100", qty="5", display_qty="1"))
    plain = first(core.place("b", SELL, price="100", qty="1"))
    (level,) = core.state.books["BTC-USD"].asks.levels(1)
    assert (level.qty, level.order_count) == (2 * BTC, 2)
    events = core.place("c", BUY, price="100", qty="3.5")
    makers = [(event.maker_order_id, event.qty) for event in events if isinstance(event, Matched)]
    ids = berg.terms.order_id, plain.terms.order_id
    assert makers == [(ids[0], BTC), (ids[1], BTC), (ids[0], BTC), (ids[0], BTC // 2)]
    now = core.state.orders.get(ids[0])
    assert now is not None
    assert (now.leaves, now.visible) == (25 * BTC // 10, BTC // 2)
    assert now.queue_sequence > berg.queue_sequence
    assert core.balance("a", "BTC")[1] == 25 * BTC // 10
    core.check()


def test_a_fok_order_counts_what_icebergs_hide(core: Core) -> None:
    core.place("a", SELL, price="100", qty="5", display_qty="1")
    events = core.place("c", BUY, price="100", qty="5", time_in_force=TimeInForce.FOK)
    assert [update for update in updates(events) if update.terms.user_id == "c"][-1].status == OrderStatus.FILLED
    assert not core.state.books["BTC-USD"].asks
    core.check()


def test_self_trade_prevention_can_end_the_incoming_order(core: Core) -> None:
    core.place("a", SELL, price="99", qty="1")
    own = first(core.place("b", SELL, price="100", qty="1"))
    events = core.place("b", BUY, price="100", qty="3", self_trade_prevention=SelfTradePrevention.CANCEL_TAKER)
    taker = updates(events)[-1]
    assert (taker.status, taker.cancel_reason, taker.filled) == (OrderStatus.CANCELLED, CancelReason.SELF_TRADE, BTC)
    assert taker.prevented_match == (own.terms.order_id, 10000, 1 * BTC)
    assert core.state.orders.get(own.terms.order_id) is not None
    core.check()


def test_self_trade_prevention_can_end_the_resting_order_and_the_walk_goes_on(core: Core) -> None:
    own = first(core.place("b", SELL, price="100", qty="1"))
    core.place("a", SELL, price="101", qty="1")
    events = core.place("b", BUY, price="102", qty="1.5", self_trade_prevention=SelfTradePrevention.CANCEL_MAKER)
    ended = core.timeline(own.terms.order_id)[-1]
    assert (ended.status, ended.cancel_reason) == (OrderStatus.CANCELLED, CancelReason.SELF_TRADE)
    taker = first(events)
    assert core.story(taker.terms.order_id) == ["NEW NEW", "TRADE PARTIALLY_FILLED"]
    assert core.timeline(taker.terms.order_id)[-1].visible == BTC // 2
    assert core.state.books["BTC-USD"].bids.best_price == 10200
    core.check()


def test_a_resting_order_rests_though_all_it_did_was_end_own_orders(core: Core) -> None:
    core.place("b", SELL, price="100", qty="1")
    taker = first(core.place("b", BUY, price="100", qty="1", self_trade_prevention=SelfTradePrevention.CANCEL_MAKER))
    assert core.story(taker.terms.order_id) == ["NEW NEW"]
    assert core.state.books["BTC-USD"].bids.best_price == 10000
    assert not core.state.books["BTC-USD"].asks
    core.check()


def test_self_trade_prevention_can_end_both(core: Core) -> None:
    own = first(core.place("b", SELL, price="100", qty="1"))
    events = core.place("b", BUY, price="100", qty="3", self_trade_prevention=SelfTradePrevention.CANCEL_BOTH)
    assert [(u.terms.order_id, u.status.name) for u in updates(events)[1:]] == [
        (own.terms.order_id, "CANCELLED"),
        (own.terms.order_id + 1, "CANCELLED"),
    ]
    assert len(core.state.orders) == 0
    core.check()


def test_a_fok_order_that_fails_ends_no_own_order(core: Core) -> None:
    own = first(core.place("b", SELL, price="100", qty="1"))
    changes = {"time_in_force": TimeInForce.FOK, "self_trade_prevention": SelfTradePrevention.CANCEL_MAKER}
    taker = first(core.place("b", BUY, price="100", qty="1", **changes))
    assert core.story(taker.terms.order_id) == ["NEW NEW", "EXPIRED EXPIRED"]
    assert core.state.orders.get(own.terms.order_id) is not None
    core.check()


def test_a_market_order_that_skips_own_orders_holds_what_the_others_cost(core: Core) -> None:
    core.place("b", SELL, price="100", qty="1")
    core.place("a", SELL, price="110", qty="1")
    changes = {"order_type": OrderType.MARKET, "time_in_force": TimeInForce.IOC}
    events = core.place("b", BUY, qty="1", self_trade_prevention=SelfTradePrevention.CANCEL_MAKER, **changes)
    assert isinstance(events[0], Locked)
    assert events[0].change.amount == 110 * USD
    core.check()


def test_a_price_too_far_from_the_last_trade_is_refused_where_there_is_a_band() -> None:
    core = Core(replace(FREE, price_band_rate="0.1"))
    for user in "abc":
        core.deposit(user, USD="100000", BTC="10")
    assert first(core.place("c", BUY, price="500", qty="1")).status == OrderStatus.NEW
    core.cancel("c", 1)
    trade_at(core, "100")
    refused = first(core.place("c", BUY, price="110.01", qty="1"))
    assert refused.reject_reason == RejectReason.PRICE_OUTSIDE_BAND
    assert first(core.place("c", BUY, price="110", qty="1")).status == OrderStatus.NEW


def test_a_user_has_at_most_so_many_open_orders() -> None:
    core = Core(FREE, open_orders_per_user_max=2)
    core.deposit("a", USD="1000")
    for _ in range(2):
        core.place("a", BUY, price="10", qty="1")
    assert first(core.place("a", BUY, price="10", qty="1")).reject_reason == RejectReason.TOO_MANY_OPEN_ORDERS
    core.cancel("a", 1)
    assert first(core.place("a", BUY, price="10", qty="1")).status == OrderStatus.NEW
