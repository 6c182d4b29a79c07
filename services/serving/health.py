"""Which services answer, for load balancers and people (grpc.health.v1). One board holds it; any thread may set it and
nobody who sets it ever waits for somebody who watches.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import grpc
from grpc_health.v1.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)

# The name that means the whole server.
OVERALL = ""

_SERVING = HealthCheckResponse(status=HealthCheckResponse.SERVING)
_NOT_SERVING = HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)
_SERVICE_UNKNOWN = HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)


class HealthBoard:
    """The serving status of each service; not serving until somebody says so. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._serving: dict[str, bool] = {}
        self._serving_at_first = False
        self._draining = False
        self._closed = False
        self._listeners: list[Callable[[], None]] = []

    def add_service(self, service: str) -> None:
        """Put a service on the board, with what was last set for OVERALL."""
        with self._lock:
            self._serving.setdefault(service, self._serving_at_first)

    def set_serving(self, service: str, serving: bool) -> None:
        """Set one service's status, or with OVERALL that of each. Raises KeyError for a service not on the board."""
        with self._lock:
            if service == OVERALL:
                self._serving_at_first = serving
                self._serving = dict.fromkeys(self._serving, serving)
            elif service in self._serving:
                self._serving[service] = serving
            else:
                raise KeyError(f"no service {service!r} on the health board, only {sorted(self._serving)}")
            self._tell()

    def start_draining(self) -> None:
        """From now on nothing is serving, whatever is set."""
        with self._lock:
            self._draining = True
            self._tell()

    def close(self) -> None:
        """End all watches."""
        with self._lock:
            self._closed = True
            self._tell()

    @property
    def is_closed(self) -> bool:
        """Whether watches have to end."""
        return self._closed

    @property
    def watchers(self) -> int:
        """How many watches are open."""
        return len(self._listeners)

    def is_serving(self, service: str = OVERALL) -> bool | None:
        """Whether the service is serving (OVERALL: all of them); None for a service not on the board."""
        return self.statuses().get(service)

    def statuses(self) -> dict[str, bool]:
        """Whether each service, and OVERALL, is serving."""
        with self._lock:
            if self._draining:
                return dict.fromkeys([OVERALL, *self._serving], False)
            return {OVERALL: all(self._serving.values()) and bool(self._serving), **self._serving}

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener``, which must not block, after each change; the result ends that."""
        with self._lock:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return unsubscribe

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


class _HealthAnswers:
    """What both kinds of servicer say."""

    def __init__(self, board: HealthBoard) -> None:
        self._board = board

    def _check(self, service: str) -> HealthCheckResponse:
        serving = self._board.is_serving(service)
        if serving is None:
            return _SERVICE_UNKNOWN
        return _SERVING if serving else _NOT_SERVING

    def _list(self) -> HealthListResponse:
        return HealthListResponse(statuses={service: self._check(service) for service in self._board.statuses()})


class HealthServicer(_HealthAnswers):
    """grpc.health.v1.Health for the threaded server; a watch holds a thread."""

    def Check(self, request: HealthCheckRequest, context: grpc.ServicerContext) -> HealthCheckResponse:  # noqa: N802
        """The status now; NOT_FOUND for a service not on the board."""
        response = self._check(request.service)
        if response is _SERVICE_UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return response

    def List(self, _request: HealthListRequest, _context: grpc.ServicerContext) -> HealthListResponse:  # noqa: N802
        """The status of each service."""
        return self._list()

    def Watch(  # noqa: N802
        self, request: HealthCheckRequest, context: grpc.ServicerContext
    ) -> Iterator[HealthCheckResponse]:
        """The status now and after each change; changes in quick succession count as one."""
        changed = threading.Event()
        unsubscribe = self._board.subscribe(changed.set)
        context.add_callback(changed.set)
        last = None
        try:
            while True:
                changed.clear()  # before looking, so that no change is missed
                if self._board.is_closed or not context.is_active():
                    return
                response = self._check(request.service)
                if response is not last:
                    last = response
                    yield response
                changed.wait()
        finally:
            unsubscribe()


class AsyncHealthServicer(_HealthAnswers):
    """grpc.health.v1.Health for the asyncio server."""

    async def Check(  # noqa: N802
        self, request: HealthCheckRequest, context: "grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]"
    ) -> HealthCheckResponse:
        """The status now; NOT_FOUND for a service not on the board."""
        response = self._check(request.service)
        if response is _SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return response

    async def List(self, _request: HealthListRequest, _context: object) -> HealthListResponse:  # noqa: N802
        """The status of each service."""
        return self._list()

    async def Watch(  # noqa: N802
        self, request: HealthCheckRequest, _context: object
    ) -> AsyncIterator[HealthCheckResponse]:
        """The status now and after each change; changes in quick succession count as one."""
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        unsubscribe = self._board.subscribe(lambda: _wake(loop, changed))
        last = None
        try:
            while True:
                changed.clear()  # before looking, so that no change is missed
                if self._board.is_closed:
                    return
                response = self._check(request.service)
                if response is not last:
                    last = response
                    yield response
                await changed.wait()
        finally:
            unsubscribe()


def _wake(loop: asyncio.AbstractEventLoop, changed: asyncio.Event) -> None:
    loop.call_soon_threadsafe(changed.set)
