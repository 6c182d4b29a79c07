"""The asyncio server, for a service of many long streams. Methods are wrapped once, at registration: a wrapper admits the
call, counts it, and ends it properly, and writes a stream's messages itself so that the stream is closed at once when its
reader leaves.
"""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
import structlog

from services.serving.failures import call_status, draining, internal, too_many
from services.serving.health import AsyncHealthServicer, HealthBoard
from services.serving.listening import address_of, listen
from services.serving.registration import (
    Handler,
    Registration,
    behavior_of,
    is_stream,
    register,
    register_control,
    with_behavior,
)
from services.serving.settings import ServerSettings, channel_options
from services.wire.errors import CallError

log = structlog.stdlib.get_logger(__name__)

# How long the last answers may take to leave after their handlers have returned.
FLUSH_SECONDS = 1.0
DRAIN_POLL_SECONDS = 0.005


async def start_aio_server(
    registrations: Sequence[Registration],
    settings: ServerSettings,
    health: HealthBoard,
    on_drain: Sequence[Callable[[], object]] = (),
) -> "AioServer":
    """A started server of these ``(add_XServicer_to_server, servicer)`` pairs, with health and reflection.

    Handlers are coroutines or async generators and raise CallError to fail a call. The services go on the health board,
    not serving until it is told otherwise. ``on_drain``: called in order, in the event loop, when a drain begins; they end
    the streams that would not end by themselves, with ``failures.draining()``. Raises AddressError where the address
    cannot be listened on, TypeError for a handler that is not asynchronous.
    """
    server = AioServer(registrations, settings, health, on_drain)
    await server.start()
    return server


class AioServer:
    """A running server: ``address`` as clients write it, ``port``, and how to end it. Made by ``start_aio_server``."""

    def __init__(
        self,
        registrations: Sequence[Registration],
        settings: ServerSettings,
        health: HealthBoard,
        on_drain: Sequence[Callable[[], object]],
    ) -> None:
        self.health = health
        self.settings = settings
        self._on_drain = on_drain
        self._draining = False
        self._calls = _Slots("calls", settings.calls_max)
        self._streams = _Slots("streams", settings.streams_max)
        self._server = grpc.aio.server(options=channel_options(settings))
        self.services = register(self._server, registrations, self._guarded)
        control = AsyncHealthServicer(health)
        register_control(self._server, self.services, control, _unguarded, with_channelz=settings.channelz)
        for service in self.services:
            health.add_service(service)
        self.port = listen(self._server.add_insecure_port, settings.host, settings.port)
        self.address = address_of(settings.host, self.port)

    async def start(self) -> None:
        """Begin to answer."""
        await self._server.start()
        log.info("listening", address=self.address, services=self.services)

    @property
    def in_flight(self) -> int:
        """The service's calls and streams that run; health and reflection do not count."""
        return self._calls.in_flight + self._streams.in_flight

    async def drain(self, grace_seconds: float | None = None, cut_short: Callable[[], bool] = lambda: False) -> bool:
        """Stop: not serving, new calls refused, running ones given ``grace_seconds`` (None: the setting), then cancelled.

        ``cut_short``: asked all the time whether the grace ends now. Returns whether all calls finished by themselves.
        """
        grace = self.settings.grace_seconds if grace_seconds is None else grace_seconds
        deadline = time.monotonic() + grace
        self.health.start_draining()
        self._draining = True
        for hook in self._on_drain:
            hook()
        while self.in_flight and time.monotonic() < deadline and not cut_short():  # noqa: ASYNC110 - any of three ends it
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        finished = not self.in_flight
        self.health.close()
        await self._server.stop(FLUSH_SECONDS if finished else None)
        return finished

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        await self.drain(grace_seconds=0)

    def _guarded(self, method: str, handler: Handler) -> Handler:
        run = _awaitable(method, behavior_of(handler))
        slots = self._streams if is_stream(handler) else self._calls

        async def call(request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
            if self._draining:
                await context.abort_with_status(call_status(draining()))
            if slots.in_flight >= slots.limit:
                await context.abort_with_status(call_status(too_many(slots.what, slots.limit)))
            slots.in_flight += 1
            try:
                return await run(request, context)
            except Exception as error:
                await _fail(error, context, method)
            finally:
                slots.in_flight -= 1

        return with_behavior(handler, call)


class _Slots:
    """How many calls of one sort run, and may run."""

    __slots__ = ("in_flight", "limit", "what")

    def __init__(self, what: str, limit: int) -> None:
        self.what = what
        self.limit = limit
        self.in_flight = 0


def _unguarded(method: str, handler: Handler) -> Handler:
    return with_behavior(handler, _awaitable(method, behavior_of(handler)))


def _awaitable(method: str, behavior: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(behavior):
        return behavior
    if not inspect.isasyncgenfunction(behavior):
        raise TypeError(f"the handler of {method} must be a coroutine function or an async generator function")
    responses_of: Callable[..., AsyncIterator[Any]] = behavior

    async def write_all(request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        async with aclosing(responses_of(request, context)) as responses:  # type: ignore[type-var]
            async for response in responses:
                await context.write(response)

    return write_all


async def _fail(error: Exception, context: "grpc.aio.ServicerContext[Any, Any]", method: str) -> NoReturn:
    if isinstance(error, CallError):
        await context.abort_with_status(call_status(error))
    if isinstance(error, grpc.aio.BaseError):
        raise error  # the call is over already, since its reader left or the server stopped; gRPC ends it
    await context.abort(grpc.StatusCode.INTERNAL, internal(error, method))
