"""One order at a time through the pure core: what is booked, what is held, and how it ends."""

from dataclasses import replace

import pytest

from services.domain.events import Locked, Matched, Unlocked
from services.domain.kinds import ExecType, ExpireReason, OrderStatus, OrderType, RejectReason, Side, TimeInForce
from services.domain.order import OrderUpdate
from tests.support.exchange import BTC_USD, Core, updates

BUY, SELL = Side.BUY, Side.SELL
USD, BTC = 10**10, 10**8


@pytest.fixture
def core() -> Core:
    made = Core()
    made.deposit("a", USD="10000", BTC="10")
    made.deposit("b", USD="1000", BTC="1")
    return made


def test_the_contracts_example_comes_out_to_the_last_balance(core: Core) -> None:
    core.place("a", SELL, price="100", qty="2")
    events = core.place("b", BUY, price="101", qty="3")
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["Locked", "OrderUpdate", "Matched", "Unlocked", "OrderUpdate", "OrderUpdate"]
    locked, _, matched, unlocked, taker, maker = events
    assert isinstance(locked, Locked)
    assert (locked.change.amount, *locked.change[3:]) == (303 * USD, 697 * USD, 303 * USD)
    assert isinstance(matched, Matched)
    assert matched.taker_gives[3:] == (697 * USD, 103 * USD)
    assert (matched.taker_receives.amount, matched.taker_fee) == (1_998 * BTC // 1000, 2 * BTC // 1000)
    assert matched.maker_gives[3:] == (8 * BTC, 0)
    assert (matched.maker_receives.amount, matched.maker_fee) == (1998 * USD // 10, 2 * USD // 10)
    assert isinstance(unlocked, Unlocked)
    assert (unlocked.change.amount, *unlocked.change[3:]) == (2 * USD, 699 * USD, 101 * USD)
    assert isinstance(taker, OrderUpdate)
    assert isinstance(maker, OrderUpdate)
    assert (taker.terms.user_id, taker.status, taker.leaves) == ("b", OrderStatus.PARTIALLY_FILLED, 1 * BTC)
    assert (maker.terms.user_id, maker.status, maker.leaves) == ("a", OrderStatus.FILLED, 0)
    assert [core.state.accounts.missing(asset) for asset in ("USD", "BTC")] == [0, 0]


def test_an_order_that_does_not_cross_rests_and_holds_what_it_can_cost(core: Core) -> None:
    _, update = core.place("b", BUY, price="100", qty="2")
    assert isinstance(update, OrderUpdate)
    assert (update.status, update.exec_type, update.visible > 0, update.queue_sequence) == (
        OrderStatus.NEW,
        ExecType.NEW,
        True,
        update.sequence,
    )
    assert core.balance("b", "USD") == (800 * USD, 200 * USD)


def test_orders_trade_at_the_best_price_first_and_at_one_price_the_oldest_first(core: Core) -> None:
    dear, first, second = (updates(core.place("a", SELL, price=price, qty="1"))[0] for price in ("102", "100", "100"))
    events = core.place("b", BUY, price="102", qty="2.5")
    makers = [event.maker_order_id for event in events if isinstance(event, Matched)]
    assert makers == [first.terms.order_id, second.terms.order_id, dear.terms.order_id]


def test_a_part_filled_order_keeps_its_place(core: Core) -> None:
    first = updates(core.place("a", SELL, price="100", qty="2"))[0]
    core.place("a", SELL, price="100", qty="1")
    core.place("b", BUY, price="100", qty="1")
    events = core.place("b", BUY, price="100", qty="1")
    assert [event.maker_order_id for event in events if isinstance(event, Matched)] == [first.terms.order_id]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"symbol": "ETH-USD"}, RejectReason.UNKNOWN_SYMBOL),
        ({"price": "10.005"}, RejectReason.PRICE_OFF_STEP),
        ({"qty": "1.00005"}, RejectReason.QTY_OFF_STEP),
        ({"qty": "0.000000001"}, RejectReason.QTY_OFF_STEP),
        ({"price": "1000000.01"}, RejectReason.PRICE_OUTSIDE_LIMITS),
        ({"qty": "10000.0001"}, RejectReason.QTY_OUTSIDE_LIMITS),
        ({"price": "0.01", "qty": "1"}, RejectReason.NOTIONAL_TOO_SMALL),
        (
            {"order_type": OrderType.MARKET, "price": None, "time_in_force": TimeInForce.IOC, "side": SELL},
            RejectReason.NO_LIQUIDITY,
        ),
        ({"price": "100", "post_only": True}, RejectReason.POST_ONLY_WOULD_TAKE),
        ({"price": "501", "qty": "2"}, RejectReason.INSUFFICIENT_FUNDS),
    ],
)
def test_a_refused_order_books_nothing_and_says_why(core: Core, changes: dict[str, object], reason: RejectReason) -> None:
    core.place("a", SELL, price="100", qty="1")
    before = core.state.accounts.state()
    (update,) = core.place("b", **{"side": BUY, "price": "99", "qty": "1"} | changes)
    assert isinstance(update, OrderUpdate)
    assert (update.status, update.reject_reason) == (OrderStatus.REJECTED, reason)
    assert update.reason_text
    assert core.state.accounts.state() == before
    assert core.state.orders.get(update.terms.order_id) is None


def test_a_notional_of_ten_to_the_eighteen_is_too_large() -> None:
    core = Core(replace(BTC_USD, price_max="999999999999999", qty_max="999999999999999"))
    (update,) = core.place("a", BUY, price="1000000000", qty="1000000000")
    assert isinstance(update, OrderUpdate)
    assert update.reject_reason == RejectReason.NOTIONAL_TOO_LARGE


def test_what_an_ioc_order_leaves_expires_and_its_hold_is_freed(core: Core) -> None:
    core.place("a", SELL, price="100", qty="1")
    events = core.place("b", BUY, price="101", qty="2", time_in_force=TimeInForce.IOC)
    last = events[-1]
    assert isinstance(last, OrderUpdate)
    assert (last.status, last.expire_reason, last.leaves) == (OrderStatus.EXPIRED, ExpireReason.IOC_REST, 0)
    assert core.balance("b", "USD") == (900 * USD, 0)


def test_a_fok_order_fills_whole_or_trades_nothing(core: Core) -> None:
    core.place("a", SELL, price="100", qty="1")
    core.place("a", SELL, price="101", qty="1")
    killed = updates(core.place("b", BUY, price="100", qty="2", time_in_force=TimeInForce.FOK))
    assert [update.status for update in killed] == [OrderStatus.NEW, OrderStatus.EXPIRED]
    assert killed[-1].expire_reason == ExpireReason.FOK_NOT_FILLABLE
    filled = updates(core.place("b", BUY, price="101", qty="2", time_in_force=TimeInForce.FOK))
    assert [update.status for update in filled if update.terms.user_id == "b"][-1] == OrderStatus.FILLED
    assert core.balance("b", "USD") == (799 * USD, 0)


def market(**changes: object) -> dict[str, object]:
    return {"order_type": OrderType.MARKET, "time_in_force": TimeInForce.IOC} | changes


def test_a_market_order_by_qty_holds_what_its_walk_costs(core: Core) -> None:
    core.place("a", SELL, price="100", qty="1")
    core.place("a", SELL, price="110", qty="1")
    events = core.place("b", BUY, **market(qty="3"))
    assert isinstance(events[0], Locked)
    assert events[0].change.amount == 210 * USD
    last = events[-1]
    assert isinstance(last, OrderUpdate)
    assert (last.status, last.expire_reason) == (OrderStatus.EXPIRED, ExpireReason.MARKET_REST)
    assert core.balance("b", "USD") == (790 * USD, 0)


def test_a_market_sell_holds_all_that_it_wants_to_sell(core: Core) -> None:
    core.place("a", BUY, price="100", qty="0.5")
    events = core.place("b", SELL, **market(qty="1"))
    assert isinstance(events[0], Locked)
    assert events[0].change.amount == 1 * BTC
    assert core.balance("b", "BTC") == (BTC // 2, 0)


def test_a_market_buy_fok_that_cannot_fill_locks_nothing_and_needs_no_money(core: Core) -> None:
    core.place("a", SELL, price="100", qty="1")
    events = core.place("pauper", BUY, **market(qty="3", time_in_force=TimeInForce.FOK))
    assert [update.status for update in updates(events)] == [OrderStatus.NEW, OrderStatus.EXPIRED]
    assert len(events) == 2


def test_money_to_spend_buys_whole_steps_and_the_rest_is_released_with_the_last_trade(core: Core) -> None:
    core.place("a", SELL, price="100", qty="1")
    core.place("a", SELL, price="300", qty="1")
    events = core.place("b", BUY, **market(quote_qty="150.02"))
    own = [update for update in updates(events) if update.terms.user_id == "b"]
    assert [update.status for update in own] == [OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED]
    assert own[-1].filled == BTC + 1667 * 10**4
    assert own[-1].leaves is None
    assert own[-1].leaves_quote == 0
    assert own[1].leaves_quote == 5002 * 10**8
    spent = 100 * USD + 300 * USD * 1667 // 10**4
    assert own[-1].cumulative_quote == spent
    assert core.balance("b", "USD") == (1000 * USD - spent, 0)
    assert isinstance(events[-3], Unlocked)


def test_money_to_spend_is_filled_where_the_rest_buys_no_step_of_the_same_order(core: Core) -> None:
    core.place("a", SELL, price="100", qty="1")
    own = [u for u in updates(core.place("b", BUY, **market(quote_qty="10.001"))) if u.terms.user_id == "b"]
    assert own[-1].status == OrderStatus.FILLED


def test_money_that_buys_nothing_or_outlasts_the_book_expires(core: Core) -> None:
    core.place("a", SELL, price="100000", qty="0.0001")
    nothing = updates(core.place("b", BUY, **market(quote_qty="9")))
    assert (nothing[-1].status, nothing[-1].filled) == (OrderStatus.EXPIRED, 0)
    outlasts = [u for u in updates(core.place("b", BUY, **market(quote_qty="20"))) if u.terms.user_id == "b"]
    assert (outlasts[-1].status, outlasts[-1].filled) == (OrderStatus.EXPIRED, 10**4)
    assert core.balance("b", "USD") == (990 * USD, 0)


def test_an_order_makes_at_most_so_many_trades_and_the_rest_expires() -> None:
    core = Core(trades_per_order_max=3)
    core.deposit("a", BTC="10")
    core.deposit("b", USD="10000")
    for _ in range(5):
        core.place("a", SELL, price="100", qty="1")
    last = core.place("b", BUY, price="100", qty="5")[-1]
    assert isinstance(last, OrderUpdate)
    assert (last.status, last.expire_reason, last.filled) == (OrderStatus.EXPIRED, ExpireReason.MATCH_LIMIT, 3 * BTC)
    exact = core.place("b", BUY, price="100", qty="2")[-2]
    assert isinstance(exact, OrderUpdate)
    assert exact.status == OrderStatus.FILLED


def test_a_user_can_trade_with_itself_and_every_line_starts_from_the_one_before(core: Core) -> None:
    core.place("b", SELL, price="100", qty="1")
    matched = next(event for event in core.place("b", BUY, price="100", qty="1") if isinstance(event, Matched))
    assert matched.taker_receives.available_after == matched.maker_gives.available_after
    assert [core.state.accounts.missing(asset) for asset in ("USD", "BTC")] == [0, 0]
    assert core.balance("b", "USD") == (1000 * USD - USD // 10, 0)


def test_a_cancelled_order_frees_its_hold_and_leaves_the_book(core: Core) -> None:
    order = updates(core.place("b", BUY, price="100", qty="2"))[0]
    unlocked, update = core.cancel("b", order.terms.order_id)
    assert isinstance(unlocked, Unlocked)
    assert isinstance(update, OrderUpdate)
    assert (update.status, update.leaves, update.previous_status) == (OrderStatus.CANCELLED, 0, OrderStatus.NEW)
    assert core.balance("b", "USD") == (1000 * USD, 0)
    assert not core.state.books["BTC-USD"].bids
