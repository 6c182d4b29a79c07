"""How calls fail.

OrdertapeError
├── InvalidRequest        INVALID_ARGUMENT: the message breaks rules; ``violations`` has all of them
├── NotFound              no such order, symbol or asset, or another user's
├── AlreadyExists         the key was used before with other content
├── FailedPrecondition    the order is closed, there is not enough money, ...: ``reason`` says which
├── Aborted               the order does not have the expected version
├── OutOfRange            a position of another ledger, or older than what is kept
├── ResourceExhausted     a limit was reached
│   └── SlowReader        the stream's reader was too slow; resume after ``position``
├── Unavailable           the service is away, drains, or cannot reach what it needs
│   └── NotYetApplied     the history has not come to the position that was asked for; it is at ``position``
├── DeadlineExceeded      no answer in time: a write may have been booked or not; the same ``key`` tells
├── Cancelled             the call was cancelled, or reached a server in the moment in which it stopped
├── Unauthenticated       who are you?
├── PermissionDenied      you may not
├── DataLoss              the service halted on something that cannot be right; an operator has to look
└── Unexpected            any other gRPC code

An order that the exchange refuses is no error but a result whose order's status is REJECTED.
"""

from collections.abc import Mapping
from typing import Any

import grpc

from ordertape.client.enums import ErrorReason
from ordertape.client.status import Details, Violation, details_in
from ordertape.v1 import matching_engine_pb2


class OrdertapeError(Exception):
    """A call failed.

    ``code`` is gRPC's; ``reason`` the contract's (UNSPECIFIED where the service did not say one, or one that this version does
    not know: ``reason_name`` has its text); ``metadata`` the details that go with it; ``violations`` the broken rules of an
    InvalidRequest. ``key`` is the client_order_id or request_id of a write, with which it can be asked for again.
    """

    def __init__(self, code: grpc.StatusCode, message: str, details: Details = Details(), key: str = "") -> None:  # noqa: B008
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason_name = details.reason
        self.reason = ErrorReason.__members__.get(details.reason, ErrorReason.UNSPECIFIED)
        self.metadata: Mapping[str, str] = details.metadata
        self.violations: tuple[Violation, ...] = details.violations
        self.key = key

    def __str__(self) -> str:
        return f"{self.code.name} {self.reason_name}".strip() + f": {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, Details(self.reason_name, self.metadata, self.violations), self.key)

    @property
    def position(self) -> str:
        """The position that the service named, empty where it named none."""
        return self.metadata.get("position", "")

    @property
    def transient(self) -> bool:
        """Whether the same call may go well a moment later, and can be made again: reads always, writes with their key."""
        if self.code is grpc.StatusCode.UNKNOWN:
            return not self.reason_name
        return self.code in _AWAY or self.reason in _TRANSIENT_REASONS


class InvalidRequest(OrdertapeError):
    """The message breaks the rules named in ``violations``, all of them at once."""


class NotFound(OrdertapeError):
    """No such order, symbol or asset, or another user's."""


class AlreadyExists(OrdertapeError):
    """The client_order_id or request_id was used before with other content."""


class FailedPrecondition(OrdertapeError):
    """Things are not so that it could be done; ``reason`` says which: ORDER_CLOSED, INSUFFICIENT_FUNDS, ..."""


class Aborted(OrdertapeError):
    """The order does not have the expected version."""


class OutOfRange(OrdertapeError):
    """A position of another ledger, or older than what is kept."""


class ResourceExhausted(OrdertapeError):
    """A limit was reached."""


class SlowReader(ResourceExhausted):
    """The stream's reader was too slow; resume after ``position``."""


class Unavailable(OrdertapeError):
    """The service is away, drains, or cannot reach what it needs."""


class NotYetApplied(Unavailable):
    """The history has not come to the position that was asked for."""


class DeadlineExceeded(OrdertapeError):
    """No answer in time: a write may have been booked or not."""


class Cancelled(OrdertapeError):
    """The call was cancelled, or reached a server in the moment in which it stopped."""


class Unauthenticated(OrdertapeError):
    """The service does not know the caller."""


class PermissionDenied(OrdertapeError):
    """The caller may not do this."""


class DataLoss(OrdertapeError):
    """The service halted on something that cannot be right; an operator has to look."""


class Unexpected(OrdertapeError):
    """Any other gRPC code."""


_BY_REASON: dict[ErrorReason, type[OrdertapeError]] = {
    ErrorReason.READER_TOO_SLOW: SlowReader,
    ErrorReason.NOT_YET_APPLIED: NotYetApplied,
}
_BY_CODE: dict[grpc.StatusCode, type[OrdertapeError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.DATA_LOSS: DataLoss,
}
# How a call ends whose service went away. gRPC itself CANCELs what reaches a server in the moment in which it stops, and says
# UNKNOWN of some connections that broke; with UNKNOWN of their own, the services say a reason.
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_TRANSIENT_REASONS = (ErrorReason.TOO_MANY_CALLS, ErrorReason.USER_NOT_OWNED)
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def made(code: grpc.StatusCode, message: str, details: Details, key: str = "") -> OrdertapeError:
    """The error of the class that says it most exactly."""
    reason = ErrorReason.__members__.get(details.reason, ErrorReason.UNSPECIFIED)
    return _BY_REASON.get(reason, _BY_CODE.get(code, Unexpected))(code, message, details, key)


def error_of(error: grpc.RpcError, key: str = "") -> OrdertapeError:
    """What a gRPC error with its details says; of a call of grpc's or of grpc.aio's."""
    call: Any = error
    return made(call.code(), call.details() or "no message", details_in(call.trailing_metadata()), key)


def error_of_item(error: matching_engine_pb2.ItemError, key: str) -> OrdertapeError:
    """The error that an item of many would have had as a call of its own."""
    violations = tuple(Violation(one.field, one.description) for one in error.field_violations)
    reason = ErrorReason(error.reason)
    details = Details(reason.name if reason else "", {}, violations)
    return made(_CODES.get(error.code, grpc.StatusCode.UNKNOWN), error.message, details, key)
