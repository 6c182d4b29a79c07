"""What the arguments of each call become: the request. These functions are the one place where the calls' arguments are named;
both clients have the same, and ``submit`` takes what ``place``, ``replace`` and ``cancel`` of this module return.

Everywhere: an order is named by its number (int) or by its client_order_id (str); a decimal is a Decimal, an int or text, never
a float, which is not exact; a time is an aware datetime; an enum can be given by its name ("buy"). ``user`` is for calls about
another user than the client's.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import TypeAlias, TypedDict

from google.protobuf.timestamp_pb2 import Timestamp

from ordertape.client.enums import OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_pb2

Amount: TypeAlias = Decimal | int | str
OrderName: TypeAlias = int | str
Item: TypeAlias = engine_pb2.PlaceOrderRequest | engine_pb2.ReplaceOrderRequest | engine_pb2.CancelOrderRequest

PAGE_SIZE = 500


def place(
    symbol: str,
    side: Side | str,
    qty: Amount | None = None,
    *,
    price: Amount | None = None,
    quote_qty: Amount | None = None,
    stop_price: Amount | None = None,
    display_qty: Amount | None = None,
    order_type: OrderType | str | None = None,
    time_in_force: TimeInForce | str | None = None,
    expire_time: datetime | None = None,
    post_only: bool = False,
    self_trade_prevention: SelfTradePrevention | str | None = None,
    client_order_id: str | None = None,
    user: str | None = None,
) -> engine_pb2.PlaceOrderRequest:
    """Place an order. Its type is what its prices say (neither: market, price: limit, stop_price: stop, both: stop-limit), and
    with an expire_time it is good till then, unless you say otherwise. An order that the exchange refuses is a result:
    ``rejected``.
    """
    with_price, with_stop = price is not None, stop_price is not None
    told = (OrderType.STOP_LIMIT if with_price else OrderType.STOP) if with_stop else _unstopped(with_price)
    lives = TimeInForce.UNSPECIFIED if expire_time is None else TimeInForce.GTD
    return engine_pb2.PlaceOrderRequest(
        user_id=user or "",
        client_order_id=client_order_id,
        symbol=symbol,
        side=order_pb2.Side.ValueType(Side.of(side)),
        order_type=order_pb2.OrderType.ValueType(told if order_type is None else OrderType.of(order_type)),
        time_in_force=order_pb2.TimeInForce.ValueType(lives if time_in_force is None else TimeInForce.of(time_in_force)),
        price=_text(price),
        qty=_text(qty),
        quote_qty=_text(quote_qty),
        post_only=post_only,
        self_trade_prevention=order_pb2.SelfTradePrevention.ValueType(
            SelfTradePrevention.of(0 if self_trade_prevention is None else self_trade_prevention)
        ),
        stop_price=_text(stop_price),
        display_qty=_text(display_qty),
        expire_time=_moment(expire_time),
    )


def replace(
    order: OrderName,
    *,
    price: Amount | None = None,
    qty: Amount | None = None,
    stop_price: Amount | None = None,
    display_qty: Amount | None = None,
    expected_version: int | None = None,
    request_id: str | None = None,
    user: str | None = None,
) -> engine_pb2.ReplaceOrderRequest:
    """Change an open order's terms; what is not given stays."""
    return engine_pb2.ReplaceOrderRequest(
        user_id=user or "",
        request_id=request_id,
        price=_text(price),
        qty=_text(qty),
        stop_price=_text(stop_price),
        display_qty=_text(display_qty),
        expected_version=expected_version,
        **_named(order),
    )


def cancel(order: OrderName, *, request_id: str | None = None, user: str | None = None) -> engine_pb2.CancelOrderRequest:
    """Cancel an open order."""
    return engine_pb2.CancelOrderRequest(user_id=user or "", request_id=request_id, **_named(order))


def cancel_orders(
    *,
    symbols: Iterable[str] = (),
    side: Side | str | None = None,
    dry_run: bool = False,
    request_id: str | None = None,
    user: str | None = None,
) -> engine_pb2.CancelOrdersRequest:
    """Cancel all open orders, or those of some instruments or a side; ``dry_run`` only counts them."""
    return engine_pb2.CancelOrdersRequest(
        user_id=user or "", request_id=request_id, symbols=symbols, side=_side(side), dry_run=dry_run
    )


def submit(items: Iterable[Item]) -> engine_pb2.SubmitOrdersRequest:
    """Place, replace and cancel many at once: items are what this module's place, replace and cancel return. They are applied in
    order, each by itself; one that fails says so in its result.
    """
    request = engine_pb2.SubmitOrdersRequest()
    for item in items:
        if isinstance(item, engine_pb2.PlaceOrderRequest):
            request.items.add(place=item)
        elif isinstance(item, engine_pb2.ReplaceOrderRequest):
            request.items.add(replace=item)
        else:
            request.items.add(cancel=item)
    return request


def deposit(asset: str, amount: Amount, *, request_id: str | None = None, user: str | None = None) -> engine_pb2.DepositRequest:
    """Bring money in, as the exchange's operator."""
    return engine_pb2.DepositRequest(user_id=user or "", asset=asset, amount=_exact(amount), request_id=request_id or "")


def withdraw(asset: str, amount: Amount, *, request_id: str | None = None, user: str | None = None) -> engine_pb2.WithdrawRequest:
    """Take available money out, as the exchange's operator."""
    return engine_pb2.WithdrawRequest(user_id=user or "", asset=asset, amount=_exact(amount), request_id=request_id or "")


def balances(*, user: str | None = None) -> engine_pb2.ListBalancesRequest:
    """What a user owns, by asset."""
    return engine_pb2.ListBalancesRequest(user_id=user or "")


def book(symbol: str, depth: int = 50) -> engine_pb2.GetOrderBookRequest:
    """The best price levels of an instrument, at most ``depth`` (500) a side."""
    return engine_pb2.GetOrderBookRequest(symbol=symbol, depth=depth)


def instruments() -> engine_pb2.ListInstrumentsRequest:
    """What can be traded, and by which rules."""
    return engine_pb2.ListInstrumentsRequest()


def order(
    order: OrderName,
    *,
    as_of: str | None = None,
    as_of_time: datetime | None = None,
    at_least: str | None = None,
    user: str | None = None,
) -> history_pb2.GetOrderRequest:
    """One order as it stands, or as it stood at a position (``as_of``) or a time."""
    return history_pb2.GetOrderRequest(
        user_id=user or "", at_least=at_least or "", as_of=as_of or "", as_of_time=_moment(as_of_time), **_named(order)
    )


def active_orders(
    *,
    symbols: Iterable[str] = (),
    side: Side | str | None = None,
    page_size: int = PAGE_SIZE,
    at_least: str | None = None,
    user: str | None = None,
) -> history_pb2.ListActiveOrdersRequest:
    """Open orders, newest first."""
    return history_pb2.ListActiveOrdersRequest(
        user_id=user or "", symbols=symbols, side=_side(side), page_size=page_size, at_least=at_least or ""
    )


def order_history(
    *,
    symbols: Iterable[str] = (),
    statuses: Iterable[OrderStatus | str] = (),
    side: Side | str | None = None,
    created_from: datetime | None = None,
    created_until: datetime | None = None,
    updated_from: datetime | None = None,
    updated_until: datetime | None = None,
    page_size: int = PAGE_SIZE,
    at_least: str | None = None,
    user: str | None = None,
) -> history_pb2.ListOrderHistoryRequest:
    """Orders, open, ended and rejected, newest first."""
    return history_pb2.ListOrderHistoryRequest(
        user_id=user or "",
        symbols=symbols,
        statuses=[order_pb2.OrderStatus.ValueType(OrderStatus.of(status)) for status in statuses],
        side=_side(side),
        created_from=_moment(created_from),
        created_until=_moment(created_until),
        updated_from=_moment(updated_from),
        updated_until=_moment(updated_until),
        page_size=page_size,
        at_least=at_least or "",
    )


def order_updates(
    order: OrderName, *, page_size: int = PAGE_SIZE, at_least: str | None = None, user: str | None = None
) -> history_pb2.ListOrderUpdatesRequest:
    """One order's whole timeline, oldest update first."""
    return history_pb2.ListOrderUpdatesRequest(user_id=user or "", page_size=page_size, at_least=at_least or "", **_named(order))


def fills(
    *,
    symbols: Iterable[str] = (),
    order_id: int | None = None,
    traded_from: datetime | None = None,
    traded_until: datetime | None = None,
    page_size: int = PAGE_SIZE,
    at_least: str | None = None,
    user: str | None = None,
) -> history_pb2.ListFillsRequest:
    """Fills, newest first."""
    return history_pb2.ListFillsRequest(
        user_id=user or "",
        symbols=symbols,
        order_id=order_id,
        traded_from=_moment(traded_from),
        traded_until=_moment(traded_until),
        page_size=page_size,
        at_least=at_least or "",
    )


def watch(
    *,
    symbols: Iterable[str] = (),
    order_ids: Iterable[int] = (),
    after: str | None = None,
    user: str | None = None,
) -> history_pb2.WatchOrdersRequest:
    """Every update later than the position ``after``; without one, the open orders and then every update."""
    return history_pb2.WatchOrdersRequest(user_id=user or "", symbols=symbols, order_ids=order_ids, after=after)


def export(
    *,
    symbols: Iterable[str] = (),
    after: str | None = None,
    until: str | None = None,
    updated_from: datetime | None = None,
    updated_until: datetime | None = None,
    at_least: str | None = None,
    user: str | None = None,
) -> history_pb2.ExportOrderHistoryRequest:
    """Every update, oldest first, up to where the history is when it begins."""
    return history_pb2.ExportOrderHistoryRequest(
        user_id=user or "",
        symbols=symbols,
        after=after,
        until=until,
        updated_from=_moment(updated_from),
        updated_until=_moment(updated_until),
        at_least=at_least or "",
    )


def status(*, at_least: str | None = None) -> history_pb2.GetHistoryStatusRequest:
    """How far the history has come and whether it is well."""
    return history_pb2.GetHistoryStatusRequest(at_least=at_least or "")


class _Named(TypedDict, total=False):
    order_id: int
    client_order_id: str


def _named(order: OrderName) -> _Named:
    return {"client_order_id": order} if isinstance(order, str) else {"order_id": order}


def _unstopped(with_price: bool) -> OrderType:
    return OrderType.LIMIT if with_price else OrderType.MARKET


def _side(side: Side | str | None) -> order_pb2.Side.ValueType:
    return order_pb2.Side.ValueType(Side.of(0 if side is None else side))


def _text(value: Amount | None) -> str | None:
    return None if value is None else _exact(value)


def _exact(value: Amount) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        raise TypeError(f"{value!r} is a float, which is not exact: give a Decimal or text")
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _moment(value: datetime | None) -> Timestamp | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone, so it could be any of many moments: give an aware datetime")
    moment = Timestamp()
    moment.FromDatetime(value)
    return moment
