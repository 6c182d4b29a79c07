"""`ordertape place`: one order of any kind. Its type, and that it has an end, need not be said: the other options tell."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.failures import REFUSED, USAGE, Failure
from services.cli.naming import naming_key, side_of
from services.cli.options import (
    ENGINE_DEFAULT,
    TIMEOUT_DEFAULT,
    EngineAddress,
    Fields,
    Format,
    SideName,
    SymbolArgument,
    Timeout,
    User,
)
from services.cli.output import RESULT_COLUMNS, Output, document_of, show
from services.cli.times import TIME_HELP, from_now, instant

if TYPE_CHECKING:
    from ordertape.v1 import matching_engine_pb2 as engine_pb2


class TypeName(StrEnum):
    """How the price is made."""

    LIMIT = "limit"
    MARKET = "market"
    STOP = "stop"
    STOP_LIMIT = "stop-limit"


class TimeInForceName(StrEnum):
    """How long the order may live."""

    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    GTD = "gtd"
    DAY = "day"


class PreventionName(StrEnum):
    """What happens where the order meets another one of the same user."""

    NONE = "none"
    CANCEL_TAKER = "cancel-taker"
    CANCEL_MAKER = "cancel-maker"
    CANCEL_BOTH = "cancel-both"


QuoteQty = Annotated[str | None, typer.Option("--quote-qty", help="Money to spend instead of QTY (market or stop, buy).")]
StopPrice = Annotated[
    str | None, typer.Option("--stop-price", help="Wait until the last trade reaches this price: a stop order.")
]
DisplayQty = Annotated[str | None, typer.Option("--display-qty", help="Show only so much of a limit order at a time (iceberg).")]
TypeOption = Annotated[TypeName | None, typer.Option("--type", case_sensitive=False, help="Where the prices do not say it.")]
TimeInForceOption = Annotated[
    TimeInForceName | None,
    typer.Option("--tif", case_sensitive=False, help="ioc for a market order and gtc for others; gtd with an end."),
]
GoodFor = Annotated[
    str | None, typer.Option("--good-for", metavar="DURATION", help="When it ends, from now: 90s, 30m, 1h30m, 7d.")
]
Prevention = Annotated[
    PreventionName | None,
    typer.Option("--stp", case_sensitive=False, help="Self-trade prevention: which order ends where it meets an own one."),
]
ClientOrderId = Annotated[
    str | None,
    typer.Option("--client-order-id", "-c", metavar="KEY", help="Your name for the order; made up where not given."),
]


def place(
    symbol: SymbolArgument,
    side: Annotated[SideName, typer.Argument(case_sensitive=False)],
    qty: Annotated[str | None, typer.Argument(help="How much of the base asset.")] = None,
    *,
    user: User,
    price: Annotated[str | None, typer.Option("--price", "-p", help="Limit price; without one it trades at the market.")] = None,
    quote_qty: QuoteQty = None,
    stop_price: StopPrice = None,
    display_qty: DisplayQty = None,
    order_type: TypeOption = None,
    time_in_force: TimeInForceOption = None,
    expire_time: Annotated[str | None, typer.Option("--expire-time", metavar="TIME", help=f"When it ends: {TIME_HELP}")] = None,
    good_for: GoodFor = None,
    prevention: Prevention = None,
    post_only: Annotated[bool, typer.Option("--post-only", help="Refuse the order rather than let it take.")] = False,
    client_order_id: ClientOrderId = None,
    output: Format = Output.TABLE,
    fields: Fields = None,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Place an order: `ordertape place BTC-USD buy 0.5 --price 60000`. Exit code 3 where the exchange REJECTED it.

    \b
    limit         ordertape place BTC-USD buy 0.5 --price 60000
    for a time    ordertape place BTC-USD buy 0.5 --price 60000 --good-for 8h
    for today     ordertape place BTC-USD buy 0.5 --price 60000 --tif day
    iceberg       ordertape place BTC-USD sell 20 --price 61000 --display-qty 1
    market        ordertape place BTC-USD sell 0.5
    by money      ordertape place BTC-USD buy --quote-qty 1000
    all or none   ordertape place BTC-USD buy 2 --price 60500 --tif fok
    stop          ordertape place BTC-USD sell 0.5 --stop-price 55000
    stop-limit    ordertape place BTC-USD buy 0.5 --stop-price 62000 --price 62100
    own orders    ordertape place BTC-USD buy 0.5 --price 60500 --stp cancel-maker
    """
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.client import new_key

    if expire_time is not None and good_for is not None:
        raise Failure(USAGE, "--expire-time and --good-for both say when the order ends: give one of them")
    end = from_now("--good-for", good_for) if good_for is not None else instant("--expire-time", expire_time)
    kind = order_type or _type_of(price, stop_price)
    lives = time_in_force or (TimeInForceName.GTD if end is not None else None)
    request = engine_pb2.PlaceOrderRequest(
        user_id=user,
        client_order_id=client_order_id or new_key(),
        symbol=symbol,
        side=side_of(side),
        **_enums(kind, lives, prevention),
        price=price,
        qty=qty,
        quote_qty=quote_qty,
        stop_price=stop_price,
        display_qty=display_qty,
        expire_time=end,
        post_only=post_only,
    )
    # A repeat has to say the same end, which --good-for would count from another now.
    repeat = [f"and with --expire-time {end.ToJsonString()}"] if good_for is not None and end is not None else []
    response = _send(request, repeat, engine, timeout)
    show(output, document_of(response), "updates", RESULT_COLUMNS, fields)
    if _is_rejected(response):
        raise typer.Exit(REFUSED)


def _enums(kind: TypeName, lives: TimeInForceName | None, prevention: PreventionName | None) -> dict[str, Any]:
    """The fields that the contract numbers; the exchange chooses what is left out."""
    from ordertape.v1 import order_pb2

    return {
        "order_type": order_pb2.OrderType.Value(f"ORDER_TYPE_{kind.name}"),
        "time_in_force": order_pb2.TimeInForce.Value(f"TIME_IN_FORCE_{lives.name}") if lives else 0,
        "self_trade_prevention": (
            order_pb2.SelfTradePrevention.Value(f"SELF_TRADE_PREVENTION_{prevention.name}") if prevention else 0
        ),
    }


def _send(
    request: "engine_pb2.PlaceOrderRequest", repeat: list[str], engine: str, timeout: float
) -> "engine_pb2.PlaceOrderResponse":
    from services.cli.client import Engine

    with Engine(engine, timeout) as service, naming_key("--client-order-id", request.client_order_id, *repeat):
        return service.call(service.orders.PlaceOrder, request)


def _is_rejected(response: "engine_pb2.PlaceOrderResponse") -> bool:
    from ordertape.v1 import order_pb2

    return response.updates[-1].status == order_pb2.ORDER_STATUS_REJECTED


def _type_of(price: str | None, stop_price: str | None) -> TypeName:
    """The type that an order with these prices has."""
    if stop_price is not None:
        return TypeName.STOP if price is None else TypeName.STOP_LIMIT
    return TypeName.MARKET if price is None else TypeName.LIMIT
