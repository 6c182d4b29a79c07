"""How a call fails: one exception that carries all that a gRPC status with details says, so that handlers raise and one
interceptor translates.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import matching_engine_pb2 as engine_pb2

DOMAIN = "ordertape"
_PREFIX = "ERROR_REASON_"


class Violation(NamedTuple):
    """One rule that a request breaks: the field's path and, in words, the rule and the value."""

    field: str
    description: str


class CallError(Exception):
    """A call that ends with a gRPC error.

    ``reason`` is the closed reason for programs (google.rpc.ErrorInfo, without its prefix), ``message`` is for people;
    ``violations`` come with INVALID_ARGUMENT (google.rpc.BadRequest); ``metadata`` goes into ErrorInfo.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: "reasons.ErrorReason.ValueType",
        message: str,
        violations: Iterable[Violation] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})

    @property
    def number(self) -> int:
        """The gRPC status code's number, as google.rpc.Status carries it."""
        return int(self.code.value[0])


def invalid_request(violations: Sequence[Violation]) -> CallError:
    """INVALID_ARGUMENT with every rule that the request breaks."""
    message = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    return CallError(grpc.StatusCode.INVALID_ARGUMENT, reasons.ERROR_REASON_INVALID_REQUEST, message, violations)


def status_of(error: CallError) -> status_pb2.Status:
    """The error as google.rpc.Status: ErrorInfo first, then BadRequest where there are violations."""
    name = reasons.ErrorReason.Name(error.reason).removeprefix(_PREFIX)
    status = status_pb2.Status(code=error.number, message=error.message)
    _pack(status, error_details_pb2.ErrorInfo(reason=name, domain=DOMAIN, metadata=error.metadata))
    if error.violations:
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.description)
            for violation in error.violations
        ]
        _pack(status, error_details_pb2.BadRequest(field_violations=fields))
    return status


def item_error_of(error: CallError) -> engine_pb2.ItemError:
    """The error as one item's result in a message of many."""
    return engine_pb2.ItemError(
        code=error.number,
        reason=error.reason,
        message=error.message,
        field_violations=[
            engine_pb2.FieldViolation(field=violation.field, description=violation.description) for violation in error.violations
        ],
    )


def _pack(status: status_pb2.Status, detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> None:
    packed = Any()
    packed.Pack(detail)
    status.details.append(packed)
