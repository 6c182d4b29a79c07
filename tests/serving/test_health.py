"""Health per service and overall, as clients see it."""

from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.serving.health import OVERALL, HealthBoard
from tests.serving.running_servers import FEED, Running
from tests.support.eventually import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def health(server: Running) -> Iterator[health_pb2_grpc.HealthStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def status(health: health_pb2_grpc.HealthStub, service: str) -> int:
    return health.Check(health_pb2.HealthCheckRequest(service=service)).status


def test_a_service_is_not_serving_until_somebody_says_so() -> None:
    board = HealthBoard()
    board.add_service("a")
    board.add_service("b")
    assert board.statuses() == {OVERALL: False, "a": False, "b": False}
    board.set_serving("a", True)
    assert board.statuses() == {OVERALL: False, "a": True, "b": False}
    board.set_serving("b", True)
    assert board.is_serving() is True


def test_what_was_set_for_all_holds_for_services_that_come_later() -> None:
    board = HealthBoard()
    board.set_serving(OVERALL, True)
    board.add_service("a")
    assert board.is_serving("a") is True


def test_a_misspelt_service_is_refused() -> None:
    board = HealthBoard()
    board.add_service("a")
    with pytest.raises(KeyError, match="no service 'b' on the health board, only"):
        board.set_serving("b", True)


def test_nothing_serves_again_once_draining() -> None:
    board = HealthBoard()
    board.add_service("a")
    board.start_draining()
    board.set_serving(OVERALL, True)
    assert board.statuses() == {OVERALL: False, "a": False}


def test_clients_see_each_transition(server: Running, health: health_pb2_grpc.HealthStub) -> None:
    assert (status(health, FEED), status(health, OVERALL)) == (SERVING, SERVING)
    server.health.set_serving(FEED, False)
    assert (status(health, FEED), status(health, OVERALL)) == (NOT_SERVING, NOT_SERVING)
    server.health.set_serving(OVERALL, True)
    assert (status(health, FEED), status(health, OVERALL)) == (SERVING, SERVING)


def test_all_statuses_can_be_listed(server: Running, health: health_pb2_grpc.HealthStub) -> None:
    listed = health.List(health_pb2.HealthListRequest()).statuses
    assert {service: each.status for service, each in listed.items()} == {OVERALL: SERVING, FEED: SERVING}


def test_an_unknown_service_is_not_found(health: health_pb2_grpc.HealthStub) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        status(health, "no.such.Service")
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    assert failure.value.details() == "no service 'no.such.Service' here"


def test_a_watch_follows_the_board_and_ends_with_the_server(server: Running, health: health_pb2_grpc.HealthStub) -> None:
    watch = health.Watch(health_pb2.HealthCheckRequest(service=FEED))
    assert next(watch).status == SERVING
    server.health.set_serving(FEED, False)
    assert next(watch).status == NOT_SERVING
    server.health.set_serving(FEED, True)
    assert next(watch).status == SERVING
    server.drain(grace_seconds=0)
    assert [each.status for each in watch] in ([], [NOT_SERVING])


def test_a_watch_of_an_unknown_service_says_so_and_waits(health: health_pb2_grpc.HealthStub) -> None:
    watch = health.Watch(health_pb2.HealthCheckRequest(service="no.such.Service"))
    assert next(watch).status == SERVICE_UNKNOWN
    watch.cancel()


def test_a_watcher_that_leaves_is_forgotten(server: Running, health: health_pb2_grpc.HealthStub) -> None:
    watch = health.Watch(health_pb2.HealthCheckRequest(service=FEED))
    next(watch)
    assert server.health.watchers == 1
    watch.cancel()
    eventually(lambda: server.health.watchers == 0)
