"""Each call of both clients against real services."""

import inspect
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from ordertape.client import (
    AlreadyExists,
    AsyncClient,
    Client,
    ErrorReason,
    ExecType,
    HistoryState,
    InvalidRequest,
    NotFound,
    NotYetApplied,
    OrderStatus,
    OrderType,
    RejectReason,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TradingStatus,
    requests,
)
from services.wire.position import encode_position
from tests.client.conftest import AnyClient, ended, got, next_of
from tests.support.exchange_process import Exchange


async def test_an_order_lives_its_life_under_its_key(client: Any, user: str) -> None:
    placed = await got(client.place("BTC-USD", "buy", "0.5", price=100))
    order = placed.order
    assert (placed.key, placed.replayed, placed.rejected) == (order.client_order_id, False, False)
    assert (order.user_id, order.side, order.price, order.qty) == (user, Side.BUY, Decimal(100), Decimal("0.5"))
    assert (order.order_type, order.time_in_force) == (OrderType.LIMIT, TimeInForce.GTC)
    assert abs(order.timestamp - datetime.now(UTC)) < timedelta(minutes=1)
    assert order.message.price == "100"

    replaced = await got(client.replace(placed.key, price=Decimal("99.50"), expected_version=1))
    assert (replaced.order.exec_type, replaced.order.price) == (ExecType.REPLACED, Decimal("99.5"))
    cancelled = await got(client.cancel(order.order_id, request_id="mine"))
    assert (cancelled.key, cancelled.order.request_id, cancelled.order.is_open) == ("mine", "mine", False)
    assert (await got(client.cancel(order.order_id, request_id="mine"))).replayed

    assert await got(client.order(placed.key)) == cancelled.order
    assert (await got(client.order(order.order_id, as_of=placed.position))).status is OrderStatus.NEW
    timeline = await got(client.order_updates(placed.key, page_size=1).rows())
    assert [update.exec_type for update in timeline] == [ExecType.NEW, ExecType.REPLACED, ExecType.CANCELLED]


async def test_the_type_of_an_order_is_what_its_prices_say(client: Any) -> None:
    async def placed(*arguments: Any, **options: Any) -> Any:
        return (await got(client.place("BTC-USD", *arguments, **options))).order

    assert (await placed("buy", quote_qty=10)).order_type is OrderType.MARKET
    assert (await placed(Side.SELL, 1, stop_price=5)).order_type is OrderType.STOP
    both = await placed("sell", 1, stop_price=5, price=4, self_trade_prevention="cancel-maker")
    assert (both.order_type, both.self_trade_prevention) == (OrderType.STOP_LIMIT, SelfTradePrevention.CANCEL_MAKER)
    end = datetime.now(UTC) + timedelta(hours=1)
    until = await placed("sell", 2, price=900_000, display_qty=1, expire_time=end)
    assert (until.time_in_force, until.expire_time, until.display_qty) == (TimeInForce.GTD, end, Decimal(1))
    assert (await placed("sell", 1, price=900_000, time_in_force="day", post_only=True)).post_only


async def test_money_the_book_and_the_rules(client: Any, user: str) -> None:
    held = await got(client.place("BTC-USD", "buy", "0.5", price="0.02"))
    balances = {balance.asset: balance for balance in await got(client.balances())}
    assert not held.rejected or held.order.reject_reason is RejectReason.NOTIONAL_TOO_SMALL
    assert balances["USD"].available + balances["USD"].held == 1_000_000
    withdrawn = await got(client.withdraw("BTC", Decimal("1.5"), request_id="out"))
    assert (withdrawn.key, withdrawn.balance.available) == ("out", Decimal("98.5"))

    await got(client.place("ETH-USD", "buy", 1, price=7))
    book = await got(client.book("ETH-USD"))
    assert any(level.price == 7 for level in book.bids)
    assert book.trading_status is TradingStatus.TRADING
    rules = {one.symbol: one for one in await got(client.instruments())}
    assert rules["BTC-USD"].price_step == Decimal("0.01")
    assert (await got(client.status())).state in (HistoryState.LIVE, HistoryState.CATCHING_UP)
    counted = await got(client.cancel_orders(symbols=["ETH-USD"], side="buy", dry_run=True))
    assert (await got(client.cancel_orders(symbols=["ETH-USD"], side="buy"))).cancelled_count == counted.cancelled_count == 1


async def test_lists_are_read_over_all_pages(client: Any) -> None:
    for number in range(7):
        await got(client.place("BTC-USD", "buy" if number % 2 else "sell", 1, price=50_000))
    for read in (client.order_history, client.active_orders, client.fills):
        whole = await got(read().rows())
        if isinstance(client, Client):
            paged = list(read(page_size=2))
            assert [len(page) for page in read(page_size=500).pages()] == [len(whole)]
        else:
            paged = [row async for row in read(page_size=2)]
        assert paged == list(whole)
    assert len(await got(client.order_history(statuses=["filled"], side=Side.BUY).rows())) == 3
    assert len(await got(client.fills().rows())) == 6
    assert len(await got(client.order_history(created_until=datetime(2020, 1, 1, tzinfo=UTC)).rows())) == 0


async def test_many_items_have_a_result_or_an_error_each(client: Any) -> None:
    items = [
        requests.place("BTC-USD", "buy", 1, price=100),
        requests.place("BTC-USD", "buy", "-1", price="x"),
        requests.cancel("nobody"),
        requests.replace("nobody", price=1),
    ]
    first, bad, *unknown = await got(client.submit(items))
    assert first.value().order.client_order_id == first.key
    assert isinstance(bad.error, InvalidRequest)
    assert [violation.field for violation in bad.error.violations] == ["place.price", "place.qty"]
    assert all(isinstance(one.error, NotFound) and one.error.reason is ErrorReason.ORDER_NOT_FOUND for one in unknown)
    with pytest.raises(NotFound) as raised:
        unknown[0].value()
    assert raised.value.key == unknown[0].key


async def test_an_order_that_is_refused_is_a_result_and_a_bad_request_an_error(client: Any) -> None:
    refused = await got(client.place("BTC-USD", "buy", 1, price="100.001"))
    assert refused.rejected
    assert refused.order.reason is RejectReason.PRICE_OFF_STEP
    with pytest.raises(InvalidRequest, match="INVALID_ARGUMENT INVALID_REQUEST") as bad:
        await got(client.place("BTC-USD", "buy", "-1", price="1e3", client_order_id="mine"))
    assert [violation.field for violation in bad.value.violations] == ["price", "qty"]
    assert (bad.value.reason, bad.value.key) == (ErrorReason.INVALID_REQUEST, "mine")
    await got(client.deposit("USD", 1, request_id="once"))
    with pytest.raises(AlreadyExists) as reused:
        await got(client.deposit("USD", 2, request_id="once"))
    assert reused.value.reason is ErrorReason.KEY_REUSED


async def test_what_was_written_is_read(client: Any) -> None:
    for _ in range(20):
        placed = await got(client.place("BTC-USD", "buy", 1, price=100))
        assert (await got(client.order(placed.key))).sequence == placed.order.sequence


async def test_a_position_that_the_history_has_not_reached_is_an_error_that_says_where_it_is(
    client: Any, shared_exchange: Exchange
) -> None:
    client.timeout = 1.0
    ahead = encode_position(shared_exchange.ledger_id, 10**9)
    with pytest.raises(NotYetApplied) as behind:
        await got(client.fills(at_least=ahead).rows())
    assert await got(client.fills(at_least=behind.value.position).rows()) is not None


async def test_an_export_has_every_update_once_and_goes_on_after_its_position(client: Any) -> None:
    placed = await got(client.place("BTC-USD", "buy", 1, price=100))
    export = client.export()
    rows = await got(export.rows())
    assert [update.user_update_number for update in rows] == [1]
    assert export.position == rows.position
    await got(client.cancel(placed.key))
    assert [update.exec_type for update in await got(client.export(after=rows.position).rows())] == [ExecType.CANCELLED]


async def test_floats_naive_times_and_unknown_names_are_refused_before_anything_is_sent(client: Any) -> None:
    with pytest.raises(TypeError, match="is a float"):
        await got(client.place("BTC-USD", "buy", 0.5, price=100))
    with pytest.raises(ValueError, match="no time zone"):
        await got(client.place("BTC-USD", "buy", 1, price=100, expire_time=datetime(2030, 1, 1)))  # noqa: DTZ001
    with pytest.raises(ValueError, match="'bye' is no Side: it is one of BUY, SELL"):
        await got(client.place("BTC-USD", "bye", 1))


def test_both_clients_have_the_same_surface() -> None:
    def surface(kind: type[AnyClient]) -> dict[str, inspect.Signature]:
        found = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
        signatures = {name: inspect.signature(method) for name, method in found.items() if name not in ("close", "aclose")}
        return {name: one.replace(return_annotation=None) for name, one in signatures.items()}

    assert surface(Client) == surface(AsyncClient)
    assert len(surface(Client)) == 18


async def test_a_client_that_is_closed_ends_its_watches(client: Any) -> None:
    watch = client.watch()
    assert (await next_of(watch)).snapshot
    await ended(client)
    rest = [one async for one in watch] if isinstance(client, AsyncClient) else list(watch)
    assert rest == []
