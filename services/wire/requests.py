"""Requests of the engine: checks what the message alone can show, all of it at once, and makes the core's command of it.

A request that passes is left in the one form in which it is journaled and compared: defaults filled in, decimals canonical.
"""

from typing import Final, NamedTuple, TypeAlias

from google.protobuf.message import Message

from ordertape.v1 import matching_engine_pb2, order_pb2
from services.domain.commands import Cancel, CancelOrders, Deposit, Replace, Withdraw
from services.domain.kinds import Side
from services.domain.money import canonical
from services.wire.fields import Violations, is_given

ITEMS_MAX: Final = 500
DEPTH_DEFAULT: Final = 50
DEPTH_MAX: Final = 500
GRACE_SECONDS_MAX: Final = 3600

_ReplaceOrCancel: TypeAlias = matching_engine_pb2.CancelOrderRequest | matching_engine_pb2.ReplaceOrderRequest
_SIDES: Final = {int(side): side for side in Side}


class LedgerRequest(NamedTuple):
    """What caused a batch: the member of LedgerBatch's oneof ``request`` and its message."""

    name: str
    message: Message


def cancel_command(request: matching_engine_pb2.CancelOrderRequest, path: str = "") -> Cancel:
    """Check a cancel. Raises CallError INVALID_ARGUMENT with every rule that it breaks."""
    violations = Violations(path)
    order_id, client_order_id = _named_order(request, violations)
    violations.raise_if_any()
    return Cancel(request.user_id, order_id, client_order_id, request.request_id if request.HasField("request_id") else None)


def replace_command(request: matching_engine_pb2.ReplaceOrderRequest, path: str = "") -> Replace:
    """Check a replace. Raises CallError INVALID_ARGUMENT with every rule that it breaks."""
    violations = Violations(path)
    order_id, client_order_id = _named_order(request, violations)
    names = ("price", "qty", "stop_price", "display_qty")
    given = [name for name in names if is_given(request, name)]
    if not given:
        violations.add("price", f"at least one of {', '.join(names)} is required")
    for name in given:
        violations.amount(name, getattr(request, name))
    if request.HasField("expected_version") and request.expected_version < 1:
        violations.add("expected_version", f"must be 1 or more, is {request.expected_version}")
    violations.raise_if_any()
    for name in given:
        setattr(request, name, canonical(getattr(request, name)))
    texts = {name: getattr(request, name) if name in given else None for name in names}
    return Replace(
        request.user_id,
        order_id,
        client_order_id,
        request.request_id if request.HasField("request_id") else None,
        expected_version=request.expected_version if request.HasField("expected_version") else None,
        **texts,
    )


def _named_order(request: _ReplaceOrCancel, violations: Violations) -> tuple[int | None, str | None]:
    """Check who asks, under which key, and about which order."""
    violations.identifier("user_id", request.user_id)
    if request.HasField("request_id"):
        violations.identifier("request_id", request.request_id)
    which = request.WhichOneof("order")
    if which is None:
        violations.add("order", "is required: one of order_id and client_order_id")
        return None, None
    if which == "order_id":
        violations.sequence_number("order_id", request.order_id)
        return request.order_id, None
    violations.identifier("client_order_id", request.client_order_id)
    return None, request.client_order_id


def cancel_orders_command(request: matching_engine_pb2.CancelOrdersRequest) -> CancelOrders:
    """Check a mass cancel. Raises CallError INVALID_ARGUMENT with every rule that it breaks."""
    violations = Violations()
    violations.identifier("user_id", request.user_id)
    if request.HasField("request_id"):
        violations.identifier("request_id", request.request_id)
    violations.filter_values("symbols", request.symbols)
    for number, symbol in enumerate(request.symbols):
        violations.identifier(f"symbols[{number}]", symbol)
    violations.enum("side", request.side, order_pb2.Side, required=False)
    violations.raise_if_any()
    request_id = request.request_id if request.HasField("request_id") else None
    return CancelOrders(request.user_id, request_id, tuple(request.symbols), _SIDES.get(request.side))


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


def check_session_message(request: matching_engine_pb2.OrderSessionRequest, *, first: bool) -> None:
    """Check a message of a session but for its items. Raises CallError INVALID_ARGUMENT."""
    violations = Violations()
    if len(request.items) > ITEMS_MAX:
        violations.add("items", f"must be at most {ITEMS_MAX}, are {len(request.items)}")
    if request.HasField("cancel_on_disconnect"):
        wish = request.cancel_on_disconnect
        if not first:
            violations.add("cancel_on_disconnect", "goes with the first message of a session alone")
        violations.identifier("cancel_on_disconnect.user_id", wish.user_id)
        if not 0 <= wish.grace_seconds <= GRACE_SECONDS_MAX:
            violations.add("cancel_on_disconnect.grace_seconds", f"must be 0 to {GRACE_SECONDS_MAX}, is {wish.grace_seconds}")
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
