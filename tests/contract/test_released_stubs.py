"""A client that was built from a release goes on working with the services of today, and a client of today with the services of a
release and with those that know more than it does.
"""

from collections.abc import Iterator
from concurrent import futures
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message

from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_pb2
from services.cli.client import Engine, History
from services.cli.dev import _give_money
from services.cli.failures import Failure
from services.cli.output import document_of
from services.cli.processes import EXCHANGE_CONFIG
from tests.contract.released import Method, Release, versions
from tests.support.call_lines import call_lines
from tests.support.engine_exchange import start_engine
from tests.support.exchange_process import CALL_SECONDS
from tests.support.running_history import RunningHistory

FUTURE_NUMBER, FUTURE_TEXT = 1999, "said by a later version"
FUTURE_VALUE = 77


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Today's services, with the users of `ordertape dev`: where each is."""
    import tomllib

    folder = tmp_path_factory.mktemp("today")
    engine = start_engine(folder / "engine", instruments=tomllib.loads(EXCHANGE_CONFIG.read_text())["instruments"])
    followed: Any = SimpleNamespace(address=engine.address, feed=engine.feed_addresses["history"])
    try:
        with RunningHistory(followed, folder / "history") as history, Engine(engine.address, CALL_SECONDS) as service:
            _give_money(service)
            yield {"engine": engine.address, "history": history.history.server.address}
    finally:
        engine.drain(grace_seconds=5)
        engine.close()


@pytest.mark.parametrize("version", versions())
def test_a_client_of_a_release_calls_every_rpc_of_todays_services(version: str, addresses: dict[str, str]) -> None:
    release = Release(version)
    methods, called = release.methods(), set()
    with grpc.insecure_channel(addresses["engine"]) as engine, grpc.insecure_channel(addresses["history"]) as history:
        position = ""
        for line in call_lines():
            method = methods.get(line.method)
            if line.tool != "grpcurl" or method is None:
                continue  # an RPC that the release does not have
            channel = history if "OrderHistory" in line.method else engine
            requests = [method.parsed(_waiting(method, document, position)) for document in line.documents]
            answers = release.call(channel, method, *requests)
            first = next(answers)
            assert first.ByteSize(), line.method
            if "MatchingEngine" in line.method:
                position = first.position  # type: ignore[attr-defined]
            called.add(line.method)
            if not line.method.endswith("WatchOrders"):
                assert [answer for answer in answers if not answer.ByteSize()] == []
    assert called == methods.keys()


@pytest.mark.parametrize("version", versions())
def test_a_client_of_a_release_reads_the_reasons_of_todays_refusals(version: str, addresses: dict[str, str]) -> None:
    release = Release(version)
    method = release.methods()["ordertape.v1.MatchingEngine/CancelOrder"]
    with grpc.insecure_channel(addresses["engine"]) as channel, pytest.raises(grpc.RpcError) as refused:
        list(release.call(channel, method, method.parsed({"userId": "alice", "orderId": "999999"})))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert b"ORDER_NOT_FOUND" in dict(refused.value.trailing_metadata())["grpc-status-details-bin"]


@pytest.mark.parametrize("version", versions())
def test_todays_client_reads_the_answers_of_a_releases_services(version: str) -> None:
    release = Release(version)
    with _serving(release) as address, Engine(address, CALL_SECONDS) as engine, History(address, CALL_SECONDS) as history:
        placed = engine.call(engine.orders.PlaceOrder, engine_pb2.PlaceOrderRequest(user_id="ann"))
        assert (placed.updates[0].order_id, placed.updates[0].client_order_id) == (7, "old")
        assert document_of(placed)["updates"][0]["status"] == "ORDER_STATUS_NEW"
        found = history.call(history.orders.GetOrder, history_pb2.GetOrderRequest(user_id="ann", order_id=7))
        assert found.order == placed.updates[0]
        watched = list(history.orders.WatchOrders(history_pb2.WatchOrdersRequest(user_id="ann"), timeout=CALL_SECONDS))
        assert [message.WhichOneof("event") for message in watched] == ["snapshot", "updates"]


def test_todays_client_asks_a_releases_services_for_what_they_lack_and_is_told_so() -> None:
    lacking = _serving(Release(versions()[0]))
    with lacking as address, Engine(address, CALL_SECONDS) as engine, pytest.raises(Failure) as refused:
        engine.call(engine.orders.GetOrderBook, engine_pb2.GetOrderBookRequest(symbol="BTC-USD"))
    assert refused.value.message.startswith("UNIMPLEMENTED")


def test_todays_client_goes_on_with_fields_and_values_that_only_a_later_service_knows() -> None:
    with _serving(Release(versions()[-1], _later)) as address, Engine(address, CALL_SECONDS) as engine:
        placed = engine.call(engine.orders.PlaceOrder, engine_pb2.PlaceOrderRequest(user_id="ann"))
    update = placed.updates[0]
    assert (update.order_id, update.status) == (7, FUTURE_VALUE)
    assert document_of(placed)["updates"][0]["status"] == FUTURE_VALUE
    assert FUTURE_TEXT.encode() in order_pb2.OrderUpdate.FromString(update.SerializeToString()).SerializeToString()


def test_todays_client_says_what_it_does_not_know_when_a_watch_has_news_of_a_kind_of_its_own() -> None:
    with _serving(Release(versions()[-1], _later)) as address, History(address, CALL_SECONDS) as history:
        watched = list(history.orders.WatchOrders(history_pb2.WatchOrdersRequest(user_id="ann"), timeout=CALL_SECONDS))
    assert [message.WhichOneof("event") for message in watched] == ["snapshot", "updates", None]
    assert watched[-1].position == "later"


def _waiting(method: Method, document: dict[str, Any], position: str) -> dict[str, Any]:
    """Reads of the history wait for what was written before."""
    return document | {"atLeast": position} if "at_least" in method.request.DESCRIPTOR.fields_by_name else document


def _later(image: FileDescriptorSet) -> None:
    """What a later version may add: a field, an enum value, a member of a oneof."""
    for file in image.file:
        for message in file.message_type:
            if message.name == "OrderUpdate":
                message.field.add(
                    name="venue",
                    number=FUTURE_NUMBER,
                    type=FieldDescriptorProto.TYPE_STRING,
                    label=FieldDescriptorProto.LABEL_OPTIONAL,
                )
            if message.name == "WatchOrdersResponse":
                message.field.add(
                    name="news",
                    number=FUTURE_NUMBER,
                    type=FieldDescriptorProto.TYPE_STRING,
                    label=FieldDescriptorProto.LABEL_OPTIONAL,
                    oneof_index=0,
                )
        for enum in file.enum_type:
            if enum.name == "OrderStatus":
                enum.value.add(name="ORDER_STATUS_PARKED", number=FUTURE_VALUE)


class _serving:  # noqa: N801 - used as a function
    """A minimal server of a release: places every order, knows one order, and watches it."""

    def __init__(self, release: Release) -> None:
        self._release = release
        update = release.message("OrderUpdate")(order_id=7, user_id="ann", client_order_id="old", status=1, exec_type=1)
        news: list[dict[str, Any]] = []
        if "venue" in update.DESCRIPTOR.fields_by_name:
            update.venue, update.status = FUTURE_TEXT, FUTURE_VALUE  # type: ignore[attr-defined]
            news = [{"news": FUTURE_TEXT, "position": "later"}]
        orders = {"updates": [update]}
        self._answers: dict[str, list[dict[str, Any]]] = {
            "ordertape.v1.MatchingEngine/PlaceOrder": [{**orders, "position": "p"}],
            "ordertape.v1.OrderHistory/GetOrder": [{"order": update, "position": "p"}],
            "ordertape.v1.OrderHistory/WatchOrders": [{"snapshot": {"last_page": True}}, {"updates": orders}, *news],
        }

    def __enter__(self) -> str:
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        methods = self._release.methods()
        for name, answers in self._answers.items():
            service, _, rpc = name.partition("/")
            handler = _handler(methods[name], [methods[name].response(**answer) for answer in answers])
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {rpc: handler}),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return f"127.0.0.1:{port}"

    def __exit__(self, *unused: object) -> None:
        self._server.stop(None).wait()


def _handler(method: Method, answers: list[Message]) -> "grpc.RpcMethodHandler[Any, Any]":
    codec = {"request_deserializer": method.request.FromString, "response_serializer": method.response.SerializeToString}
    if method.gives_stream:
        return grpc.unary_stream_rpc_method_handler(lambda _request, _context: iter(answers), **codec)
    return grpc.unary_unary_rpc_method_handler(lambda _request, _context: answers[0], **codec)
