"""How the venue's rows become orders and cancels, rule by rule, and the figures of the whole recording where it is at hand."""

from decimal import Decimal
from pathlib import Path

import pytest

from services.cli.demo.command import FUNDS
from services.cli.demo.flow import Cancel, Flow, OpenOrder, Place, Trade, canonical, flow_of
from services.cli.demo.recording import OrderRow, Recording, TradeRow, read_files

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "bitstamp-btcusd-2026-05-02"

BID, ASK = "bid", "ask"
INITIAL = [OrderRow("b1", 0, "99.0", "5.0", "created", BID), OrderRow("a1", 0, "101.0", "1e-06", "created", ASK)]
# A trade far away from every order of the tests, so that the recording has a price range.
FAR = TradeRow("x", "y", "buy", "100", "1")


def row(venue_id: str, price: str, volume: str, action: str, direction: str, ms: int = 1000) -> OrderRow:
    return OrderRow(venue_id, ms, price, volume, action, direction)


def converted(*live: OrderRow, trades: list[TradeRow] | None = None, initial: list[OrderRow] | None = None) -> Flow:
    """The flow of a recording in which every initial order is named once more, so that none counts as gone."""
    rows = INITIAL if initial is None else initial
    named = [row(one.venue_id, one.price, one.volume, "changed", one.direction, 999) for one in rows] if initial is None else []
    return flow_of(Recording(rows, [*named, *live], [], [FAR, *(trades or [])]))


def placed(flow: Flow, venue_id: str) -> Place:
    return next(place for place in flow.places if place.venue_id == venue_id)


def test_an_order_that_takes_in_no_trade_is_sent_post_only_with_its_size_in_plain_decimals() -> None:
    flow = converted()
    assert placed(flow, "a1") == Place("a1", 0, False, "101", "0.000001", None, post_only=True, refused=False)


def test_an_order_that_crosses_without_a_trade_was_refused_and_its_delete_is_no_cancel() -> None:
    flow = converted(row("b2", "101.0", "1.0", "created", BID), row("b2", "101.0", "1.0", "deleted", BID))
    assert placed(flow, "b2").refused
    assert not flow.cancels
    assert "b2" not in flow.open_orders


def test_a_price_that_only_a_cancelled_order_had_is_not_crossed() -> None:
    flow = converted(row("a1", "101.0", "0.000001", "deleted", ASK), row("b2", "101.0", "1.0", "created", BID))
    assert not placed(flow, "b2").refused


def test_a_taker_is_sent_with_its_full_size_and_its_rest_is_in_the_book() -> None:
    trade = TradeRow("b2", "a1", "buy", "101.0", "0.000001")
    flow = converted(
        row("b2", "102.0", "2.0", "created", BID),
        row("b2", "101.0", "1.999999", "changed", BID),
        row("a1", "101.0", "0.0", "deleted", ASK),
        trades=[trade],
    )
    assert placed(flow, "b2") == Place("b2", 1, True, "102", "2", None, post_only=False, refused=False)
    assert flow.trades == [Trade("b2", "a1", Decimal(101), Decimal("0.000001"))]
    assert not flow.cancels, "a delete with volume 0 says that the order was filled"
    assert flow.open_orders["b2"] == OpenOrder(True, Decimal(102), Decimal("1.999999"))


def test_a_delete_of_an_open_order_is_a_cancel_of_what_remains() -> None:
    flow = converted(row("b1", "99.0", "5.0", "deleted", BID, 3999))
    assert flow.cancels == [Cancel("b1", 3000, True, Decimal(5))]


def test_a_market_order_to_buy_for_money_is_sent_with_what_its_trades_cost() -> None:
    flow = converted(
        row("b2", "999999999.0", "0.0", "created", BID),
        row("b2", "101.0", "1e-08", "deleted", BID),
        trades=[TradeRow("b2", "a1", "buy", "101.0", "0.000001")],
    )
    assert placed(flow, "b2") == Place("b2", 1, True, None, None, "0.000101", post_only=False, refused=False)
    assert not flow.cancels


def test_an_ask_at_price_0_that_trades_is_a_market_order_to_sell() -> None:
    flow = converted(row("a2", "0.0", "0.5", "created", ASK), trades=[TradeRow("b1", "a2", "sell", "99.0", "0.5")])
    assert placed(flow, "a2") == Place("a2", 1, False, None, "0.5", None, post_only=False, refused=False)
    assert flow.open_orders["b1"].leaves == Decimal("4.5")


def test_an_initial_order_that_trades_went_through_and_no_row_names_again_is_left_out() -> None:
    ghost = OrderRow("g", 0, "99.5", "1.0", "created", ASK)
    kept = OrderRow("k", 0, "99.6", "1.0", "created", ASK)
    flow = converted(row("k", "99.6", "1.0", "deleted", ASK), initial=[ghost, kept])
    assert flow.left_out == ["g"]
    assert [cancel.venue_id for cancel in flow.cancels] == ["k"]


def test_a_bid_at_price_0_and_deletes_of_orders_never_shown_are_left_out() -> None:
    unpriced = OrderRow("z", 0, "0.0", "10.0", "created", BID)
    flow = converted(row("unknown", "98.0", "1.0", "deleted", BID), initial=[unpriced])
    assert flow.left_out == ["z"]
    assert not flow.items


def test_the_first_minutes_end_with_the_book_that_stood_then() -> None:
    live = [row("b2", "98.0", "1.0", "created", BID, 0), row("b2", "98.0", "1.0", "deleted", BID, 60_000)]
    recording = Recording([], live, [], [FAR])
    assert list(flow_of(recording, minutes=1).open_orders) == ["b2"]
    assert not flow_of(recording, minutes=1.1).open_orders


@pytest.mark.parametrize(
    ("value", "text"), [("1E-8", "0.00000001"), ("5E+3", "5000"), ("0.50", "0.5"), ("100", "100"), ("0.0", "0")]
)
def test_decimals_are_written_as_the_contract_wants_them(value: str, text: str) -> None:
    assert canonical(Decimal(value)) == text


@pytest.fixture(scope="module")
def recording() -> Recording:
    if not RECORDED.is_dir():
        pytest.skip(f"the recording is not at {RECORDED}; `ordertape demo` fetches its own copy")
    orders, trades, meta = ((RECORDED / name).read_bytes() for name in ("orders.csv.gz", "trades.csv", "meta.json"))
    return read_files(orders, trades, meta)


@pytest.fixture(scope="module")
def whole(recording: Recording) -> Flow:
    return flow_of(recording)


def test_the_whole_recording_gives_the_figures_that_are_known_of_it(recording: Recording, whole: Flow) -> None:
    live = {order.venue_id for order in recording.live if order.action == "created"}
    assert sum(place.venue_id in live for place in whole.places) == 150_377
    assert len(whole.places) == 156_865
    assert len(whole.cancels) == 49_549
    assert len(whole.trades) == 284
    assert sum(place.refused for place in whole.places) == 100_518
    assert len(whole.left_out) == 24, "2 orders that were gone and 22 bids whose price is not known"


def test_the_recordings_own_last_book_is_the_flows(recording: Recording, whole: Flow) -> None:
    left = {order.venue_id: Decimal(order.volume) for order in recording.left if order.venue_id not in whole.left_out}
    assert {venue_id: order.leaves for venue_id, order in whole.open_orders.items()} == left


def test_every_refused_order_of_the_recording_was_deleted_whole_in_the_same_moment(recording: Recording, whole: Flow) -> None:
    refused = {place.venue_id: place for place in whole.places if place.refused}
    deleted = {order.venue_id: order for order in recording.live if order.action == "deleted" and order.venue_id in refused}
    assert deleted.keys() == refused.keys()
    assert all(Decimal(order.volume) == Decimal(refused[venue_id].qty or 0) for venue_id, order in deleted.items())


def test_every_cancel_finds_what_the_venue_had_left(whole: Flow) -> None:
    """The flow's book is made of creations and trades; a delete's volume is the venue's own word for what remained."""
    sizes = {place.venue_id: Decimal(place.qty or 0) for place in whole.places}
    for trade in whole.trades:
        for venue_id in (trade.buy_id, trade.sell_id):
            sizes[venue_id] -= trade.qty
    assert all(sizes[cancel.venue_id] == cancel.remaining for cancel in whole.cancels)


def test_the_funds_cover_every_order_at_once_and_stay_below_the_limit(whole: Flow) -> None:
    bids = sum(Decimal(place.price or 0) * Decimal(place.qty or 0) for place in whole.places if place.is_bid)
    asks = sum(Decimal(place.qty or 0) for place in whole.places if not place.is_bid)
    assert bids < FUNDS["bids", "USD"] < 10**17
    assert asks < FUNDS["asks", "BTC"] < 10**17
