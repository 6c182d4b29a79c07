"""What a check expected and what it saw in its place, and the errors of calls as values that can be compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from ordertape.v1 import order_pb2

ERROR_DOMAIN = "ordertape"
_REASONS = (
    ("reject_reason", order_pb2.RejectReason),
    ("cancel_reason", order_pb2.CancelReason),
    ("expire_reason", order_pb2.ExpireReason),
)


class Mismatch(Exception):
    """Something is not as the contract has it. ``what`` was looked at."""

    def __init__(self, what: str, expected: object, seen: object) -> None:
        super().__init__(f"{what}: expected {expected}, saw {seen}")
        self.what = what
        self.expected = str(expected)
        self.seen = str(seen)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call's error: its gRPC code, its reason in ErrorInfo, and the fields that BadRequest names."""

    code: str
    reason: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        named = f" naming {', '.join(self.fields)}" if self.fields else ""
        return f"{self.code} {self.reason}{named}"


def expect(what: str, expected: object, seen: object) -> None:
    """Raise Mismatch unless the two are equal."""
    if expected != seen:
        raise Mismatch(what, expected, seen)


def expect_refusal(what: str, call: Callable[[], Any], code: str, reason: str, *fields: str) -> None:
    """Raise Mismatch unless the call fails in just this way."""
    expected = Refusal(code, reason, fields)
    try:
        answer = call()
    except grpc.RpcError as error:
        expect(what, expected, refusal_of(error))
        return
    raise Mismatch(what, expected, f"OK with {type(answer).__name__}")


def refusal_of(error: grpc.RpcError) -> Refusal:
    """What an error says with its details."""
    reason, fields = "", tuple[str, ...]()
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            reason = info.reason
        elif detail.Unpack(bad_request):
            fields = tuple(sorted(violation.field for violation in bad_request.field_violations))
    return Refusal(error.code().name, reason, fields)


def line_of(update: order_pb2.OrderUpdate) -> str:
    """What an update says, in a line: what happened, the status, filled, left (of an order by money: left of the money), why."""
    words = [
        order_pb2.ExecType.Name(update.exec_type).removeprefix("EXEC_TYPE_"),
        order_pb2.OrderStatus.Name(update.status).removeprefix("ORDER_STATUS_"),
        update.filled_qty,
        update.leaves_quote_qty if update.HasField("leaves_quote_qty") else update.leaves_qty,
    ]
    for field, enum in _REASONS:
        if update.HasField(field):  # type: ignore[arg-type]
            name: str = enum.Name(getattr(update, field))
            words.append(name.partition("_REASON_")[2])
    return " ".join(words)
