"""Calls to the two services: channels, a deadline on every call, retries while a service is away, and gRPC errors turned into
failures that name the code, the reason and every rule that the request broke. Retries are safe, since every mutation that the
command sends carries a key.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from ordertape.v1 import ledger_pb2_grpc, matching_engine_pb2_grpc, order_history_pb2_grpc
from services.cli.failures import GRPC_BASE, Failure

Request = TypeVar("Request")
Response = TypeVar("Response")

RETRY_SECONDS = 2.0
BACK_OFF_SECONDS_MIN = 0.05
BACK_OFF_SECONDS_MAX = 1.0
ANSWER_BYTES_MAX = 16 * 1024 * 1024
# How a call ends whose service went away. gRPC itself CANCELs what reaches a server in the moment in which it stops.
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
# A service that was restarted is found again within a second, not after gRPC's default of up to two minutes.
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class Service:
    """A channel to one service at ``address`` (HOST:PORT); close it by leaving the context."""

    def __init__(self, address: str, timeout_seconds: float, retry_seconds: float = RETRY_SECONDS) -> None:
        self.address = address
        self.timeout_seconds = timeout_seconds
        self.retry_seconds = retry_seconds
        self.channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.channel.close()

    def call(self, method: "grpc.UnaryUnaryMultiCallable[Request, Response]", request: Request) -> Response:
        """The answer; a service that is away is asked again, with back-off, for ``retry_seconds``. Raises Failure."""
        with translated(self.address):
            deadline = time.monotonic() + self.retry_seconds
            for pause in back_off():
                try:
                    return method(request, timeout=self.timeout_seconds)
                except grpc.RpcError as error:
                    if error.code() not in AWAY or time.monotonic() + pause > deadline:
                        raise
                time.sleep(pause)
            raise AssertionError("back_off never ends")

    def health(self, name: str = "") -> str:
        """The name of the health service's answer: SERVING, NOT_SERVING, ... Raises Failure where nobody answers."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        with translated(self.address):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=self.timeout_seconds)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


class Engine(Service):
    """The matching engine's services."""

    def __init__(self, address: str, timeout_seconds: float, retry_seconds: float = RETRY_SECONDS) -> None:
        super().__init__(address, timeout_seconds, retry_seconds)
        self.orders = matching_engine_pb2_grpc.MatchingEngineStub(self.channel)
        self.accounts = matching_engine_pb2_grpc.AccountsStub(self.channel)
        self.operator = matching_engine_pb2_grpc.OperatorStub(self.channel)
        self.ledger = ledger_pb2_grpc.LedgerFeedStub(self.channel)


class History(Service):
    """The order history's service."""

    def __init__(self, address: str, timeout_seconds: float, retry_seconds: float = RETRY_SECONDS) -> None:
        super().__init__(address, timeout_seconds, retry_seconds)
        self.orders = order_history_pb2_grpc.OrderHistoryStub(self.channel)


def back_off() -> Iterator[float]:
    """Seconds to wait before each next attempt: doubling, bounded, without end."""
    pause = BACK_OFF_SECONDS_MIN
    while True:
        yield pause
        pause = min(2 * pause, BACK_OFF_SECONDS_MAX)


def new_key() -> str:
    """A client_order_id or request_id that nobody has used."""
    return f"cli-{secrets.token_hex(8)}"


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Raise Failure where the block raises a gRPC error."""
    try:
        yield
    except grpc.RpcError as error:
        raise failure_of(error, address) from error


def failure_of(error: grpc.RpcError, address: str) -> Failure:
    """The failure that says all that a gRPC error with its details says."""
    code = error.code()
    reason, metadata, violations = "", {}, []
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad_request):
            violations = [f"{violation.field}: {violation.description}" for violation in bad_request.field_violations]
    kind = f"{code.name} {reason}".strip()
    message = error.details() or "no message"
    if violations and message == "; ".join(violations):
        message = "the request breaks a rule" if len(violations) == 1 else f"the request breaks {len(violations)} rules"
    details = [*violations, *(f"{key}: {value}" for key, value in sorted(metadata.items()))]
    if code is grpc.StatusCode.UNAVAILABLE and not reason:
        details.append(f"is the service running at {address}? `ordertape dev` starts both")
    return Failure(GRPC_BASE + code.value[0], f"{kind}: {message}", details)
