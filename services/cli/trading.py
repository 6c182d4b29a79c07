"""The commands that reach the matching engine: orders, the book, and money."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, TypedDict

import typer

from services.cli.failures import REFUSED, USAGE, Failure
from services.cli.options import (
    ENGINE_DEFAULT,
    TIMEOUT_DEFAULT,
    ByClientId,
    EngineAddress,
    Fields,
    Format,
    RequestId,
    Timeout,
    User,
)
from services.cli.output import (
    BALANCE_COLUMNS,
    INSTRUMENT_COLUMNS,
    LEVEL_COLUMNS,
    RESULT_COLUMNS,
    Output,
    document_of,
    show,
)

SymbolArgument = Annotated[str, typer.Argument(help="The instrument, for example BTC-USD.")]
AssetArgument = Annotated[str, typer.Argument(help="The asset, for example USD.")]
AmountArgument = Annotated[str, typer.Argument(help="How much, a plain decimal.")]


class SideName(StrEnum):
    """Which side of the market."""

    BUY = "buy"
    SELL = "sell"


class TypeName(StrEnum):
    """How the price is made."""

    LIMIT = "limit"
    MARKET = "market"


class TimeInForceName(StrEnum):
    """How long the order may live."""

    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"


def place(
    symbol: SymbolArgument,
    side: Annotated[SideName, typer.Argument(case_sensitive=False)],
    qty: Annotated[str | None, typer.Argument(help="How much of the base asset.")] = None,
    *,
    user: User,
    price: Annotated[str | None, typer.Option("--price", "-p", help="Limit price; without one it is a market order.")] = None,
    quote_qty: Annotated[str | None, typer.Option("--quote-qty", help="Money to spend instead of QTY (market, buy).")] = None,
    order_type: Annotated[
        TypeName | None, typer.Option("--type", case_sensitive=False, help="Where the price does not say it.")
    ] = None,
    time_in_force: Annotated[
        TimeInForceName | None, typer.Option("--tif", case_sensitive=False, help="gtc for a limit order, ioc for a market order.")
    ] = None,
    post_only: Annotated[bool, typer.Option("--post-only", help="Refuse the order rather than let it take.")] = False,
    client_order_id: Annotated[
        str | None,
        typer.Option("--client-order-id", "-c", metavar="KEY", help="Your name for the order; made up where not given."),
    ] = None,
    output: Format = Output.TABLE,
    fields: Fields = None,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Place an order: `ordertape place BTC-USD buy 0.5 --price 60000`. Exit code 3 where the exchange REJECTED it."""
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from ordertape.v1 import order_pb2
    from services.cli.client import Engine, new_key

    kind = order_type or (TypeName.LIMIT if price is not None else TypeName.MARKET)
    request = engine_pb2.PlaceOrderRequest(
        user_id=user,
        client_order_id=client_order_id or new_key(),
        symbol=symbol,
        side=order_pb2.Side.Value(f"SIDE_{side.name}"),
        order_type=order_pb2.OrderType.Value(f"ORDER_TYPE_{kind.name}"),
        time_in_force=order_pb2.TimeInForce.Value(f"TIME_IN_FORCE_{time_in_force.name}")
        if time_in_force
        else order_pb2.TIME_IN_FORCE_UNSPECIFIED,
        price=price,
        qty=qty,
        quote_qty=quote_qty,
        post_only=post_only,
    )
    with Engine(engine, timeout) as service, _naming_key("--client-order-id", request.client_order_id):
        response = service.call(service.orders.PlaceOrder, request)
    show(output, document_of(response), "updates", RESULT_COLUMNS, fields)
    if response.updates[-1].status == order_pb2.ORDER_STATUS_REJECTED:
        raise typer.Exit(REFUSED)


def cancel(
    order_id: Annotated[str, typer.Argument(metavar="ID", help="The order's number, or your client_order_id.")],
    user: User,
    *,
    by_client_id: ByClientId = False,
    request_id: RequestId = None,
    output: Format = Output.TABLE,
    fields: Fields = None,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Cancel an open order."""
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.client import Engine, new_key

    request = engine_pb2.CancelOrderRequest(
        user_id=user, request_id=request_id or new_key(), **order_named(order_id, by_client_id)
    )
    with Engine(engine, timeout) as service, _naming_key("--request-id", request.request_id):
        response = service.call(service.orders.CancelOrder, request)
    show(output, {"requestId": request.request_id, **document_of(response)}, "updates", RESULT_COLUMNS, fields)


def book(
    symbol: SymbolArgument,
    depth: Annotated[int, typer.Option("--depth", "-n", min=1, max=500, help="Levels a side.")] = 10,
    output: Format = Output.TABLE,
    fields: Fields = None,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """The best price levels of an instrument, asks above bids."""
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.client import Engine

    with Engine(engine, timeout) as service:
        response = service.call(service.orders.GetOrderBook, engine_pb2.GetOrderBookRequest(symbol=symbol, depth=depth))
    answer = document_of(response)
    levels = [{"side": "SIDE_SELL", **level} for level in reversed(answer.pop("asks"))]
    levels += [{"side": "SIDE_BUY", **level} for level in answer.pop("bids")]
    show(output, {"levels": levels, **answer}, "levels", LEVEL_COLUMNS, fields)


def instruments(
    output: Format = Output.TABLE,
    fields: Fields = None,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """What can be traded, and by which rules."""
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.client import Engine

    with Engine(engine, timeout) as service:
        response = service.call(service.orders.ListInstruments, engine_pb2.ListInstrumentsRequest())
    show(output, document_of(response), "instruments", INSTRUMENT_COLUMNS, fields)


def balances(
    user: User,
    output: Format = Output.TABLE,
    fields: Fields = None,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """What a user owns: free, and held for open orders."""
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.client import Engine

    with Engine(engine, timeout) as service:
        response = service.call(service.accounts.ListBalances, engine_pb2.ListBalancesRequest(user_id=user))
    show(output, document_of(response), "balances", BALANCE_COLUMNS, fields)


def deposit(
    asset: AssetArgument,
    amount: AmountArgument,
    user: User,
    request_id: RequestId = None,
    output: Format = Output.TABLE,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Bring money in: `ordertape deposit USD 1000`."""
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.client import Engine, new_key

    request = engine_pb2.DepositRequest(user_id=user, asset=asset, amount=amount, request_id=request_id or new_key())
    with Engine(engine, timeout) as service, _naming_key("--request-id", request.request_id):
        response = service.call(service.operator.Deposit, request)
    show(output, {"requestId": request.request_id, **document_of(response)}, "balance", BALANCE_COLUMNS)


def withdraw(
    asset: AssetArgument,
    amount: AmountArgument,
    user: User,
    request_id: RequestId = None,
    output: Format = Output.TABLE,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Take available money out."""
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.client import Engine, new_key

    request = engine_pb2.WithdrawRequest(user_id=user, asset=asset, amount=amount, request_id=request_id or new_key())
    with Engine(engine, timeout) as service, _naming_key("--request-id", request.request_id):
        response = service.call(service.operator.Withdraw, request)
    show(output, {"requestId": request.request_id, **document_of(response)}, "balance", BALANCE_COLUMNS)


class OrderName(TypedDict, total=False):
    """One of the two names of an order, as requests take it."""

    order_id: int
    client_order_id: str


def order_named(text: str, by_client_id: bool) -> OrderName:
    """The order_id or the client_order_id that the user typed: digits are the former unless told otherwise."""
    if by_client_id or not text.isascii() or not text.isdigit():
        return {"client_order_id": text}
    number = int(text)
    if number >= 2**63:
        raise Failure(USAGE, f"{text} is larger than any order_id: add --client-id if it is a client_order_id")
    return {"order_id": number}


@contextmanager
def _naming_key(option: str, key: str) -> Iterator[None]:
    """Let a failure say under which key the request was sent: with it, asking again is safe."""
    try:
        yield
    except Failure as failure:
        raise Failure(failure.exit_code, failure.message, [*failure.details, f"sent with {option} {key}"]) from failure
