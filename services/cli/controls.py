"""What only the exchange's operator may do: money in and out, halts, suspensions, and orders of others."""

from typing import Annotated

import typer

from services.cli.naming import naming_key
from services.cli.options import (
    ENGINE_DEFAULT,
    TIMEOUT_DEFAULT,
    EngineAddress,
    Fields,
    Format,
    Reason,
    RequestId,
    SymbolArgument,
    Timeout,
    User,
)
from services.cli.output import BALANCE_COLUMNS, RESULT_COLUMNS, Output, document_of, show, show_one

AssetArgument = Annotated[str, typer.Argument(help="The asset, for example USD.")]
AmountArgument = Annotated[str, typer.Argument(help="How much, a plain decimal.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="The user_id.")]


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
    with Engine(engine, timeout) as service, naming_key("--request-id", request.request_id):
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
    with Engine(engine, timeout) as service, naming_key("--request-id", request.request_id):
        response = service.call(service.operator.Withdraw, request)
    show(output, {"requestId": request.request_id, **document_of(response)}, "balance", BALANCE_COLUMNS)


def halt(
    symbol: SymbolArgument,
    reason: Reason = "",
    request_id: RequestId = None,
    output: Format = Output.TABLE,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Halt an instrument: `ordertape halt BTC-USD --reason "news"`. New orders are REJECTED, open ones can be cancelled."""
    _set_trading_status(symbol, "HALTED", reason, request_id, output, engine, timeout)


def resume(
    symbol: SymbolArgument,
    reason: Reason = "",
    request_id: RequestId = None,
    output: Format = Output.TABLE,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Let a halted instrument trade again: `ordertape resume BTC-USD`."""
    _set_trading_status(symbol, "TRADING", reason, request_id, output, engine, timeout)


def _set_trading_status(
    symbol: str, name: str, reason: str, request_id: str | None, output: Output, engine: str, timeout: float
) -> None:
    from ordertape.v1 import instrument_pb2
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.client import Engine, new_key

    status = f"TRADING_STATUS_{name}"
    request = engine_pb2.SetTradingStatusRequest(
        symbol=symbol,
        status=instrument_pb2.TradingStatus.Value(status),
        reason_text=reason,
        request_id=request_id or new_key(),
    )
    with Engine(engine, timeout) as service, naming_key("--request-id", request.request_id):
        response = service.call(service.operator.SetTradingStatus, request)
    said = {"symbol": symbol, "tradingStatus": status, "requestId": request.request_id}
    show_one(output, {**said, **document_of(response)})


def suspend(
    user_id: UserArgument,
    cancel_orders: Annotated[bool, typer.Option("--cancel-orders", help="Cancel the user's open orders too.")] = False,
    reason: Reason = "",
    request_id: RequestId = None,
    output: Format = Output.TABLE,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Suspend a user, whose new orders are REJECTED from then on: `ordertape suspend alice --cancel-orders`."""
    _set_user_status(user_id, "SUSPENDED", cancel_orders, reason, request_id, output, engine, timeout)


def readmit(
    user_id: UserArgument,
    reason: Reason = "",
    request_id: RequestId = None,
    output: Format = Output.TABLE,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Let a suspended user place orders again: `ordertape readmit alice`."""
    _set_user_status(user_id, "ACTIVE", False, reason, request_id, output, engine, timeout)


def _set_user_status(
    user_id: str,
    name: str,
    cancel_orders: bool,
    reason: str,
    request_id: str | None,
    output: Output,
    engine: str,
    timeout: float,
) -> None:
    from ordertape.v1 import instrument_pb2
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.client import Engine, new_key

    status = f"USER_STATUS_{name}"
    request = engine_pb2.SetUserStatusRequest(
        user_id=user_id,
        status=instrument_pb2.UserStatus.Value(status),
        cancel_open_orders=cancel_orders,
        reason_text=reason,
        request_id=request_id or new_key(),
    )
    with Engine(engine, timeout) as service, naming_key("--request-id", request.request_id):
        response = service.call(service.operator.SetUserStatus, request)
    said = {"userId": user_id, "userStatus": status, "requestId": request.request_id}
    show_one(output, {**said, **document_of(response)})


def force_cancel(
    order_id: Annotated[int, typer.Argument(metavar="ORDER_ID", min=1, max=2**63 - 1, help="The order's number.")],
    reason: Reason = "",
    request_id: RequestId = None,
    output: Format = Output.TABLE,
    fields: Fields = None,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Cancel any user's open order: `ordertape force-cancel 17 --reason "erroneous"`."""
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.client import Engine, new_key

    request = engine_pb2.ForceCancelOrderRequest(order_id=order_id, reason_text=reason, request_id=request_id or new_key())
    with Engine(engine, timeout) as service, naming_key("--request-id", request.request_id):
        response = service.call(service.operator.ForceCancelOrder, request)
    show(output, {"requestId": request.request_id, **document_of(response)}, "updates", RESULT_COLUMNS, fields)
