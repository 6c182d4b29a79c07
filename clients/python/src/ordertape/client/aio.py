"""The client for asyncio: the same surface, to be awaited. One is enough for an event loop."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from ordertape.client import operations, requests
from ordertape.client.async_streams import AsyncExport, AsyncStream, AsyncWatch, cancelled_by_server
from ordertape.client.attempts import Attempts
from ordertape.client.channels import ENGINE_DEFAULT, HISTORY_DEFAULT, OPTIONS, named_as
from ordertape.client.errors import error_of
from ordertape.client.operations import Method, Operation
from ordertape.client.results import Page
from ordertape.client.resuming import Resumption
from ordertape.client.session import Session, key_of
from ordertape.client.streams import Interrupted, unheard
from ordertape.client.tables import AsyncListing
from ordertape.client.views import View

P = ParamSpec("P")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
T = TypeVar("T")
V = TypeVar("V", bound=View[Any])
StreamKind = TypeVar("StreamKind", bound=AsyncStream[Any])


def _call(operation: Operation[P, Request, Response, T]) -> Callable[Concatenate["AsyncClient", P], Awaitable[T]]:
    async def call(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._answer(operation, operation.request(*args, **kwargs))

    return named_as(operation.request, call)


def _list(operation: Operation[P, Request, Response, Page[V]]) -> Callable[Concatenate["AsyncClient", P], AsyncListing[V]]:
    def call(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncListing[V]:
        whole: Any = operation.request(*args, **kwargs)

        async def page(token: str) -> Page[V]:
            request = type(whole)()
            request.CopyFrom(whole)
            request.page_token = token
            return await self._answer(operation, request)

        return AsyncListing(page)

    return named_as(operation.request, call)


class AsyncClient:
    """An exchange's two services, for ``user``; all is as Client says."""

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
        self._addresses = {"engine": engine, "history": history}
        self._credentials = credentials
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._streams: weakref.WeakSet[AsyncStream[Any]] = weakref.WeakSet()

    def watch(
        self,
        *,
        symbols: Iterable[str] = (),
        order_ids: Iterable[int] = (),
        after: str | None = None,
        user: str | None = None,
        patience: float = float("inf"),
        interrupted: Interrupted = unheard,
    ) -> AsyncWatch:
        """As Client.watch."""
        request = requests.watch(symbols=symbols, order_ids=order_ids, after=after, user=user)
        return self._stream(AsyncWatch, operations.WATCH, request, operations.news_of, patience, interrupted)

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
    ) -> AsyncExport:
        """As Client.export."""
        request = requests.export(
            symbols=symbols,
            after=after,
            until=until,
            updated_from=updated_from,
            updated_until=updated_until,
            at_least=at_least,
            user=user,
        )
        return self._stream(AsyncExport, operations.EXPORT, request, operations.exported_of, patience, interrupted)

    async def aclose(self) -> None:
        """End all that is under way."""
        for stream in list(self._streams):
            await stream.aclose()
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def _answer(self, operation: Operation[..., Request, Response, T], request: Request) -> T:
        await self._prepare(request)
        return operation.answer(request, await self._send(operation.method, request, operation.writes))

    async def _prepare(self, request: Message) -> None:
        """Complete the request; wait for all but one of the positions that it has to wait for itself."""
        self._session.prepare(request)
        positions = self._session.to_wait_for(request)
        for position in positions[:-1]:
            await self._send(operations.STATUS.method, requests.status(at_least=position))
        self._session.reached(request, positions)

    async def _send(self, method: Method[Request, Response], request: Request, writes: bool = False) -> Response:
        attempts, sent = Attempts(self.timeout), self._session.tick()
        stub = self._channel(method.at).unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
        while True:
            try:
                response: Response = await stub(request, timeout=attempts.timeout(), metadata=self._metadata)
            except grpc.RpcError as error:
                pause = attempts.pause_after(error_of(error, key_of(request)))
            except asyncio.CancelledError as error:
                pause = attempts.pause_after(cancelled_by_server(error))
            else:
                if writes:
                    self._session.wrote(response, sent)
                return response
            await asyncio.sleep(pause)

    def _channel(self, at: str) -> grpc.aio.Channel:
        """The channel; made with the first call, since it belongs to the event loop that runs then."""
        if at not in self._channels:
            address = self._addresses[at]
            self._channels[at] = (
                grpc.aio.insecure_channel(address, OPTIONS)
                if self._credentials is None
                else grpc.aio.secure_channel(address, self._credentials, OPTIONS)
            )
        return self._channels[at]

    def _stream(
        self,
        kind: Callable[..., StreamKind],
        method: Method[Any, Any],
        request: Any,
        piece_of: Callable[[list[Any]], Any],
        patience: float,
        interrupted: Interrupted,
    ) -> StreamKind:
        def opened() -> Any:
            channel = self._channel(method.at)
            stub = channel.unary_stream(method.path, method.request.SerializeToString, method.response.FromString)
            return stub(request, metadata=self._metadata)

        resumption: Resumption[Any] = Resumption(request, self.timeout, patience)
        stream = kind(lambda: self._prepare(request), opened, resumption, piece_of, request.after, interrupted)
        self._streams.add(stream)
        return stream
