"""A history that does not have a user asks the one that does, and nobody can tell the difference. What every method has to do is
shown at a hand-written owner; what only real ones can show at two histories that share the users.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import order_history_pb2 as pb
from services.order_history.forwarding import FORWARDED_BY
from services.order_history.stores.sqlite import SqliteHistoryStore
from services.serving.failures import call_status
from services.wire.errors import CallError
from services.wire.position import encode_position
from tests.support.eventually import eventually
from tests.support.exporter import SlowReader, details_of, export
from tests.support.fake_engine import FakeEngine
from tests.support.ledger_builder import LedgerBuilder
from tests.support.running_history import RunningHistory
from tests.support.shares import addresses, equal_shares, settings_of, user_of_shard, users_of
from tests.support.watcher import Watcher

SERVICE = pb.DESCRIPTOR.services_by_name["OrderHistory"]
METHODS = list(SERVICE.methods)
ABOUT_USERS = [method.name for method in METHODS if "user_id" in method.input_type.fields_by_name]
OWN_CODES = (grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND)
HALVES = equal_shares(2)
(MINE,), (THEIRS,) = users_of(HALVES[:1]), users_of(HALVES[1:])


@pytest.fixture
def ledger() -> LedgerBuilder:
    ledger = LedgerBuilder()
    ledger.open_market((MINE, THEIRS), ("BTC-USD", "ETH-USD"))
    return ledger


@pytest.fixture
def engine(ledger: LedgerBuilder) -> Iterator[FakeEngine]:
    with FakeEngine(ledger.batches, more_feeds=["tcp://127.0.0.1:*"] * 2) as engine:
        yield engine


@contextmanager
def history(engine: FakeEngine, folder: Path, number: int, settings: dict[str, Any]) -> Iterator[RunningHistory]:
    store = SqliteHistoryStore(folder / f"history{number}", readers=2)
    with RunningHistory(engine.consumers[number], folder, store=store, **settings) as running:
        yield running


class Two:
    """Two histories that share the users, at ``places``, each started by its number."""

    def __init__(self, engine: FakeEngine, folder: Path) -> None:
        self.places = addresses(2)
        self._engine = engine
        self._folder = folder
        self._stack = ExitStack()

    def start(self, number: int, **settings: Any) -> RunningHistory:
        """Start one; ``settings`` overrides single settings."""
        together = {**settings_of(HALVES, self.places, number), **settings}
        return self._stack.enter_context(history(self._engine, self._folder, number, together))

    def close(self) -> None:
        """Stop what was started."""
        self._stack.close()


@pytest.fixture
def two(engine: FakeEngine, tmp_path: Path) -> Iterator[Two]:
    two = Two(engine, tmp_path)
    yield two
    two.close()


@pytest.fixture
def pair(two: Two) -> tuple[RunningHistory, RunningHistory]:
    """The history that is asked, and the owner of THEIRS."""
    return two.start(0), two.start(1)


def failed(call: Callable[[], Any]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


# One owner, every method


class RecordingOwner(grpc.GenericRpcHandler):
    """Answers every method with ``answers``, or ``error``, and keeps what it was asked."""

    def __init__(self, answers: Sequence[bytes] = (b"",), error: CallError | None = None, wait: bool = False) -> None:
        self.asked: list[tuple[str, bytes, dict[str, str | bytes], float | None]] = []
        self.left = threading.Event()
        self._answers = answers
        self._error = error
        self._wait = wait

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See GenericRpcHandler."""
        name = handler_call_details.method

        def many(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            self.asked.append((name, request, dict(context.invocation_metadata()), context.time_remaining()))
            context.add_callback(self.left.set)
            details = () if self._error is None else call_status(self._error).trailing_metadata
            context.set_trailing_metadata((("answered-by", "the owner"), *details))
            yield from self._answers
            if self._wait:
                self.left.wait(20)
            if self._error is not None:
                context.abort(self._error.code, self._error.message)

        def one(request: bytes, context: grpc.ServicerContext) -> bytes:
            (answer,) = many(request, context)
            return answer

        if SERVICE.methods_by_name[name.rpartition("/")[2]].server_streaming:
            return grpc.unary_stream_rpc_method_handler(many)
        return grpc.unary_unary_rpc_method_handler(one)


@contextmanager
def owner_at(address: str, owner: RecordingOwner) -> Iterator[grpc.Server]:
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[owner], options=[("grpc.so_reuseport", 0)])
    server.add_insecure_port(address)
    server.start()
    try:
        yield server
    finally:
        server.stop(None).wait()


def a_request(name: str, user_id: str) -> Message:
    """One that is well-formed."""
    request = GetMessageClass(SERVICE.methods_by_name[name].input_type)(user_id=user_id)
    if "order" in request.DESCRIPTOR.oneofs_by_name:
        request.order_id = 7  # type: ignore[attr-defined]
    return request


def ask(channel: grpc.Channel, name: str, request: bytes, **options: Any) -> tuple[list[bytes], dict[str, str | bytes]]:
    """The answers as bytes, and the trailing metadata."""
    path = f"/{SERVICE.full_name}/{name}"
    if SERVICE.methods_by_name[name].server_streaming:
        stream = channel.unary_stream(path)(request, timeout=10, **options)
        return list(stream), dict(stream.trailing_metadata())
    answer, call = channel.unary_unary(path).with_call(request, timeout=10, **options)
    return [answer], dict(call.trailing_metadata())


@pytest.mark.parametrize("name", ABOUT_USERS)
def test_every_method_about_a_user_is_forwarded_byte_for_byte(two: Two, name: str) -> None:
    method = SERVICE.methods_by_name[name]
    answer = GetMessageClass(method.output_type)(position="some position").SerializeToString() + b"\xfa\x3f\x03new"
    owner = RecordingOwner([answer] * (3 if method.server_streaming else 1))
    with owner_at(two.places[1], owner):
        running = two.start(0)
        request = a_request(name, THEIRS).SerializeToString()
        metadata = (("x-request-id", "r1"), ("traceparent", "00-1-1-01"), ("key-bin", b"\0\xff"))
        answers, trailing = ask(running.channel, name, request, metadata=metadata)
    assert answers == list(owner._answers)
    assert trailing == {"answered-by": "the owner"}
    ((path, asked, received, deadline),) = owner.asked
    assert (path, asked) == (f"/{SERVICE.full_name}/{name}", request)
    assert received.items() >= dict(metadata).items()
    assert "0-127" in str(received[FORWARDED_BY])
    assert deadline is not None
    assert 9 < deadline < 10


@pytest.mark.parametrize("name", ABOUT_USERS)
def test_an_owners_error_comes_back_as_it_is(two: Two, name: str) -> None:
    error = CallError(grpc.StatusCode.OUT_OF_RANGE, reasons.ERROR_REASON_POSITION_OUT_OF_RANGE, "too old", metadata={"a": "b"})
    with owner_at(two.places[1], RecordingOwner((), error)):
        caught = failed(lambda: ask(two.start(0).channel, name, a_request(name, THEIRS).SerializeToString()))
    assert (caught.code(), caught.details()) == (grpc.StatusCode.OUT_OF_RANGE, "too old")
    info, _ = details_of(caught)
    assert (info.reason, dict(info.metadata)) == ("POSITION_OUT_OF_RANGE", {"a": "b"})
    assert dict(caught.trailing_metadata())["answered-by"] == "the owner"


@pytest.mark.parametrize("name", ABOUT_USERS)
def test_a_user_of_its_own_is_never_forwarded(two: Two, name: str) -> None:
    owner = RecordingOwner()
    with owner_at(two.places[1], owner):
        running = two.start(0)
        running.wait_until_applied(1)
        path, request = f"/{SERVICE.full_name}/{name}", a_request(name, MINE).SerializeToString()
        if SERVICE.methods_by_name[name].server_streaming:
            stream = running.channel.unary_stream(path)(request, timeout=10)
            next(stream)
            stream.cancel()
        else:
            # Of an order that is not there, the NOT_FOUND is our own.
            assert running.channel.unary_unary(path).future(request, timeout=10).code() in OWN_CODES
    assert owner.asked == []


def test_the_status_is_each_processs_own_and_says_its_users(pair: tuple[RunningHistory, RunningHistory]) -> None:
    assert [METHOD.name for METHOD in METHODS if METHOD.name not in ABOUT_USERS] == ["GetHistoryStatus"]
    assert [running.status().user_shards for running in pair] == ["0-127", "128-255"]


@pytest.mark.parametrize("name", ABOUT_USERS)
def test_a_malformed_request_is_refused_without_asking_the_owner(two: Two, name: str) -> None:
    running = two.start(0)  # and nobody is where the owner should be
    bad_user = next(u for u in ("?", "!", "%", "", "/", "#") if not HALVES[0].owns(u))
    request = a_request(name, bad_user)
    caught = failed(lambda: ask(running.channel, name, request.SerializeToString()))
    assert caught.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in details_of(caught)[1].field_violations] == ["user_id"]


@pytest.mark.parametrize("name", ABOUT_USERS)
def test_a_caller_that_leaves_frees_the_call_at_the_owner(two: Two, name: str) -> None:
    owner = RecordingOwner(wait=True)
    with owner_at(two.places[1], owner):
        running = two.start(0)
        path, request = f"/{SERVICE.full_name}/{name}", a_request(name, THEIRS).SerializeToString()
        streams = SERVICE.methods_by_name[name].server_streaming
        call: Any = running.channel.unary_stream(path)(request) if streams else running.channel.unary_unary(path).future(request)
        eventually(lambda: owner.asked)
        assert running.history.server.in_flight == 1
        call.cancel()
        assert owner.left.wait(5)
        eventually(lambda: running.history.server.in_flight == 0)


@pytest.mark.parametrize("name", ABOUT_USERS)
def test_an_owner_that_is_not_there_is_named_within_the_deadline(two: Two, name: str) -> None:
    running = two.start(0)
    for timeout in (1.0, 10.0):
        begin = time.monotonic()
        path, request = f"/{SERVICE.full_name}/{name}", a_request(name, THEIRS).SerializeToString()
        if SERVICE.methods_by_name[name].server_streaming:
            caught = failed(lambda: list(running.channel.unary_stream(path)(request, timeout=timeout)))  # noqa: B023
        else:
            caught = failed(lambda: running.channel.unary_unary(path)(request, timeout=timeout))  # noqa: B023
        assert time.monotonic() - begin < min(timeout, 4.0)
        assert caught.code() is grpc.StatusCode.UNAVAILABLE
        assert details_of(caught)[0].reason == "DEPENDENCY_DOWN"
        assert two.places[1] in caught.details()
        assert "128-255" in caught.details()


def test_an_owner_that_comes_within_the_patience_is_asked(two: Two) -> None:
    running = two.start(0)
    request = a_request("GetOrder", THEIRS).SerializeToString()
    asking = running.channel.unary_unary(f"/{SERVICE.full_name}/GetOrder").future(request, timeout=10)
    time.sleep(0.3)
    with owner_at(two.places[1], RecordingOwner()):
        assert asking.result() == b""


def test_an_owner_that_leaves_in_the_middle_of_a_stream_ends_it_with_the_position_to_go_on_from(
    two: Two,
) -> None:
    messages = [pb.WatchOrdersResponse(position=position).SerializeToString() for position in ("p1", "p2", "")]
    with owner_at(two.places[1], RecordingOwner(messages, wait=True)) as server:
        watching = two.start(0).history.server.address
        with Watcher(watching, THEIRS) as watcher:
            eventually(lambda: len(watcher.messages) == 3)
            server.stop(None).wait()
            eventually(lambda: watcher.error)
    assert watcher.error is not None
    assert watcher.error.code() is grpc.StatusCode.UNAVAILABLE
    assert (watcher.error_info.reason, watcher.error_info.metadata["position"]) == ("DEPENDENCY_DOWN", "p2")


def test_a_call_that_was_forwarded_once_is_not_forwarded_again_and_both_settings_are_named(
    engine: FakeEngine, tmp_path: Path
) -> None:
    first, second = addresses(2)
    disputed = user_of_shard(100)
    mine = {"users": "0-63", "peers": {"64-255": second}, "listen": first}
    theirs = {"users": "128-255", "peers": {"0-127": first}, "listen": second}
    with history(engine, tmp_path, 0, mine) as one, history(engine, tmp_path, 1, theirs) as other:
        for running, by, at in ((one, "0-63", "128-255"), (other, "128-255", "0-63")):
            caught = failed(lambda: ask(running.channel, "ListFills", a_request("ListFills", disputed).SerializeToString()))  # noqa: B023
            assert caught.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert details_of(caught)[0].reason == "USER_NOT_OWNED"
            text = caught.details()
            assert "shard 100" in text
            assert text.index(by) < text.index(f"the users {at}")
            assert first in text
            assert second in text


# Two histories


def test_a_read_waits_for_the_position_at_the_owner(
    pair: tuple[RunningHistory, RunningHistory], ledger: LedgerBuilder, engine: FakeEngine
) -> None:
    asked, owner = pair
    owner.wait_until_applied(ledger.sequence)
    order_id = ledger.place(THEIRS)
    at_least = encode_position(ledger.ledger_id, ledger.sequence)
    request = pb.GetOrderRequest(user_id=THEIRS, order_id=order_id, at_least=at_least)
    begin = time.monotonic()
    caught = failed(lambda: asked.stub.GetOrder(request, timeout=1.0))
    assert time.monotonic() - begin < 1.0
    assert details_of(caught)[0].reason == "NOT_YET_APPLIED"
    assert "applied_position" in details_of(caught)[0].metadata
    reading = asked.stub.GetOrder.future(request, timeout=10)
    engine.publish(ledger.batches[-1])
    assert reading.result().order == ledger.orders[order_id]


def test_a_forwarded_watch_is_free_at_both_when_its_caller_leaves(
    pair: tuple[RunningHistory, RunningHistory], ledger: LedgerBuilder, engine: FakeEngine
) -> None:
    asked, owner = pair
    with Watcher(asked.history.server.address, THEIRS) as watcher:
        eventually(lambda: watcher.has_snapshot)
        ledger.place(THEIRS)
        engine.publish(ledger.batches[-1])
        eventually(lambda: watcher.updates == [ledger.updates[-1]])
        assert (asked.history.watches.running, owner.history.watches.running) == (0, 1)
        assert asked.history.server.in_flight == 1
    eventually(lambda: (owner.history.watches.running, asked.history.server.in_flight) == (0, 0))


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_history_that_stops_ends_forwarded_watches_and_says_where_they_were(
    two: Two, ledger: LedgerBuilder, stopped: int, tmp_path: Path
) -> None:
    pair = (two.start(0), two.start(1))
    with Watcher(pair[0].history.server.address, THEIRS) as watcher:
        eventually(lambda: watcher.has_snapshot)
        server = pair[stopped].history.server
        begin = time.monotonic()
        drained = asyncio.run_coroutine_threadsafe(server.drain(), pair[stopped].loop)
        eventually(lambda: watcher.error)
        assert drained.result(5)
        assert time.monotonic() - begin < 3
        assert watcher.error is not None
        assert watcher.error.code() is grpc.StatusCode.UNAVAILABLE
        assert watcher.error_info.reason == "DRAINING"
        assert watcher.error_info.metadata["position"] == watcher.position


def test_forwarded_streams_count_where_they_are_asked_for(two: Two) -> None:
    asked, _ = two.start(0, watches_max=1), two.start(1)
    with Watcher(asked.history.server.address, THEIRS) as first:
        eventually(lambda: first.has_snapshot)
        with Watcher(asked.history.server.address, THEIRS) as second:
            eventually(lambda: second.error)
            assert second.error_info.reason == "TOO_MANY_CALLS"


def test_a_forwarded_reader_that_does_not_read_is_cut_off_and_holds_nothing_at_the_owner(
    two: Two, ledger: LedgerBuilder, engine: FakeEngine
) -> None:
    for _ in range(2_500):
        ledger.place(THEIRS, client_order_id="x" * 60 + str(ledger.sequence))
    engine.append(*ledger.batches[len(engine.batches) :])
    asked, owner = two.start(0, watch_stall_seconds=0.5), two.start(1, watch_stall_seconds=0.5)
    owner.wait_until_applied(ledger.sequence)
    with SlowReader(asked.history.server.address, THEIRS) as reader:
        reader.next_message()
        eventually(lambda: (owner.history.exports.running, asked.history.forwarding.running) == (0, 0), 20)
        cut = reader.rest()
    assert cut.error_info.reason == "READER_TOO_SLOW"
    assert cut.error_info.metadata["position"] == cut.position
    rest = export(asked.channel, THEIRS, after=cut.position)
    assert rest.error is None
    assert [*cut.whole_updates, *rest.updates] == ledger.updates
