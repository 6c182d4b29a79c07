"""What the command says, and with which exit code it ends, where a call fails: against a real gRPC server."""

from collections.abc import Iterator

import grpc
import pytest

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import matching_engine_pb2_grpc as engine_grpc
from ordertape.v1 import order_pb2
from services.serving.failures import call_status
from services.wire.errors import CallError, Violation, invalid_request
from tests.cli.conftest import Run
from tests.support.served import served


class FakeEngine(engine_grpc.MatchingEngineServicer):
    """Answers PlaceOrder with the next of ``answers``; an error is how the call ends."""

    def __init__(self) -> None:
        self.answers: list[engine_pb2.PlaceOrderResponse | CallError] = []
        self.requests: list[engine_pb2.PlaceOrderRequest] = []

    def PlaceOrder(  # noqa: N802
        self, request: engine_pb2.PlaceOrderRequest, context: grpc.ServicerContext
    ) -> engine_pb2.PlaceOrderResponse:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, CallError):
            context.abort_with_status(call_status(answer))
        assert isinstance(answer, engine_pb2.PlaceOrderResponse)
        return answer


@pytest.fixture
def fake_engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def address(fake_engine: FakeEngine) -> Iterator[str]:
    with served((engine_grpc.add_MatchingEngineServicer_to_server, fake_engine)) as address:
        yield address


def _place(ordertape: Run, address: str, *more: str) -> tuple[int, str, str]:
    result = ordertape("place", "BTC-USD", "buy", "1", "--price", "10", "--user", "alice", "--engine", address, *more)
    return result.exit_code, result.stdout, result.stderr


def _answer(status: "order_pb2.OrderStatus.ValueType") -> engine_pb2.PlaceOrderResponse:
    return engine_pb2.PlaceOrderResponse(updates=[order_pb2.OrderUpdate(order_id=1, status=status)])


@pytest.mark.parametrize(
    ("code", "reason", "exit_code"),
    [
        (grpc.StatusCode.NOT_FOUND, reasons.ERROR_REASON_ORDER_NOT_FOUND, 69),
        (grpc.StatusCode.ALREADY_EXISTS, reasons.ERROR_REASON_KEY_REUSED, 70),
        (grpc.StatusCode.FAILED_PRECONDITION, reasons.ERROR_REASON_ORDER_CLOSED, 73),
        (grpc.StatusCode.DATA_LOSS, reasons.ERROR_REASON_HALTED, 79),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(
    ordertape: Run,
    fake_engine: FakeEngine,
    address: str,
    code: grpc.StatusCode,
    reason: "reasons.ErrorReason.ValueType",
    exit_code: int,
) -> None:
    fake_engine.answers = [CallError(code, reason, "qty differs", metadata={"field": "qty"})]
    ended, stdout, stderr = _place(ordertape, address, "--client-order-id", "mine")
    assert ended == exit_code
    assert stdout == ""
    name = reasons.ErrorReason.Name(reason).removeprefix("ERROR_REASON_")
    assert f"error: {code.name} {name}: qty differs\n  field: qty\n" in stderr
    assert "sent with --client-order-id mine" in stderr


def test_every_rule_that_a_request_breaks_is_a_line_on_stderr(ordertape: Run, fake_engine: FakeEngine, address: str) -> None:
    fake_engine.answers = [invalid_request([Violation("price", "must be above 0"), Violation("qty", "is required")])]
    ended, _, stderr = _place(ordertape, address)
    assert ended == 67
    assert "INVALID_ARGUMENT INVALID_REQUEST: the request breaks 2 rules\n  price: must be above 0\n  qty: is required" in stderr


def test_a_service_that_is_away_for_a_moment_is_asked_again_with_the_same_key(
    ordertape: Run, fake_engine: FakeEngine, address: str
) -> None:
    draining = CallError(grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DRAINING, "draining")
    stopping = CallError(grpc.StatusCode.CANCELLED, reasons.ERROR_REASON_UNSPECIFIED, "gRPC itself, as the server stops")
    fake_engine.answers = [draining, stopping, _answer(order_pb2.ORDER_STATUS_NEW)]
    ended, stdout, _ = _place(ordertape, address, "-o", "jsonl")
    assert ended == 0
    assert "ORDER_STATUS_NEW" in stdout
    keys = {request.client_order_id for request in fake_engine.requests}
    assert len(fake_engine.requests) == 3
    assert len(keys) == 1
    assert keys != {""}


def test_nobody_at_the_address_is_said_with_what_to_do(ordertape: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli.client.RETRY_SECONDS", 0.0)
    with served() as address:
        pass
    result = ordertape("balances", "--user", "alice", "--engine", address)
    assert result.exit_code == 78
    assert f"is the service running at {address}? `ordertape dev` starts both" in result.stderr


def test_a_rejected_order_is_printed_and_ends_with_3(ordertape: Run, fake_engine: FakeEngine, address: str) -> None:
    fake_engine.answers = [_answer(order_pb2.ORDER_STATUS_REJECTED)]
    ended, stdout, stderr = _place(ordertape, address)
    assert ended == 3
    assert "REJECTED" in stdout
    assert stderr == ""


def test_addresses_and_user_come_from_the_environment_too(
    ordertape: Run, fake_engine: FakeEngine, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERTAPE_ENGINE", address)
    monkeypatch.setenv("ORDERTAPE_USER", "carol")
    fake_engine.answers = [_answer(order_pb2.ORDER_STATUS_NEW)]
    assert ordertape("place", "BTC-USD", "sell", "1").exit_code == 0
    assert fake_engine.requests[0].user_id == "carol"
    assert fake_engine.requests[0].order_type == order_pb2.ORDER_TYPE_MARKET
