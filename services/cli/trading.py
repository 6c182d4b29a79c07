"""The commands that change and end open orders, and those that show what the engine knows: the book, the rules, money."""

from typing import Annotated

import typer

from services.cli.naming import naming_key, order_named, side_of
from services.cli.options import (
    ENGINE_DEFAULT,
    TIMEOUT_DEFAULT,
    ByClientId,
    EngineAddress,
    Fields,
    Format,
    OrderArgument,
    RequestId,
    SideFilter,
    SymbolArgument,
    Symbols,
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
    show_one,
)


def replace(
    order_id: OrderArgument,
    *,
    user: User,
    by_client_id: ByClientId = False,
    price: Annotated[str | None, typer.Option("--price", "-p", help="New limit price.")] = None,
    qty: Annotated[str | None, typer.Option("--qty", help="New total, of which what is filled is a part.")] = None,
    stop_price: Annotated[str | None, typer.Option("--stop-price", help="New trigger price.")] = None,
    display_qty: Annotated[str | None, typer.Option("--display-qty", help="New shown amount of an iceberg.")] = None,
    expected_version: Annotated[
        int | None, typer.Option("--expected-version", metavar="N", help="Only if nobody changed it since: its `version`.")
    ] = None,
    request_id: RequestId = None,
    output: Format = Output.TABLE,
    fields: Fields = None,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Change an open order: `ordertape replace first --price 60100`. What is not given stays.

    Less qty at the same price keeps the order's place in the queue; anything else goes to the back, and a price that
    crosses trades at once. Exit code 73 where it is refused, 74 where the order has another version.

    \b
    ordertape replace 17 --qty 0.3
    ordertape replace first --price 60100 --qty 0.8 --expected-version 2
    ordertape replace my-stop --stop-price 54000
    """
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.client import Engine, new_key

    request = engine_pb2.ReplaceOrderRequest(
        user_id=user,
        request_id=request_id or new_key(),
        price=price,
        qty=qty,
        stop_price=stop_price,
        display_qty=display_qty,
        expected_version=expected_version,
        **order_named(order_id, by_client_id),
    )
    with Engine(engine, timeout) as service, naming_key("--request-id", request.request_id):
        response = service.call(service.orders.ReplaceOrder, request)
    show(output, {"requestId": request.request_id, **document_of(response)}, "updates", RESULT_COLUMNS, fields)


def cancel(
    order_id: OrderArgument,
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
    with Engine(engine, timeout) as service, naming_key("--request-id", request.request_id):
        response = service.call(service.orders.CancelOrder, request)
    show(output, {"requestId": request.request_id, **document_of(response)}, "updates", RESULT_COLUMNS, fields)


def cancel_all(
    user: User,
    symbol: Symbols = None,
    side: SideFilter = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the orders.")] = False,
    request_id: RequestId = None,
    output: Format = Output.TABLE,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Cancel all of a user's open orders, or those of some instruments or a side.

    \b
    ordertape cancel-all --dry-run
    ordertape cancel-all --symbol BTC-USD --symbol ETH-USD --side sell
    """
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.client import Engine, new_key

    request = engine_pb2.CancelOrdersRequest(
        user_id=user, request_id=request_id or new_key(), symbols=symbol or (), side=side_of(side), dry_run=dry_run
    )
    with Engine(engine, timeout) as service, naming_key("--request-id", request.request_id):
        response = service.call(service.orders.CancelOrders, request)
    show_one(output, {"dryRun": dry_run, "requestId": request.request_id, **document_of(response)})


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
