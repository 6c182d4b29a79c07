"""What a caller sees of a call that fails, over a real connection."""

import itertools
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1.ledger_pb2 import (
    GetLedgerStatusRequest,
    GetLedgerStatusResponse,
    ReplayLedgerRequest,
    ReplayLedgerResponse,
)
from ordertape.v1.ledger_pb2_grpc import LedgerFeedStub
from services.serving.settings import ServerSettings
from services.wire.errors import CallError, Violation, invalid_request
from tests.serving.running_servers import Running, feed_client, frame, running
from tests.support.eventually import eventually


def status_of_failure(error: grpc.RpcError) -> status_pb2.Status:
    status = rpc_status.from_call(error)
    assert status is not None
    return status


def detail(status: status_pb2.Status, index: int, kind: type) -> Any:
    message = kind()
    assert status.details[index].Unpack(message)
    return message


def refuse_with(error: Exception) -> Any:
    def refuse(_request: object) -> Any:
        raise error

    return refuse


def test_a_call_error_arrives_with_its_code_reason_and_metadata(server: Running, client: LedgerFeedStub) -> None:
    server.script.status = refuse_with(
        CallError(grpc.StatusCode.NOT_FOUND, reasons.ERROR_REASON_ORDER_NOT_FOUND, "no order 7", metadata={"order_id": "7"})
    )
    with pytest.raises(grpc.RpcError) as failure:
        client.GetLedgerStatus(GetLedgerStatusRequest())
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    info = detail(status_of_failure(failure.value), 0, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain, dict(info.metadata)) == ("ORDER_NOT_FOUND", "ordertape", {"order_id": "7"})


def test_an_invalid_request_arrives_with_all_its_violations(server: Running, client: LedgerFeedStub) -> None:
    violations = [Violation("price", "must be above 0"), Violation("qty", "is required")]
    server.script.status = refuse_with(invalid_request(violations))
    with pytest.raises(grpc.RpcError) as failure:
        client.GetLedgerStatus(GetLedgerStatusRequest())
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad_request = detail(status_of_failure(failure.value), 1, error_details_pb2.BadRequest)
    assert [(each.field, each.description) for each in bad_request.field_violations] == violations


def test_more_violations_than_a_client_takes_are_cut_and_counted(server: Running, client: LedgerFeedStub) -> None:
    violations = [Violation(f"symbols[{index}]", f"must be a symbol, is {'€' * 100!r}") for index in range(500)]
    server.script.status = refuse_with(invalid_request(violations))
    with pytest.raises(grpc.RpcError) as failure:
        client.GetLedgerStatus(GetLedgerStatusRequest())
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = detail(status_of_failure(failure.value), 1, error_details_pb2.BadRequest).field_violations
    assert [each.field for each in found] == [violation.field for violation in violations[: len(found)]]
    assert found[-1].description == f"and {500 - len(found)} more are wrong; this answer holds no more"


def test_a_stream_that_fails_after_some_messages_delivers_them_and_the_reason(server: Running, client: LedgerFeedStub) -> None:
    def replay(_request: ReplayLedgerRequest) -> Iterator[ReplayLedgerResponse]:
        yield frame(1)
        yield frame(2)
        raise CallError(
            grpc.StatusCode.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_READER_TOO_SLOW, "resume after your last position"
        )

    server.script.replay = replay
    responses = client.ReplayLedger(ReplayLedgerRequest())
    assert [next(responses), next(responses)] == [frame(1), frame(2)]
    with pytest.raises(grpc.RpcError) as failure:
        next(responses)
    info = detail(status_of_failure(failure.value), 0, error_details_pb2.ErrorInfo)
    assert info.reason == "READER_TOO_SLOW"


def test_an_unexpected_exception_is_internal_for_the_caller_and_whole_in_the_log(server: Running, client: LedgerFeedStub) -> None:
    server.script.status = refuse_with(ZeroDivisionError("secret of the house"))
    with structlog.testing.capture_logs() as entries, pytest.raises(grpc.RpcError) as failure:
        client.GetLedgerStatus(GetLedgerStatusRequest())
    assert failure.value.code() is grpc.StatusCode.INTERNAL
    details = failure.value.details()
    assert details == "internal error in /ordertape.v1.LedgerFeed/GetLedgerStatus: the server's log has the details"
    [entry] = [entry for entry in entries if entry["event"] == "handler failed"]
    assert entry["method"] == "/ordertape.v1.LedgerFeed/GetLedgerStatus"
    assert isinstance(entry["exc_info"], ZeroDivisionError)
    assert entry["exc_info"].__traceback__ is not None


def test_an_unexpected_exception_in_a_stream_is_internal_after_what_was_sent(server: Running, client: LedgerFeedStub) -> None:
    def replay(_request: ReplayLedgerRequest) -> Iterator[ReplayLedgerResponse]:
        yield frame(1)
        raise KeyError("secret of the house")

    server.script.replay = replay
    responses = client.ReplayLedger(ReplayLedgerRequest())
    with structlog.testing.capture_logs():
        assert next(responses) == frame(1)
        with pytest.raises(grpc.RpcError) as failure:
            next(responses)
    assert failure.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in failure.value.details()


def test_an_error_of_a_client_call_inside_a_handler_is_internal_not_passed_on(kind: str) -> None:
    with running(kind) as server, running("threaded") as other, feed_client(other.address) as to_other:
        other.script.status = refuse_with(CallError(grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DEPENDENCY_DOWN, "down"))
        server.script.status = to_other.GetLedgerStatus
        with feed_client(server.address) as client, structlog.testing.capture_logs() as entries:
            with pytest.raises(grpc.RpcError) as failure:
                client.GetLedgerStatus(GetLedgerStatusRequest())
            assert failure.value.code() is grpc.StatusCode.INTERNAL
    assert [entry["event"] for entry in entries if entry["log_level"] == "error"] == ["handler failed"]


def test_an_oversized_request_is_resource_exhausted_and_never_reaches_the_handler(kind: str) -> None:
    with running(kind, ServerSettings(message_bytes_max=2048)) as server, feed_client(server.address) as client:
        server.script.status = refuse_with(AssertionError("reached the handler"))
        with pytest.raises(grpc.RpcError) as failure:
            client.GetLedgerStatus(_padded(4096))
        assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        server.script.status = lambda _request: GetLedgerStatusResponse()
        client.GetLedgerStatus(_padded(1024))


def test_a_reader_that_leaves_ends_its_stream(server: Running, client: LedgerFeedStub) -> None:
    server.script.replay = lambda _request: (frame(1) for _ in itertools.count())
    responses = client.ReplayLedger(ReplayLedgerRequest())
    next(responses)
    responses.cancel()
    eventually(lambda: server.in_flight() == 0)
    assert server.script.replays_ended == 1


def _padded(size: int) -> GetLedgerStatusRequest:
    """A request of about ``size`` bytes: an unknown field, which protobuf carries along."""
    length = bytes([size & 0x7F | 0x80, size >> 7])
    return GetLedgerStatusRequest.FromString(bytes([15 << 3 | 2]) + length + bytes(size))
