"""What is tried again, and what the errors say: against a service of the test's own making."""

import asyncio
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

from ordertape.client import (
    AsyncClient,
    Cancelled,
    Client,
    DataLoss,
    ErrorReason,
    FailedPrecondition,
    OrdertapeError,
    OutOfRange,
    SlowReader,
    Unexpected,
)
from ordertape.client.resuming import Resumption
from ordertape.client.session import Session
from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import matching_engine_pb2_grpc as engine_grpc
from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_history_pb2_grpc as history_grpc
from ordertape.v1 import order_pb2
from services.serving.failures import call_status
from services.wire.errors import CallError
from tests.client.conftest import AnyClient, ended, got, next_of
from tests.support.served import served

Code = grpc.StatusCode


class FakeServices(engine_grpc.MatchingEngineServicer, history_grpc.OrderHistoryServicer):
    """Fails its calls with ``failures``, one after the other, and answers once there are none left."""

    def __init__(self) -> None:
        self.failures: list[CallError | Code] = []
        self.requests: list[Any] = []

    def PlaceOrder(  # noqa: N802
        self, request: engine_pb2.PlaceOrderRequest, context: grpc.ServicerContext
    ) -> engine_pb2.PlaceOrderResponse:
        self._fail(request, context)
        return engine_pb2.PlaceOrderResponse(updates=[order_pb2.OrderUpdate(order_id=1, side=99)], position="p")

    def GetOrder(  # noqa: N802
        self, request: history_pb2.GetOrderRequest, context: grpc.ServicerContext
    ) -> history_pb2.GetOrderResponse:
        self._fail(request, context)
        return history_pb2.GetOrderResponse()

    def GetHistoryStatus(  # noqa: N802
        self, request: history_pb2.GetHistoryStatusRequest, context: grpc.ServicerContext
    ) -> history_pb2.GetHistoryStatusResponse:
        self._fail(request, context)
        return history_pb2.GetHistoryStatusResponse()

    def WatchOrders(  # noqa: N802
        self, request: history_pb2.WatchOrdersRequest, context: grpc.ServicerContext
    ) -> Iterator[history_pb2.WatchOrdersResponse]:
        self._fail(request, context)
        yield history_pb2.WatchOrdersResponse(position="p1", updates={"updates": [{"user_update_number": 1}]})
        yield history_pb2.WatchOrdersResponse(updates={"updates": [{"user_update_number": 2}]})
        context.abort(Code.CANCELLED, "as gRPC itself says it where a server stops")

    def _fail(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        if not self.failures:
            return
        failure = self.failures.pop(0)
        if isinstance(failure, CallError):
            context.abort_with_status(call_status(failure))
        context.abort(failure, "as gRPC itself says it")


@pytest.fixture
def fake() -> FakeServices:
    return FakeServices()


@pytest.fixture
async def client(fake: FakeServices, kind: type[AnyClient]) -> AsyncIterator[Any]:
    services = (engine_grpc.add_MatchingEngineServicer_to_server, history_grpc.add_OrderHistoryServicer_to_server)
    with served(*((service, fake) for service in services)) as address:
        client = kind(address, address, user="alice", timeout=10)
        yield client
        await ended(client)


async def all_of(watch: Any) -> None:
    while True:
        await next_of(watch)


def failure(code: Code, reason: "reasons.ErrorReason.ValueType", **metadata: str) -> CallError:
    return CallError(code, reason, "why", (), metadata)


async def test_a_write_is_tried_again_as_it_was_under_the_key_that_it_had_at_first(client: Any, fake: FakeServices) -> None:
    draining = failure(Code.UNAVAILABLE, reasons.ERROR_REASON_DRAINING)
    too_many = failure(Code.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_TOO_MANY_CALLS)
    fake.failures = [Code.UNAVAILABLE, Code.CANCELLED, Code.UNKNOWN, draining, too_many]
    placed = await got(client.place("BTC-USD", "buy", 1, price=10))
    assert len(fake.requests) == 6
    assert all(request == fake.requests[0] for request in fake.requests)
    assert placed.key == fake.requests[0].client_order_id
    assert placed.key.startswith("py-")
    assert (placed.order.side.name, placed.order.side) == ("UNKNOWN_99", 99)


@pytest.mark.parametrize(
    ("code", "reason", "kind_of_error"),
    [
        (Code.FAILED_PRECONDITION, reasons.ERROR_REASON_ORDER_CLOSED, FailedPrecondition),
        (Code.DATA_LOSS, reasons.ERROR_REASON_HALTED, DataLoss),
        (Code.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_READER_TOO_SLOW, SlowReader),
        (Code.INTERNAL, reasons.ERROR_REASON_UNSPECIFIED, Unexpected),
    ],
)
async def test_what_a_retry_does_not_mend_is_raised_at_once_with_all_that_it_says(
    client: Any, fake: FakeServices, code: Code, reason: "reasons.ErrorReason.ValueType", kind_of_error: type[OrdertapeError]
) -> None:
    fake.failures = [failure(code, reason, position="somewhere")]
    with pytest.raises(kind_of_error) as raised:
        await got(client.order(1))
    error = raised.value
    assert type(error) is kind_of_error
    assert (error.code, error.reason, error.metadata) == (code, ErrorReason(reason), {"position": "somewhere"})
    assert error.position == "somewhere"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(fake.requests) == 1


async def test_a_watch_resumes_where_the_service_cancelled_it_and_tells_no_batch_twice(client: Any, fake: FakeServices) -> None:
    watch = client.watch(after="p0")
    found = []
    for _ in range(3):
        news = await next_of(watch)
        found += [update.user_update_number for update in news.updates]
    assert found == [1, 1, 1]
    assert [request.after for request in fake.requests[:3]] == ["p0", "p1", "p1"]
    fake.failures = [failure(Code.OUT_OF_RANGE, reasons.ERROR_REASON_POSITION_OUT_OF_RANGE)] * 100
    with pytest.raises(OutOfRange):
        await all_of(watch)


async def test_a_read_waits_for_what_this_client_wrote_unless_it_says_itself_for_what(client: Any, fake: FakeServices) -> None:
    await got(client.order(1))
    await got(client.place("BTC-USD", "buy", 1, price=10))
    await got(client.order(1))
    await got(client.order(1, at_least="q"))
    await got(client.status())
    assert [getattr(request, "at_least", None) for request in fake.requests] == ["", None, "p", "q", ""]


def test_all_positions_that_may_be_the_last_are_waited_for() -> None:
    session, read = Session("alice", read_your_writes=True), history_pb2.GetOrderRequest

    def wrote(position: str, sent: int, replayed: bool = False) -> None:
        session.wrote(engine_pb2.PlaceOrderResponse(position=position, replayed=replayed), sent)

    assert session.to_wait_for(read()) == []
    wrote("a", session.tick())
    first, second = session.tick(), session.tick()
    wrote("c", second)
    wrote("b", first)
    assert session.to_wait_for(read()) == ["c", "b"], "these overlapped, but both were sent after a was answered"
    wrote("old", session.tick(), replayed=True)
    assert session.to_wait_for(read()) == ["c", "b", "old"]
    request = read()
    session.reached(request, ["c", "b", "old"])
    assert (request.at_least, session.to_wait_for(read())) == ("old", ["old"])
    assert Session("alice", read_your_writes=False).to_wait_for(read()) == []


def test_a_stream_is_resumed_only_while_there_is_patience() -> None:
    resumption: Resumption[Any] = Resumption(history_pb2.WatchOrdersRequest(), 0.0, 0.0)
    error = Cancelled(Code.CANCELLED, "gone")
    with pytest.raises(Cancelled):
        resumption.pause_after(error)
    assert Resumption(history_pb2.WatchOrdersRequest(), 10.0).pause_after(error)


def test_details_that_cannot_be_read_are_none() -> None:
    from ordertape.client.status import details_in

    assert details_in([("grpc-status-details-bin", b"\xff\xff")]).reason == ""
    assert details_in(None).violations == ()


async def test_a_task_that_is_cancelled_ends_at_once() -> None:
    async with AsyncClient("127.0.0.1:1", "127.0.0.1:1", user="alice", timeout=60) as client:
        for waits in (client.place("BTC-USD", "buy", 1), anext(client.watch())):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waits, 0.2)


def test_a_client_can_be_made_and_closed_without_a_service() -> None:
    Client("127.0.0.1:1").close()
