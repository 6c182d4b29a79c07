"""Calls to the two services as the client package makes them: it connects, says when to try again and reads errors. Here is
what is the command's own: a deadline on each attempt, `--print-grpcurl`, health, and failures that name the code, the reason
and every rule that the request broke. Retries are safe, since every mutation that the command sends carries a key.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ordertape.client.attempts import Attempts
from ordertape.client.channels import OPTIONS
from ordertape.client.errors import OrdertapeError, error_of
from ordertape.v1 import ledger_pb2_grpc, matching_engine_pb2_grpc, order_history_pb2_grpc
from services.cli.failures import GRPC_BASE, Failure
from services.cli.grpcurl_lines import printing
from services.cli.grpcurl_option import PRINTING

Request = TypeVar("Request")
Response = TypeVar("Response")

RETRY_SECONDS = 2.0


class Service:
    """A channel to one service at ``address`` (HOST:PORT); close it by leaving the context."""

    def __init__(self, address: str, timeout_seconds: float, retry_seconds: float = RETRY_SECONDS) -> None:
        self.address = address
        self.timeout_seconds = timeout_seconds
        self.retry_seconds = retry_seconds
        self.channel = printing(grpc.insecure_channel(address, options=OPTIONS), address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.channel.close()

    def call(self, method: "grpc.UnaryUnaryMultiCallable[Request, Response]", request: Request) -> Response:
        """The answer; a service that is away is asked again, with back-off, for ``retry_seconds``. Raises Failure."""
        with translated(self.address):
            attempts = Attempts(self.retry_seconds)
            while True:
                try:
                    return method(request, timeout=self.timeout_seconds)
                except grpc.RpcError as error:
                    pause = attempts.pause_after(error_of(error))
                time.sleep(pause)

    def ask(self, method: "grpc.UnaryUnaryMultiCallable[Request, Response]", request: Request) -> Response:
        """As ``call``, for what the next call is made of: asked for even where calls are only printed. Raises Failure."""
        PRINTING.asks = True
        try:
            return self.call(method, request)
        finally:
            PRINTING.asks = False

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


def new_key() -> str:
    """A client_order_id or request_id that nobody has used."""
    return f"cli-{secrets.token_hex(8)}"


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Raise Failure where the block raises a gRPC error."""
    try:
        yield
    except grpc.RpcError as error:
        raise failure_of(error_of(error), address) from error
    except OrdertapeError as error:
        raise failure_of(error, address) from error


def failure_of(error: OrdertapeError, address: str) -> Failure:
    """The failure that says all that an error with its details says."""
    kind = f"{error.code.name} {error.reason_name}".strip()
    message = error.message
    violations = [str(violation) for violation in error.violations]
    if violations and message == "; ".join(violations):
        message = "the request breaks a rule" if len(violations) == 1 else f"the request breaks {len(violations)} rules"
    details = [*violations, *(f"{key}: {value}" for key, value in sorted(error.metadata.items()))]
    if error.code is grpc.StatusCode.UNAVAILABLE and not error.reason_name:
        details.append(f"is the service running at {address}? `ordertape dev` starts both")
    return Failure(GRPC_BASE + error.code.value[0], f"{kind}: {message}", details)
