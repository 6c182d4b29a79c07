"""What a server does with more calls than it may run, and with those that run when it stops."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from ordertape.v1.ledger_pb2 import (
    GetLedgerStatusRequest,
    GetLedgerStatusResponse,
    ReplayLedgerRequest,
    ReplayLedgerResponse,
)
from ordertape.v1.ledger_pb2_grpc import LedgerFeedStub
from services.serving.failures import draining
from services.serving.settings import ServerSettings
from tests.serving.running_servers import FEED, Running, feed_client, frame, running
from tests.support.eventually import eventually


class Gate:
    """A handler that waits until the test opens it."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def status(self, _request: GetLedgerStatusRequest) -> GetLedgerStatusResponse:
        assert self._open.wait(timeout=30)
        return GetLedgerStatusResponse(durable_sequence=7)

    def replay(self, _request: ReplayLedgerRequest) -> Iterator[ReplayLedgerResponse]:
        yield frame(1)
        assert self._open.wait(timeout=30)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def reason_of(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    status = rpc_status.from_call(error)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return error.code(), info.reason


def refused(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as failure:
        list(call(request)) if isinstance(request, ReplayLedgerRequest) else call(request)
    return reason_of(failure.value)


def test_calls_over_the_limit_are_refused_at_once_and_admitted_again_later(kind: str, gate: Gate) -> None:
    settings = ServerSettings(calls_max=2, call_threads_max=1)
    with running(kind, settings) as server, feed_client(server.address) as client:
        server.script.status = gate.status
        admitted = [client.GetLedgerStatus.future(GetLedgerStatusRequest()) for _ in range(2)]
        eventually(lambda: server.in_flight() == 2)
        answer = refused(client.GetLedgerStatus, GetLedgerStatusRequest())
        assert answer == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        gate.open()
        assert [each.result().durable_sequence for each in admitted] == [7, 7]
        eventually(lambda: server.in_flight() == 0)
        client.GetLedgerStatus(GetLedgerStatusRequest())


def test_streams_have_a_limit_of_their_own_and_take_no_thread_from_calls(kind: str, gate: Gate) -> None:
    settings = ServerSettings(streams_max=2, calls_max=1, call_threads_max=1)
    with running(kind, settings) as server, feed_client(server.address) as client:
        server.script.replay = gate.replay
        streams = [client.ReplayLedger(ReplayLedgerRequest()) for _ in range(2)]
        assert [next(stream) for stream in streams] == [frame(1), frame(1)]
        answer = refused(client.ReplayLedger, ReplayLedgerRequest())
        assert answer == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        client.GetLedgerStatus(GetLedgerStatusRequest())
        gate.open()
        assert [list(stream) for stream in streams] == [[], []]


def test_calls_that_the_caller_gave_up_do_not_count_for_ever(kind: str, gate: Gate) -> None:
    with running(kind, ServerSettings(calls_max=1)) as server, feed_client(server.address) as client:
        server.script.status = gate.status
        abandoned = client.GetLedgerStatus.future(GetLedgerStatusRequest())
        eventually(lambda: server.in_flight() == 1)
        abandoned.cancel()
        gate.open()
        eventually(lambda: server.in_flight() == 0)
        client.GetLedgerStatus(GetLedgerStatusRequest())


def test_health_answers_while_all_calls_are_taken(kind: str, gate: Gate) -> None:
    with running(kind, ServerSettings(calls_max=1, streams_max=1)) as server, feed_client(server.address) as client:
        server.script.status = gate.status
        taken = client.GetLedgerStatus.future(GetLedgerStatusRequest())
        eventually(lambda: server.in_flight() == 1)
        assert check(server.address) == health_pb2.HealthCheckResponse.SERVING
        gate.open()
        taken.result()


def test_a_drain_lets_running_calls_finish_and_refuses_new_ones(kind: str, gate: Gate) -> None:
    with running(kind) as server, feed_client(server.address) as client:
        server.script.status, server.script.replay = gate.status, gate.replay
        call = client.GetLedgerStatus.future(GetLedgerStatusRequest())
        stream = client.ReplayLedger(ReplayLedgerRequest())
        assert next(stream) == frame(1)
        eventually(lambda: server.in_flight() == 2)
        drain = Drain(server, grace_seconds=30)
        eventually(lambda: check(server.address) == health_pb2.HealthCheckResponse.NOT_SERVING)
        for each, request in (
            (client.GetLedgerStatus, GetLedgerStatusRequest()),
            (client.ReplayLedger, ReplayLedgerRequest()),
        ):
            assert refused(each, request) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert drain.is_running()
        gate.open()
        assert call.result().durable_sequence == 7
        assert list(stream) == []
        assert drain.finished()


def test_a_drain_ends_what_outlasts_its_grace(kind: str, gate: Gate) -> None:
    with running(kind) as server, feed_client(server.address) as client:
        server.script.replay = gate.replay
        stream = client.ReplayLedger(ReplayLedgerRequest())
        assert next(stream) == frame(1)
        assert not server.drain(grace_seconds=0.05)
        with pytest.raises(grpc.RpcError) as failure:
            next(stream)
        assert failure.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        gate.open()


def test_a_grace_can_be_cut_short(kind: str, gate: Gate) -> None:
    with running(kind) as server, feed_client(server.address) as client:
        server.script.replay = gate.replay
        stream = client.ReplayLedger(ReplayLedgerRequest())
        assert next(stream) == frame(1)
        hurry = threading.Event()
        drain = Drain(server, grace_seconds=60, cut_short=hurry.is_set)
        eventually(lambda: server.health.is_serving() is False)
        assert drain.is_running()
        hurry.set()
        assert not drain.finished()
        gate.open()


def test_endless_streams_are_ended_by_the_drain_hooks_with_the_reason(kind: str) -> None:
    leave = threading.Event()

    def replay(_request: ReplayLedgerRequest) -> Iterator[ReplayLedgerResponse]:
        for sequence in itertools.count(1):
            yield frame(sequence)
            if leave.wait(timeout=0.01):
                raise draining()

    with running(kind, on_drain=[leave.set]) as server, feed_client(server.address) as client:
        server.script.replay = replay
        stream = client.ReplayLedger(ReplayLedgerRequest())
        assert next(stream) == frame(1)
        assert server.drain(grace_seconds=30)
        with pytest.raises(grpc.RpcError) as failure:
            list(stream)
        assert reason_of(failure.value) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


def test_many_callers_at_once_are_all_answered(server: Running, client: LedgerFeedStub) -> None:
    calls = [client.GetLedgerStatus.future(GetLedgerStatusRequest(at_sequence=number)) for number in range(500)]
    assert [call.result().durable_sequence for call in calls] == list(range(500))
    eventually(lambda: server.in_flight() == 0)


class Drain:
    """A drain on a thread of its own."""

    def __init__(self, server: Running, **arguments: Any) -> None:
        self._outcome: list[bool] = []
        self._thread = threading.Thread(target=lambda: self._outcome.append(server.drain(**arguments)))
        self._thread.start()

    def is_running(self) -> bool:
        return self._thread.is_alive()

    def finished(self) -> bool:
        self._thread.join(timeout=30)
        return self._outcome[0]


def check(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=FEED)
        return health_pb2_grpc.HealthStub(channel).Check(request).status
