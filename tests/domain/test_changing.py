"""Replaces, mass cancels and the operator's controls, through the pure core."""

from dataclasses import replace

import pytest

from services.domain.commands import ApplyConfig, CancelOrders, ForceCancel, SessionLost, SetTradingStatus, SetUserStatus
from services.domain.errors import OrderNotOpen, ReplaceRefused, UnknownSymbol, VersionMismatch
from services.domain.events import Locked, MassCancelDone, Matched, Unlocked, UserStatusChanged
from services.domain.kinds import CancelReason, OrderStatus, OrderType, RejectReason, Side, TradingStatus, UserStatus
from services.domain.order import OrderUpdate
from tests.support.exchange import BTC_USD, Core, updates

BUY, SELL = Side.BUY, Side.SELL
USD, BTC = 10**10, 10**8


@pytest.fixture
def core() -> Core:
    made = Core(replace(BTC_USD, maker_fee_rate="0", taker_fee_rate="0"))
    for user in "abc":
        made.deposit(user, USD="10000", BTC="10")
    return made


def placed(core: Core, *arguments: object, **changes: object) -> int:
    return updates(core.place(*arguments, **changes))[0].terms.order_id


def test_less_qty_at_the_same_price_keeps_the_place_and_frees_the_difference(core: Core) -> None:
    order_id = placed(core, "a", SELL, price="100", qty="2")
    other = placed(core, "b", SELL, price="100", qty="1")
    unlocked, replaced = core.replace("a", order_id, qty="1")
    assert isinstance(unlocked, Unlocked)
    assert isinstance(replaced, OrderUpdate)
    assert (replaced.terms.version, replaced.terms.qty_text, replaced.leaves) == (2, "1", 1 * BTC)
    events = core.place("c", BUY, price="100", qty="1.5")
    assert [event.maker_order_id for event in events if isinstance(event, Matched)] == [order_id, other]
    core.check()


@pytest.mark.parametrize("changes", [{"qty": "3"}, {"price": "101", "qty": "1"}])
def test_more_qty_or_another_price_goes_to_the_back(core: Core, changes: dict[str, str]) -> None:
    order_id = placed(core, "a", SELL, price="100", qty="2")
    other = placed(core, "b", SELL, price="101" if "price" in changes else "100", qty="1")
    core.replace("a", order_id, **changes)
    events = core.place("c", BUY, price="101", qty="1")
    assert [event.maker_order_id for event in events if isinstance(event, Matched)] == [other]
    core.check()


def test_a_price_that_crosses_takes_after_the_order_said_replaced(core: Core) -> None:
    order_id = placed(core, "b", BUY, price="90", qty="2")
    core.place("a", SELL, price="100", qty="1")
    events = core.replace("b", order_id, price="101")
    assert isinstance(events[0], Locked)
    assert events[0].change.amount == 22 * USD
    assert core.story(order_id) == ["NEW NEW", "REPLACED NEW", "TRADE PARTIALLY_FILLED"]
    assert core.balance("b", "USD") == (9799 * USD, 101 * USD)
    core.check()


def test_a_qty_at_or_below_what_is_filled_ends_the_order_filled(core: Core) -> None:
    order_id = placed(core, "b", BUY, price="100", qty="3")
    core.place("a", SELL, price="100", qty="2")
    core.replace("b", order_id, qty="1")
    last = core.timeline(order_id)[-1]
    assert (last.status, last.exec_type.name, last.terms.qty_text, last.leaves) == (OrderStatus.FILLED, "REPLACED", "2", 0)
    assert core.balance("b", "USD") == (9800 * USD, 0)
    assert not core.state.books["BTC-USD"].bids
    core.check()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"price": "100"}, "changes nothing"),
        ({"price": "100.001"}, "multiple of the step"),
        ({"qty": "0.00001"}, "multiple of the step"),
        ({"price": "1000000.01"}, "outside"),
        ({"price": "100000"}, "does not cover"),
        ({"stop_price": "100"}, "has none"),
        ({"display_qty": "1"}, "has none"),
    ],
)
def test_a_replace_that_is_not_possible_changes_nothing_and_says_why(core: Core, changes: dict[str, str], text: str) -> None:
    order_id = placed(core, "b", BUY, price="100", qty="2")
    before = core.state.describe()
    with pytest.raises(ReplaceRefused, match=text):
        core.replace("b", order_id, **changes)
    assert core.state.describe() == before


def test_a_post_only_order_is_not_replaced_so_that_it_would_take(core: Core) -> None:
    core.place("a", SELL, price="100", qty="1")
    order_id = placed(core, "b", BUY, price="90", qty="1", post_only=True)
    with pytest.raises(ReplaceRefused, match="would take"):
        core.replace("b", order_id, price="100")


def test_a_replace_can_insist_on_a_version(core: Core) -> None:
    order_id = placed(core, "b", BUY, price="90", qty="1")
    core.replace("b", order_id, price="91", expected_version=1)
    with pytest.raises(VersionMismatch):
        core.replace("b", order_id, price="92", expected_version=1)
    with pytest.raises(OrderNotOpen):
        core.replace("a", order_id, price="92")


def test_a_mass_cancel_takes_500_at_a_time_and_ends_with_their_count(core: Core) -> None:
    core.deposit("m", USD="1000000", BTC="1000")
    for _ in range(600):
        core.place("m", BUY, price="10", qty="1")
    core.place("m", SELL, price="100", qty="1")
    command = CancelOrders("m", "r", (), BUY)
    one = core.do(command)
    assert not isinstance(one[-1], MassCancelDone)
    two = core.do(command)
    assert two[-1] == MassCancelDone("m", "r", 600)
    assert all(update.cancel_reason == CancelReason.MASS_CANCEL for update in updates(one + two))
    assert core.state.orders.count_of_user("m") == 1
    assert core.do(command) == [MassCancelDone("m", "r", 0)]
    core.check()


def test_a_halted_symbol_refuses_new_orders_and_lets_open_ones_be_cancelled(core: Core) -> None:
    order_id = placed(core, "a", SELL, price="100", qty="1")
    core.do(SetTradingStatus("BTC-USD", TradingStatus.HALTED, "maintenance"))
    assert updates(core.place("b", BUY, price="100", qty="1"))[0].reject_reason == RejectReason.SYMBOL_HALTED
    with pytest.raises(ReplaceRefused, match="halted"):
        core.replace("a", order_id, price="101")
    core.cancel("a", order_id)
    core.do(SetTradingStatus("BTC-USD", TradingStatus.TRADING, ""))
    assert updates(core.place("b", BUY, price="100", qty="1"))[0].status == OrderStatus.NEW
    with pytest.raises(UnknownSymbol):
        core.do(SetTradingStatus("NO-SUCH", TradingStatus.HALTED, ""))


def test_a_suspended_user_places_nothing_and_loses_its_orders_if_told_so(core: Core) -> None:
    first, second = (placed(core, "a", SELL, price="100", qty="1") for _ in range(2))
    events = core.do(SetUserStatus("a", UserStatus.SUSPENDED, True, "fraud"))
    assert isinstance(events[-1], UserStatusChanged)
    assert [(u.terms.order_id, u.cancel_reason, u.reason_text) for u in updates(events)] == [
        (first, CancelReason.OPERATOR, "fraud"),
        (second, CancelReason.OPERATOR, "fraud"),
    ]
    assert updates(core.place("a", BUY, price="1", qty="1"))[0].reject_reason == RejectReason.USER_SUSPENDED
    kept = placed(core, "b", SELL, price="100", qty="1")
    core.do(SetUserStatus("b", UserStatus.SUSPENDED, False, ""))
    with pytest.raises(ReplaceRefused, match="suspended"):
        core.replace("b", kept, qty="2")
    core.cancel("b", kept)
    core.do(SetUserStatus("a", UserStatus.ACTIVE, False, ""))
    assert updates(core.place("a", BUY, price="1", qty="1"))[0].status == OrderStatus.NEW
    core.check()


def test_an_operator_cancels_any_order_and_a_lost_session_all_of_its_users(core: Core) -> None:
    first, second = (placed(core, "a", SELL, price="100", qty="1") for _ in range(2))
    core.do(ForceCancel(first, "erroneous"))
    assert core.timeline(first)[-1].cancel_reason == CancelReason.OPERATOR
    core.do(SessionLost("a"))
    assert core.timeline(second)[-1].cancel_reason == CancelReason.DISCONNECT
    assert core.do(SessionLost("a")) == []
    with pytest.raises(OrderNotOpen):
        core.do(ForceCancel(first, ""))
    core.check()


def test_open_orders_go_by_the_instruments_rules_as_they_are_now(core: Core) -> None:
    stop = placed(core, "a", BUY, order_type=OrderType.STOP, stop_price="100", qty="1")
    bid = placed(core, "b", BUY, price="90", qty="1")
    core.do(ApplyConfig(replace(BTC_USD, maker_fee_rate="0", taker_fee_rate="0.01", price_max="150")))
    with pytest.raises(ReplaceRefused, match=r"outside 0\.01 to 150"):
        core.replace("b", bid, price="200")
    core.place("c", SELL, price="100", qty="3")
    core.place("b", BUY, price="100", qty="1")
    assert core.timeline(stop)[-1].cumulative_fee == 1 * BTC // 100
    core.check()


def test_an_iceberg_too_ends_filled_where_its_new_qty_is_filled_already(core: Core) -> None:
    order_id = placed(core, "b", BUY, price="100", qty="5", display_qty="2")
    core.place("a", SELL, price="100", qty="3")
    with pytest.raises(ReplaceRefused, match=r"display_qty 4 is more than qty 3\.5"):
        core.replace("b", order_id, qty="3.5", display_qty="4")
    core.replace("b", order_id, qty="1")
    last = core.timeline(order_id)[-1]
    assert (last.status, last.terms.qty_text, last.leaves, last.visible) == (OrderStatus.FILLED, "3", 0, 0)
    core.check()
