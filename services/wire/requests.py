"""Requests of the engine: checks what the message alone can show, all of it at once, and makes the core's command of it.

A request that passes is left in the one form in which it is journaled and compared: defaults filled in, decimals canonical.
"""

import re
from typing import Final, NamedTuple, TypeAlias

from google.protobuf.message import Message

from ordertape.v1 import ledger_pb2, matching_engine_pb2, order_pb2
from services.domain.commands import ApplyConfig, Cancel, Command, Deposit, Place, StartEngine, Withdraw
from services.domain.events import ExchangeRules
from services.domain.kinds import OrderType, SelfTradePrevention, Side, TimeInForce
from services.domain.money import canonical
from services.wire.fields import IDENTIFIER, Violations
from services.wire.instrument_codec import decode_rules

ITEMS_MAX: Final = 500
DEPTH_DEFAULT: Final = 50
DEPTH_MAX: Final = 500

_CANONICAL_ABOVE_ZERO = re.compile(r"(?!0$)(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{0,17}[1-9])?", re.ASCII)
_IMMEDIATE = (order_pb2.TIME_IN_FORCE_IOC, order_pb2.TIME_IN_FORCE_FOK)
_TIMES_BUILT = (order_pb2.TIME_IN_FORCE_GTC, order_pb2.TIME_IN_FORCE_IOC, order_pb2.TIME_IN_FORCE_FOK)
_PREVENTIONS_NOT_BUILT = (
    order_pb2.SELF_TRADE_PREVENTION_CANCEL_TAKER,
    order_pb2.SELF_TRADE_PREVENTION_CANCEL_MAKER,
    order_pb2.SELF_TRADE_PREVENTION_CANCEL_BOTH,
)
_NOT_BUILT = "is not supported by this version of the engine"

PlaceRequest: TypeAlias = matching_engine_pb2.PlaceOrderRequest
CancelRequest: TypeAlias = matching_engine_pb2.CancelOrderRequest


class LedgerRequest(NamedTuple):
    """What caused a batch: the member of LedgerBatch's oneof ``request`` and its message."""

    name: str
    message: Message


def place_command(request: PlaceRequest, path: str = "") -> Place:
    """Check a place and fill in its defaults. Raises CallError INVALID_ARGUMENT with every rule that it breaks."""
    if request.time_in_force == 0:
        market = request.order_type == order_pb2.ORDER_TYPE_MARKET
        request.time_in_force = order_pb2.TIME_IN_FORCE_IOC if market else order_pb2.TIME_IN_FORCE_GTC
    if request.self_trade_prevention == 0:
        request.self_trade_prevention = order_pb2.SELF_TRADE_PREVENTION_NONE
    has = request.HasField
    price = request.price if has("price") else None
    qty = request.qty if has("qty") else None
    quote_qty = request.quote_qty if has("quote_qty") else None
    client_order_id = request.client_order_id if has("client_order_id") else None
    if not _plainly_right(request, price, qty, client_order_id):
        _check_place(request, Violations(path))
        price, qty, quote_qty = _canonical_amounts(request)
    return Place(
        request.user_id,
        client_order_id,
        request.symbol,
        _SIDES[request.side],
        _ORDER_TYPES[request.order_type],
        _TIMES_IN_FORCE[request.time_in_force],
        price,
        qty,
        quote_qty,
        request.post_only,
        SelfTradePrevention.NONE,
    )


def _plainly_right(request: PlaceRequest, price: str | None, qty: str | None, client_order_id: str | None) -> bool:
    """Whether this is the plain LIMIT order that nearly all are, with nothing to mend: it needs no closer look."""
    return (
        request.order_type == order_pb2.ORDER_TYPE_LIMIT
        and price is not None
        and qty is not None
        and _CANONICAL_ABOVE_ZERO.fullmatch(price) is not None
        and _CANONICAL_ABOVE_ZERO.fullmatch(qty) is not None
        and IDENTIFIER.fullmatch(request.user_id) is not None
        and IDENTIFIER.fullmatch(request.symbol) is not None
        and (client_order_id is None or IDENTIFIER.fullmatch(client_order_id) is not None)
        and request.side in _SIDES
        and request.time_in_force in _TIMES_BUILT
        and not (request.post_only and request.time_in_force != order_pb2.TIME_IN_FORCE_GTC)
        and request.self_trade_prevention == order_pb2.SELF_TRADE_PREVENTION_NONE
        and not request.HasField("quote_qty")
        and not request.HasField("stop_price")
        and not request.HasField("display_qty")
        and not request.HasField("expire_time")
    )


def _check_place(request: PlaceRequest, violations: Violations) -> None:
    violations.identifier("user_id", request.user_id)
    if request.HasField("client_order_id"):
        violations.identifier("client_order_id", request.client_order_id)
    violations.identifier("symbol", request.symbol)
    violations.enum("side", request.side, order_pb2.Side)
    violations.enum("order_type", request.order_type, order_pb2.OrderType)
    violations.enum("time_in_force", request.time_in_force, order_pb2.TimeInForce)
    violations.enum("self_trade_prevention", request.self_trade_prevention, order_pb2.SelfTradePrevention)
    for name in ("price", "qty", "quote_qty", "stop_price", "display_qty"):
        if request.HasField(name):
            violations.amount(name, getattr(request, name))
    if request.HasField("expire_time"):
        violations.instant("expire_time", request.expire_time)
    _check_not_built(request, violations)
    if request.order_type == order_pb2.ORDER_TYPE_LIMIT:
        _check_limit(request, violations)
    elif request.order_type == order_pb2.ORDER_TYPE_MARKET:
        _check_market(request, violations)
    violations.raise_if_any()


def _check_not_built(request: PlaceRequest, violations: Violations) -> None:
    """Kinds of orders that the contract has and this engine has not yet."""
    if request.order_type in (order_pb2.ORDER_TYPE_STOP, order_pb2.ORDER_TYPE_STOP_LIMIT):
        violations.add("order_type", f"{OrderType(request.order_type).name} {_NOT_BUILT}")
    elif request.HasField("stop_price"):
        violations.add("stop_price", "goes with STOP and STOP_LIMIT alone")
    if request.time_in_force in (order_pb2.TIME_IN_FORCE_GTD, order_pb2.TIME_IN_FORCE_DAY):
        violations.add("time_in_force", f"{TimeInForce(request.time_in_force).name} {_NOT_BUILT}")
    elif request.HasField("expire_time"):
        violations.add("expire_time", "goes with GTD alone")
    if request.HasField("display_qty"):
        violations.add("display_qty", f"(an iceberg order) {_NOT_BUILT}")
    if request.self_trade_prevention in _PREVENTIONS_NOT_BUILT:
        mode = SelfTradePrevention(request.self_trade_prevention).name
        violations.add("self_trade_prevention", f"{mode} {_NOT_BUILT}")


def _check_limit(request: PlaceRequest, violations: Violations) -> None:
    for name in ("price", "qty"):
        if not request.HasField(name):
            violations.add(name, "is required for LIMIT")
    if request.HasField("quote_qty"):
        violations.add("quote_qty", "does not go with LIMIT")
    if request.post_only and request.time_in_force in _IMMEDIATE:
        violations.add("post_only", f"does not go with {TimeInForce(request.time_in_force).name}")


def _check_market(request: PlaceRequest, violations: Violations) -> None:
    if request.HasField("price"):
        violations.add("price", "does not go with MARKET")
    if request.HasField("qty") == request.HasField("quote_qty"):
        violations.add("qty", "exactly one of qty and quote_qty is required for MARKET")
    if request.HasField("quote_qty") and request.side == order_pb2.SIDE_SELL:
        violations.add("quote_qty", "goes with BUY alone")
    if request.time_in_force == order_pb2.TIME_IN_FORCE_GTC:
        violations.add("time_in_force", "must be IOC or FOK for MARKET, is GTC")
    if request.post_only:
        violations.add("post_only", "does not go with MARKET")


def _canonical_amounts(request: PlaceRequest) -> tuple[str | None, str | None, str | None]:
    texts: list[str | None] = []
    for name in ("price", "qty", "quote_qty"):
        text = canonical(getattr(request, name)) if request.HasField(name) else None
        if text is not None:
            setattr(request, name, text)
        texts.append(text)
    return texts[0], texts[1], texts[2]


def cancel_command(request: CancelRequest, path: str = "") -> Cancel:
    """Check a cancel. Raises CallError INVALID_ARGUMENT with every rule that it breaks."""
    which = request.WhichOneof("order")
    request_id = request.request_id if request.HasField("request_id") else None
    violations = Violations(path)
    violations.identifier("user_id", request.user_id)
    if request_id is not None:
        violations.identifier("request_id", request_id)
    if which is None:
        violations.add("order", "is required: one of order_id and client_order_id")
    elif which == "order_id":
        violations.sequence_number("order_id", request.order_id)
    else:
        violations.identifier("client_order_id", request.client_order_id)
    violations.raise_if_any()
    return Cancel(
        request.user_id,
        request.order_id if which == "order_id" else None,
        request.client_order_id if which == "client_order_id" else None,
        request_id,
    )


def deposit_command(request: matching_engine_pb2.DepositRequest) -> Deposit:
    """Check a deposit. Raises CallError INVALID_ARGUMENT with every rule that it breaks."""
    _check_transfer(request)
    return Deposit(request.user_id, request.asset, request.amount)


def withdraw_command(request: matching_engine_pb2.WithdrawRequest) -> Withdraw:
    """Check a withdrawal. Raises CallError INVALID_ARGUMENT with every rule that it breaks."""
    _check_transfer(request)
    return Withdraw(request.user_id, request.asset, request.amount)


def _check_transfer(request: matching_engine_pb2.DepositRequest | matching_engine_pb2.WithdrawRequest) -> None:
    violations = Violations()
    violations.identifier("user_id", request.user_id)
    violations.identifier("asset", request.asset)
    violations.amount("amount", request.amount)
    violations.identifier("request_id", request.request_id)
    violations.raise_if_any()
    request.amount = canonical(request.amount)


def check_submit(request: matching_engine_pb2.SubmitOrdersRequest) -> None:
    """Check the number of items; each item is checked by itself. Raises CallError INVALID_ARGUMENT."""
    violations = Violations()
    if not 1 <= len(request.items) <= ITEMS_MAX:
        violations.add("items", f"must be 1 to {ITEMS_MAX}, are {len(request.items)}")
    violations.raise_if_any()


def check_order_book(request: matching_engine_pb2.GetOrderBookRequest) -> int:
    """Check the request and return the depth that counts. Raises CallError INVALID_ARGUMENT."""
    violations = Violations()
    violations.identifier("symbol", request.symbol)
    if not 0 <= request.depth <= DEPTH_MAX:
        violations.add("depth", f"must be 0 (for {DEPTH_DEFAULT}) to {DEPTH_MAX}, is {request.depth}")
    violations.raise_if_any()
    return request.depth or DEPTH_DEFAULT


def check_list_balances(request: matching_engine_pb2.ListBalancesRequest) -> None:
    """Check the request. Raises CallError INVALID_ARGUMENT."""
    violations = Violations()
    violations.identifier("user_id", request.user_id)
    violations.raise_if_any()


def command_of(batch: ledger_pb2.LedgerBatch) -> Command:
    """The core's command that a stored batch came from. Raises ValueError for one that this program does not know."""
    kind = batch.WhichOneof("request")
    if kind == "place_order":
        return place_command(batch.place_order)
    if kind == "cancel_order":
        return cancel_command(batch.cancel_order)
    if kind == "deposit":
        return deposit_command(batch.deposit)
    if kind == "withdraw":
        return withdraw_command(batch.withdraw)
    if kind == "apply_config":
        return ApplyConfig(decode_rules(batch.apply_config.instrument))
    if kind == "start_engine":
        start = batch.start_engine
        rules = ExchangeRules(start.rules.trades_per_order_max)
        return StartEngine(start.ledger_id, start.epoch, start.rules_version, start.program_version, rules)
    raise ValueError(f"the request of the batch at {batch.first_sequence} is unknown: {kind}")


_SIDES: Final = {int(side): side for side in Side}
_ORDER_TYPES: Final = {int(kind): kind for kind in OrderType}
_TIMES_IN_FORCE: Final = {int(time): time for time in TimeInForce}
