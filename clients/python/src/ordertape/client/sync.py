"""The client for threads. Safe for threads itself; one is enough for a process."""

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc
from google.protobuf.message import Message

from ordertape.client import operations, requests
from ordertape.client.attempts import Attempts
from ordertape.client.channels import ENGINE_DEFAULT, HISTORY_DEFAULT, OPTIONS, named_as
from ordertape.client.errors import error_of
from ordertape.client.operations import Method, Operation
from ordertape.client.results import Page
from ordertape.client.resuming import Resumption
from ordertape.client.session import Session, key_of
from ordertape.client.streams import Export, Interrupted, ResumedStream, Stream, Watch, unheard
from ordertape.client.tables import Listing
from ordertape.client.views import View

P = ParamSpec("P")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
T = TypeVar("T")
V = TypeVar("V", bound=View[Any])
StreamKind = TypeVar("StreamKind", bound=Stream[Any])


def _call(operation: Operation[P, Request, Response, T]) -> Callable[Concatenate["Client", P], T]:
    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._answer(operation, operation.request(*args, **kwargs))

    return named_as(operation.request, call)


def _list(operation: Operation[P, Request, Response, Page[V]]) -> Callable[Concatenate["Client", P], Listing[V]]:
    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Listing[V]:
        whole: Any = operation.request(*args, **kwargs)

        def page(token: str) -> Page[V]:
            request = type(whole)()
            request.CopyFrom(whole)
            request.page_token = token
            return self._answer(operation, request)

        return Listing(page)

    return named_as(operation.request, call)


class Client:
    """An exchange's two services, for ``user``.

    A call is tried for ``timeout`` seconds in all while a service is away; a write keeps the key that it had at first, so it
    happens once. Reads wait until the history has what this client wrote, unless ``read_your_writes`` is False. ``credentials``
    make the channels secure; ``metadata`` goes with every call. Calls raise OrdertapeError.
    """

    place = _call(operations.PLACE)
    replace = _call(operations.REPLACE)
    cancel = _call(operations.CANCEL)
    cancel_orders = _call(operations.CANCEL_ORDERS)
    submit = _call(operations.SUBMIT)
    deposit = _call(operations.DEPOSIT)
    withdraw = _call(operations.WITHDRAW)
    balances = _call(operations.BALANCES)
    book = _call(operations.BOOK)
    instruments = _call(operations.INSTRUMENTS)
    order = _call(operations.ORDER)
    active_orders = _list(operations.ACTIVE_ORDERS)
    order_history = _list(operations.ORDER_HISTORY)
    order_updates = _list(operations.ORDER_UPDATES)
    fills = _list(operations.FILLS)
    status = _call(operations.STATUS)

    def __init__(
        self,
        engine: str = ENGINE_DEFAULT,
        history: str = HISTORY_DEFAULT,
        *,
        user: str = "",
        timeout: float = 30.0,
        read_your_writes: bool = True,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.timeout = timeout
        self._session = Session(user, read_your_writes)
        self._metadata = tuple(metadata)
        self._channels = {"engine": _channel(engine, credentials), "history": _channel(history, credentials)}
        self._stubs: dict[str, Any] = {}
        self._streams: weakref.WeakSet[Stream[Any]] = weakref.WeakSet()
        self._lock = threading.Lock()

    def watch(
        self,
        *,
        symbols: Iterable[str] = (),
        order_ids: Iterable[int] = (),
        after: str | None = None,
        user: str | None = None,
        patience: float = float("inf"),
        interrupted: Interrupted = unheard,
    ) -> Watch:
        """Every update later than the position ``after``; without one, the open orders and then every update. Each comes once,
        whatever restarts in between. A history that is silent for ``patience`` seconds ends it; ``interrupted`` is told why the
        stream broke.
        """
        request = requests.watch(symbols=symbols, order_ids=order_ids, after=after, user=user)
        return self._stream(Watch, operations.WATCH, request, operations.news_of, patience, interrupted)

    def export(
        self,
        *,
        symbols: Iterable[str] = (),
        after: str | None = None,
        until: str | None = None,
        updated_from: datetime | None = None,
        updated_until: datetime | None = None,
        at_least: str | None = None,
        user: str | None = None,
        patience: float = 60.0,
        interrupted: Interrupted = unheard,
    ) -> Export:
        """Every update, oldest first, up to the position ``until``, or to where the history is when it begins. Each comes once,
        whatever restarts in between. A history that is silent for ``patience`` seconds ends it; ``interrupted`` is told why the
        stream broke.
        """
        request = requests.export(
            symbols=symbols,
            after=after,
            until=until,
            updated_from=updated_from,
            updated_until=updated_until,
            at_least=at_least,
            user=user,
        )
        return self._stream(Export, operations.EXPORT, request, operations.exported_of, patience, interrupted)

    def close(self) -> None:
        """End all that is under way."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        for channel in self._channels.values():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _answer(self, operation: Operation[..., Request, Response, T], request: Request) -> T:
        self._prepare(request)
        return operation.answer(request, self._send(operation.method, request, operation.writes))

    def _prepare(self, request: Message) -> None:
        """Complete the request; wait for all but one of the positions that it has to wait for itself."""
        self._session.prepare(request)
        positions = self._session.to_wait_for(request)
        for position in positions[:-1]:
            self._send(operations.STATUS.method, requests.status(at_least=position))
        self._session.reached(request, positions)

    def _send(self, method: Method[Request, Response], request: Request, writes: bool = False) -> Response:
        attempts, sent = Attempts(self.timeout), self._session.tick()
        while True:
            try:
                response: Response = self._stub(method)(request, timeout=attempts.timeout(), metadata=self._metadata)
            except grpc.RpcError as error:
                pause = attempts.pause_after(error_of(error, key_of(request)))
            else:
                if writes:
                    self._session.wrote(response, sent)
                return response
            time.sleep(pause)

    def _stub(self, method: Method[Any, Response]) -> "grpc.UnaryUnaryMultiCallable[Any, Response]":
        stub: grpc.UnaryUnaryMultiCallable[Any, Response] | None = self._stubs.get(method.path)
        if stub is None:
            stub = self._channels[method.at].unary_unary(
                method.path, method.request.SerializeToString, method.response.FromString
            )
            self._stubs[method.path] = stub
        return stub

    def _stream(
        self,
        kind: Callable[[ResumedStream[Any], Callable[[list[Any]], Any], str], StreamKind],
        method: Method[Any, Any],
        request: Any,
        piece_of: Callable[[list[Any]], Any],
        patience: float,
        interrupted: Interrupted,
    ) -> StreamKind:
        self._prepare(request)
        stub = self._channels[method.at].unary_stream(method.path, method.request.SerializeToString, method.response.FromString)
        resumption: Resumption[Any] = Resumption(request, self.timeout, patience)
        resumed = ResumedStream(lambda: stub(request, metadata=self._metadata), resumption, interrupted)
        stream = kind(resumed, piece_of, request.after)
        with self._lock:
            self._streams.add(stream)
        return stream


def _channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    if credentials is None:
        return grpc.insecure_channel(address, OPTIONS)
    return grpc.secure_channel(address, credentials, OPTIONS)
