"""The threaded server, for a service of many short calls.

A method is wrapped once, at registration, and a call is admitted or refused in gRPC's own thread, before it waits for a
thread of a lane: what is over the limit is told so at once, however long the queue is.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
import structlog

from services.serving.failures import call_status, draining, internal, too_many
from services.serving.health import HealthBoard, HealthServicer
from services.serving.lanes import Lane
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

# A thread each: health watches and reflection.
CONTROL_STREAMS_MAX = 64
CONTROL_THREADS_MAX = 4
# How long the last answers may take to leave after their handlers have returned.
FLUSH_SECONDS = 1.0
DRAIN_POLL_SECONDS = 0.005


def start_server(
    registrations: Sequence[Registration],
    settings: ServerSettings,
    health: HealthBoard,
    on_drain: Sequence[Callable[[], object]] = (),
) -> "ThreadedServer":
    """A started server of these ``(add_XServicer_to_server, servicer)`` pairs, with health and reflection.

    Handlers raise CallError to fail a call. The services go on the health board, not serving until it is told otherwise.
    ``on_drain``: called in order when a drain begins; they end the streams that would not end by themselves, with
    ``failures.draining()``. Raises AddressError where the address cannot be listened on.
    """
    return ThreadedServer(registrations, settings, health, on_drain)


class ThreadedServer:
    """A running server: ``address`` as clients write it, ``port``, and how to end it. Made by ``start_server``."""

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
        self._calls = Lane("call", settings.call_threads_max)
        self._streams = Lane("stream", settings.streams_max)
        self._sessions = Lane("session", settings.sessions_max)
        self._control = Lane("control", CONTROL_THREADS_MAX)
        self._control_streams = Lane("control-stream", CONTROL_STREAMS_MAX)
        self._admission = _Admission(self._control)
        self._server = grpc.server(
            self._control,
            interceptors=[self._admission],
            options=channel_options(settings),
            # The last resort behind our own limits, for floods of refused calls; it answers without details.
            maximum_concurrent_rpcs=settings.calls_at_once_max,
        )
        services = register(self._server, registrations, self._guarded)
        register_control(self._server, services, HealthServicer(health), self._unguarded, with_channelz=settings.channelz)
        for service in services:
            health.add_service(service)
        self.port = listen(self._server.add_insecure_port, settings.host, settings.port)
        self.address = address_of(settings.host, self.port)
        self._server.start()
        log.info("listening", address=self.address, services=services)

    @property
    def in_flight(self) -> int:
        """The service's calls and streams that run or wait; health and reflection do not count."""
        return self._calls.in_flight + self._streams.in_flight + self._sessions.in_flight

    def drain(self, grace_seconds: float | None = None, cut_short: Callable[[], bool] = lambda: False) -> bool:
        """Stop: not serving, new calls refused, running ones given ``grace_seconds`` (None: the setting), then cancelled.

        ``cut_short``: asked all the time whether the grace ends now. Returns whether all calls finished by themselves.
        """
        grace = self.settings.grace_seconds if grace_seconds is None else grace_seconds
        deadline = time.monotonic() + grace
        self.health.start_draining()
        self._admission.draining = True
        for hook in self._on_drain:
            hook()
        while self.in_flight and time.monotonic() < deadline and not cut_short():
            time.sleep(DRAIN_POLL_SECONDS)
        finished = not self.in_flight
        self.health.close()
        self._server.stop(FLUSH_SECONDS if finished else None).wait()
        for lane in (self._calls, self._streams, self._sessions, self._control, self._control_streams):
            lane.shutdown()
        return finished

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.drain(grace_seconds=0)

    def _guarded(self, method: str, handler: Handler) -> Handler:
        if handler.request_streaming and handler.response_streaming:
            # Clients keep them open for as long as they are there, so they must not take the room of those who read.
            self._admission.admit(method, self._sessions, self.settings.sessions_max, "sessions")
            lane = self._sessions
        elif is_stream(handler):
            self._admission.admit(method, self._streams, self.settings.streams_max, "streams")
            lane = self._streams
        else:
            self._admission.admit(method, self._calls, self.settings.calls_max, "calls")
            lane = self._calls
        behavior = behavior_of(handler)
        guarded = _many(method, behavior) if handler.response_streaming else _one(method, behavior)
        return _in_lane(handler, guarded, lane)

    def _unguarded(self, method: str, handler: Handler) -> Handler:
        behavior = partial(behavior_of(handler))  # unlike a method, it can carry its lane
        if not is_stream(handler):
            return _in_lane(handler, behavior, self._control)
        self._admission.admit(method, self._control_streams, CONTROL_STREAMS_MAX, "control streams", drains=False)
        return _in_lane(handler, behavior, self._control_streams)


class _Admission(grpc.ServerInterceptor):
    """Lets a call into its lane or refuses it; runs in gRPC's one serving thread."""

    def __init__(self, refusals: Lane) -> None:
        self.draining = False
        self._refusals = refusals
        self._draining = _refusal(draining, refusals)
        self._rules: dict[str, tuple[Lane, int, Handler, bool]] = {}

    def admit(self, method: str, lane: Lane, limit: int, what: str, *, drains: bool = True) -> None:
        """Let the method in while its lane holds fewer than ``limit`` calls, and none while draining if it ``drains``."""
        self._rules[method] = (lane, limit, _refusal(lambda: too_many(what, limit), self._refusals), drains)

    def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Handler | None]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """The method's handler, or one that refuses."""
        rule = self._rules.get(handler_call_details.method)
        if rule is not None:
            lane, limit, refusal, drains = rule
            if self.draining and drains:
                return self._draining
            if lane.in_flight >= limit:
                return refusal
        return continuation(handler_call_details)


def _refusal(error: Callable[[], CallError], lane: Lane) -> Handler:
    status = call_status(error())

    def refuse(_requests: object, context: grpc.ServicerContext) -> NoReturn:
        context.abort_with_status(status)

    # Takes a stream of requests, so it does not wait for one; the call can be of any kind, since it gets no response.
    handler: Handler = grpc.stream_unary_rpc_method_handler(refuse)
    return _in_lane(handler, refuse, lane)


def _one(method: str, behavior: Callable[..., Any]) -> Callable[..., Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return behavior(request, context)
        except Exception as error:
            _fail(error, context, method)

    return call


def _many(method: str, behavior: Callable[..., Iterable[Any]]) -> Callable[..., Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from behavior(request, context)
        except Exception as error:
            _fail(error, context, method)

    return call


def _fail(error: Exception, context: grpc.ServicerContext, method: str) -> NoReturn:
    if isinstance(error, CallError):
        context.abort_with_status(call_status(error))
    if isinstance(error, grpc.RpcError) and not context.is_active():
        raise error  # the caller left while the handler read its requests; gRPC ends the call
    context.abort(grpc.StatusCode.INTERNAL, internal(error, method))


def _in_lane(handler: Handler, behavior: Callable[..., Any], lane: Lane) -> Handler:
    placed: Any = behavior
    placed.experimental_thread_pool = lane  # where gRPC looks for the pool of one method
    return with_behavior(handler, placed)
