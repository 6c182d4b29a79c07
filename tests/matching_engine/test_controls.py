"""Mass cancels and the operator's controls through the contract: what they do, what they refuse, and that all of it lasts."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from ordertape.v1 import instrument_pb2, ledger_pb2, order_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from services.matching_engine.bootstrap import Engine
from services.wire.position import decode_position
from tests.support.engine_client import (
    BUY,
    CANCELLED,
    NEW,
    REJECTED,
    SELL,
    EngineClient,
    cancel,
    failure_of,
    limit,
    market,
    newest,
    replace,
    stop,
)
from tests.support.engine_exchange import BTC_USD, ETH_USD, INSTRUMENTS, running_engine
from tests.support.engine_process import verify_ledger
from tests.support.timelines import line_of

CODE = grpc.StatusCode
OPERATOR = order_pb2.CANCEL_REASON_OPERATOR


def last_batch(client: EngineClient) -> ledger_pb2.LedgerBatch:
    return ledger_pb2.LedgerBatch.FromString(client.batches(client.durable_sequence() - 1)[-1])


def ended_in(batch: ledger_pb2.LedgerBatch) -> list[int]:
    """The orders that a batch cancelled, in its order."""
    updates = [command.order_update for command in batch.commands]
    return [update.order_id for update in updates if update.status == CANCELLED]


def orders_of_every_kind(client: EngineClient) -> dict[str, int]:
    """Open orders of user a, by what they are; b has one, too."""
    requests = {
        "btc sell": limit("a", SELL, "300", "1"),
        "btc buy": limit("a", BUY, "10", "1"),
        "eth sell": limit("a", SELL, "300", "1", symbol="ETH-USD"),
        "eth buy": limit("a", BUY, "10", "1", symbol="ETH-USD"),
        "iceberg sell": limit("a", SELL, "301", "5", display_qty="1"),
        "stop sell": stop("a", SELL, "5", qty="1"),
        "stop buy": stop("a", BUY, "400", quote_qty="55"),
        "eth stop buy": stop("a", BUY, "400", price="401", qty="1", symbol="ETH-USD"),
    }
    results = client.submit(*requests.values(), limit("b", BUY, "10", "1")).results
    return {name: newest(result.updates).order_id for name, result in zip(requests, results, strict=False)}


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({}, ()),
        ({"side": SELL}, ("sell",)),
        ({"side": BUY}, ("buy",)),
        ({"symbols": ["ETH-USD"]}, ("eth",)),
        ({"symbols": ["ETH-USD"], "side": BUY}, ("eth", "buy")),
        ({"symbols": ["NONE", "ETH-USD", "BTC-USD", "ETH-USD"]}, ()),
        ({"symbols": ["NONE"]}, ("none",)),
        ({"symbols": ["GOLD-USD"]}, ("gold",)),
    ],
    ids=str,
)
def test_a_mass_cancel_ends_the_orders_that_it_names_and_no_others(
    client: EngineClient, filters: dict[str, Any], words: tuple[str, ...]
) -> None:
    orders = orders_of_every_kind(client)
    meant = [order_id for name, order_id in orders.items() if all(word in name.split() for word in words)]
    before = client.durable_sequence()
    assert client.cancel_orders("a", dry_run=True, **filters).cancelled_count == len(meant)
    assert client.durable_sequence() == before
    answer = client.cancel_orders("a", "why", **filters)
    assert answer.cancelled_count == len(meant)
    assert decode_position(answer.position).sequence == client.durable_sequence()
    batch = last_batch(client)
    assert ended_in(batch) == meant
    updates = [command.order_update for command in batch.commands if command.HasField("order_update")]
    assert {(update.cancel_reason, update.request_id) for update in updates} <= {(order_pb2.CANCEL_REASON_MASS_CANCEL, "why")}
    done = batch.commands[-1].mass_cancel_done
    assert (done.user_id, done.request_id, done.cancelled_count) == ("a", "why", len(meant))
    assert client.cancel_orders("a", dry_run=True).cancelled_count == len(orders) - len(meant)
    assert client.cancel_orders("b", dry_run=True).cancelled_count == 1
    if not words:
        assert client.balances("a") == {"BTC": ("1000", "0"), "ETH": ("1000", "0"), "USD": ("1000000", "0")}


def test_a_mass_cancel_of_a_user_who_never_was_does_nothing_and_says_so(client: EngineClient) -> None:
    assert client.cancel_orders("nobody", dry_run=True).cancelled_count == 0
    assert client.cancel_orders("nobody").cancelled_count == 0
    assert [command.WhichOneof("command") for command in last_batch(client).commands] == ["mass_cancel_done"]


def test_a_halted_symbol_takes_no_order_and_no_replace_lets_all_be_cancelled_and_others_trade(client: EngineClient) -> None:
    orders = orders_of_every_kind(client)
    client.set_symbol("BTC-USD", "HALTED", "halt", "fire in the house")
    command = last_batch(client).commands[0].trading_status_set
    assert (command.symbol, command.reason_text) == ("BTC-USD", "fire in the house")
    assert client.book().trading_status == instrument_pb2.TRADING_STATUS_HALTED
    assert client.book("ETH-USD").trading_status == instrument_pb2.TRADING_STATUS_TRADING
    requests = [
        limit("b", BUY, "300", "1"), market("b", BUY, qty="1"), stop("b", BUY, "1", qty="1"), limit("b", BUY, "0.001", "0.00001")
    ]  # fmt: skip
    for request in requests:
        (update,) = client.place(request).updates
        assert (update.status, update.reject_reason) == (REJECTED, order_pb2.REJECT_REASON_SYMBOL_HALTED)
        assert "BTC-USD is halted" in update.reason_text
    for change in ({"qty": "0.5"}, {"price": "299"}):
        failure = failure_of(lambda change=change: client.replace(replace("a", orders["btc sell"], **change)))
        assert (failure.code, failure.reason) == (CODE.FAILED_PRECONDITION, "REPLACE_REFUSED")
        assert "halted" in failure.text
    assert newest(client.place(market("b", BUY, qty="0.5", symbol="ETH-USD")).updates).filled_qty == "0.5"
    client.cancel(cancel("a", orders["btc sell"]))
    client.force_cancel(orders["btc buy"], "force")
    assert client.cancel_orders("a", symbols=["BTC-USD"]).cancelled_count == 3
    client.set_symbol("BTC-USD", "TRADING", "resume")
    assert client.book().trading_status == instrument_pb2.TRADING_STATUS_TRADING
    assert newest(client.place(limit("b", BUY, "300", "1")).updates).status == NEW


def test_a_halt_and_a_suspension_last_over_restarts(data_dir: Path) -> None:
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", USD="1000")
        client.set_symbol("BTC-USD", "HALTED", "halt")
        client.set_symbol("BTC-USD", "HALTED", "halt-again")  # no error: it is as was asked
        client.set_user("a", "SUSPENDED", "suspend")
    for _ in range(2):
        with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
            assert client.book().trading_status == instrument_pb2.TRADING_STATUS_HALTED
            for symbol, reason in (("BTC-USD", order_pb2.REJECT_REASON_SYMBOL_HALTED),
                                   ("ETH-USD", order_pb2.REJECT_REASON_USER_SUSPENDED)):  # fmt: skip
                assert newest(client.place(limit("a", BUY, "10", "1", symbol=symbol)).updates).reject_reason == reason
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.set_symbol("BTC-USD", "TRADING", "resume")
        client.set_user("a", "ACTIVE", "readmit")
        assert newest(client.place(limit("a", BUY, "10", "1")).updates).status == NEW
    code, said = verify_ledger(data_dir)
    assert code == 0, said


def test_a_suspended_user_places_and_changes_nothing_and_may_cancel_and_take_money_out(client: EngineClient) -> None:
    orders = orders_of_every_kind(client)
    client.set_user("a", "SUSPENDED", "suspend", reason_text="fraud")
    command = last_batch(client).commands[0].user_status_set
    assert (command.user_id, command.status, command.reason_text) == ("a", instrument_pb2.USER_STATUS_SUSPENDED, "fraud")
    assert client.cancel_orders("a", dry_run=True).cancelled_count == len(orders)  # nobody said to cancel them
    (update,) = client.place(limit("a", BUY, "10", "1")).updates
    assert (update.reject_reason, "a is suspended" in update.reason_text) == (order_pb2.REJECT_REASON_USER_SUSPENDED, True)
    failure = failure_of(lambda: client.replace(replace("a", orders["btc sell"], qty="0.5")))
    assert (failure.code, failure.reason) == (CODE.FAILED_PRECONDITION, "REPLACE_REFUSED")
    assert newest(client.place(limit("b", BUY, "300", "0.5")).updates).filled_qty == "0.5"  # what rests is traded with
    client.cancel(cancel("a", orders["btc sell"]))
    client.withdraw(pb.WithdrawRequest(user_id="a", asset="USD", amount="1", request_id="out"))
    client.set_user("a", "ACTIVE", "readmit")
    assert newest(client.place(limit("a", BUY, "10", "1")).updates).status == NEW


def test_a_suspension_ends_the_users_orders_of_every_kind_where_it_is_told_to(client: EngineClient) -> None:
    orders = orders_of_every_kind(client)
    answer = client.set_user("a", "SUSPENDED", "out", cancel_open_orders=True, reason_text="fraud")
    assert decode_position(answer.position).sequence == client.durable_sequence()
    batch = last_batch(client)
    assert ended_in(batch) == list(orders.values())
    updates = [command.order_update for command in batch.commands if command.HasField("order_update")]
    assert {(update.cancel_reason, update.reason_text) for update in updates} == {(OPERATOR, "fraud")}
    assert batch.commands[-1].HasField("user_status_set")
    assert client.balances("a") == {"BTC": ("1000", "0"), "ETH": ("1000", "0"), "USD": ("1000000", "0")}
    # Once more, of who has orders no more and is suspended already: no error.
    assert not client.set_user("a", "SUSPENDED", "out-again", cancel_open_orders=True).replayed
    assert newest(client.place(limit("a", BUY, "10", "1")).updates).reject_reason == order_pb2.REJECT_REASON_USER_SUSPENDED
    assert client.cancel_orders("b", dry_run=True).cancelled_count == 1


def test_an_operator_cancels_any_open_order_and_none_that_is_closed_or_never_was(client: EngineClient) -> None:
    orders = orders_of_every_kind(client)
    for number, (name, order_id) in enumerate(orders.items()):
        answer = client.force_cancel(order_id, f"force{number}", f"because of {name}")
        (update,) = answer.updates
        assert (line_of(update), update.reason_text) == ("CANCELLED CANCELLED 0 0 OPERATOR", f"because of {name}")
        assert decode_position(answer.position).sequence == client.durable_sequence()
        before = client.durable_sequence()
        failure = failure_of(lambda order_id=order_id: client.force_cancel(order_id, "again"))
        assert (failure.code, failure.reason) == (CODE.FAILED_PRECONDITION, "ORDER_CLOSED")
        assert failure.text.startswith(f"too late: order {order_id} is CANCELLED")
        assert failure.metadata == {"order_id": str(order_id), "status": "CANCELLED"}
        assert client.durable_sequence() == before
    failure = failure_of(lambda: client.force_cancel(999, "again"))
    assert (failure.code, failure.reason) == (CODE.NOT_FOUND, "ORDER_NOT_FOUND")
    assert "order_id 999" in failure.text
    # The user's own cancel comes too late, too.
    assert failure_of(lambda: client.cancel(cancel("a", orders["btc buy"]))).reason == "ORDER_CLOSED"


def test_new_rules_hold_from_now_on_for_orders_replaces_and_fees_and_last_over_a_restart(data_dir: Path) -> None:
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", "b", USD="100000", BTC="100")
        old = newest(client.place(limit("a", SELL, "300", "1.5")).updates)
        rules = BTC_USD | {
            "qty_step": "1", "qty_min": "2", "price_max": "500.00", "maker_fee_rate": "0.5", "price_band_rate": "0.10",
        }  # fmt: skip
        answer = client.set_instrument(rules, "rules")
        now = answer.instrument
        assert (now.qty_step, now.qty_min, now.price_max, now.price_band_rate) == ("1", "2", "500", "0.1")
        assert last_batch(client).commands[0].instrument_set.instrument == now
        (listed,) = [one for one in instruments_of(client) if one.symbol == "BTC-USD"]
        assert listed == now
        refused = [("300", "1.5", "QTY_OFF_STEP"), ("300", "1", "QTY_OUTSIDE_LIMITS"), ("501", "2", "PRICE_OUTSIDE_LIMITS")]
        for price, qty, reason in refused:
            update = newest(client.place(limit("b", BUY, price, qty)).updates)
            assert order_pb2.RejectReason.Name(update.reject_reason) == f"REJECT_REASON_{reason}"
        assert "step" in failure_of(lambda: client.replace(replace("a", old.order_id, qty="1.2"))).text
        assert "outside" in failure_of(lambda: client.replace(replace("a", old.order_id, qty="1"))).text
        client.place(limit("b", BUY, "300", "2"))
        assert client.balances("a")["USD"] == ("100225", "0")  # half of 450 went as the new fee
        update = newest(client.place(limit("a", SELL, "331", "2")).updates)
        assert update.reject_reason == order_pb2.REJECT_REASON_PRICE_OUTSIDE_BAND
    with running_engine(data_dir, instruments=()) as engine, EngineClient(engine.address) as client:
        assert now in instruments_of(client)
        assert newest(client.place(limit("b", BUY, "501", "2")).updates).status == REJECTED
    # Config that names an instrument has the last word at a start.
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        assert {one.symbol: one.price_max for one in instruments_of(client)}["BTC-USD"] == BTC_USD["price_max"]
    code, said = verify_ledger(data_dir)
    assert code == 0, said


def test_an_instrument_that_is_listed_at_run_time_can_be_traded_at_once(client: EngineClient) -> None:
    rules = ETH_USD | {"symbol": "XRP-USD", "base_asset": "XRP", "base_asset_decimals": 10}
    assert failure_of(lambda: client.fund("a", XRP="1")).code == CODE.NOT_FOUND
    client.set_instrument(rules, "list")
    assert [one.symbol for one in instruments_of(client)] == sorted([*(one["symbol"] for one in INSTRUMENTS), "XRP-USD"])
    client.fund("a", XRP="0.0000000001")
    client.fund("a", XRP="10")
    client.place(limit("a", SELL, "3", "10", symbol="XRP-USD"))
    assert newest(client.place(limit("b", BUY, "3", "4", symbol="XRP-USD")).updates).filled_qty == "4"
    assert client.book("XRP-USD").last_trade_price == "3"


def instruments_of(client: EngineClient) -> list[instrument_pb2.Instrument]:
    return list(client.engine.ListInstruments(pb.ListInstrumentsRequest()).instruments)


REFUSED_RULES: list[tuple[dict[str, Any], str]] = [
    ({"price_decimals": 1, "price_step": "0.1"}, "price_decimals of BTC-USD must stay 2, is 1"),
    ({"qty_decimals": 7}, "qty_decimals of BTC-USD must stay 8, is 7"),
    ({"base_asset": "XBT"}, "base_asset of BTC-USD must stay BTC, is XBT"),
    ({"quote_asset": "EUR"}, "quote_asset of BTC-USD must stay USD, is EUR"),
    ({"base_asset_decimals": 9}, "decimals of BTC must stay 8 as another instrument has them, are 9 in BTC-USD"),
    ({"quote_asset_decimals": 12}, "decimals of USD must stay 10"),
    ({"quote_asset_decimals": 19}, "quote_asset_decimals of BTC-USD must be 0 to 18, is 19"),
    ({"qty_decimals": -1}, "qty_decimals of BTC-USD must be 0 to 18, is -1"),
    ({"price_step": "0.001"}, "price_step of BTC-USD must have at most 2 decimals, is 0.001"),
    ({"price_min": "0.001"}, "price_min of BTC-USD must have at most 2 decimals"),
    ({"price_step": "0.5", "price_min": "0.7"}, "price_min of BTC-USD must be a multiple of price_step (0.5), is 0.7"),
    ({"price_max": "0.5"}, "price_max of BTC-USD must be at least price_min (1), is 0.5"),
    ({"qty_min": "0.00001"}, "qty_min of BTC-USD must be at least qty_step (0.0001), is 0.00001"),
    ({"qty_max": "0.00005"}, "qty_max of BTC-USD must be at least qty_min"),
    ({"notional_min": "0.00000000001"}, "notional_min of BTC-USD must have at most 10 decimals"),
    ({"maker_fee_rate": "1"}, "maker_fee_rate of BTC-USD must be below 1, is 1"),
    ({"taker_fee_rate": "1.5"}, "taker_fee_rate of BTC-USD must be below 1, is 1.5"),
    ({"symbol": "BTC-BTC", "quote_asset": "BTC"}, "quote_asset of BTC-BTC must differ from base_asset, is BTC"),
    ({"symbol": "NEW-USD", "base_asset": "NEW", "quote_asset_decimals": 11}, "decimals of USD must stay 10"),
    ({"symbol": "NEW-USD", "base_asset": "NEW", "base_asset_decimals": 7}, "base_asset_decimals of NEW-USD must be at least"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED_RULES, ids=[str(changes) for changes, _ in REFUSED_RULES])
def test_rules_that_contradict_themselves_others_or_what_never_changes_are_refused_and_change_nothing(
    client: EngineClient, engine: Engine, changes: dict[str, Any], words: str
) -> None:
    before = engine.state.describe()
    failure = failure_of(lambda: client.set_instrument(BTC_USD | changes, "rules"))
    assert (failure.code, failure.reason) == (CODE.FAILED_PRECONDITION, "INSTRUMENT_REFUSED")
    assert words in failure.text
    assert engine.state.describe() == before
    assert not client.set_instrument(BTC_USD | {"price_max": "2000000"}, "rules").replayed


def test_controls_of_what_is_not_there_are_refused(client: EngineClient) -> None:
    before = client.durable_sequence()
    failure = failure_of(lambda: client.set_symbol("NONE", "HALTED", "halt"))
    assert (failure.code, failure.reason) == (CODE.NOT_FOUND, "SYMBOL_NOT_FOUND")
    assert "NONE" in failure.text
    assert client.durable_sequence() == before
    # A user needs no account to be suspended: it may come later.
    client.set_user("later", "SUSPENDED", "before")
    client.fund("later", USD="1000")
    assert newest(client.place(limit("later", BUY, "10", "1")).updates).reject_reason == order_pb2.REJECT_REASON_USER_SUSPENDED
