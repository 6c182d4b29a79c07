"""The whole history service in this process, on a free port, in a thread with an event loop of its own."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_history_pb2_grpc
from services.order_history.bootstrap import History, start_history
from services.order_history.config import HistorySettings
from services.order_history.stores import HistoryStore
from tests.support.eventually import eventually
from tests.support.fake_engine import Consumer, FakeEngine


class RunningHistory:
    """Follows ``engine`` into ``folder``, or into ``store``; leaving the context stops it in order. ``settings`` overrides single
    settings.
    """

    def __init__(
        self, engine: FakeEngine | Consumer, folder: Path, *, store: HistoryStore | str | None = None, **settings: Any
    ) -> None:
        # What a store that is handed over really is does not concern the settings.
        address = {} if store is None else {"store": store if isinstance(store, str) else "scylla://handed.over/store"}
        self._settings = HistorySettings(
            data_dir=folder,
            engine_address=engine.address,
            engine_feed=engine.feed,
            **{
                "listen": "127.0.0.1:0",
                "silence_seconds": 0.5,
                "watch_heartbeat_seconds": 0.2,
                "lag_seconds_max": 2.0,
                "drain_grace_seconds": 5.0,
                **address,
                **settings,
            },
        )
        self._store = None if isinstance(store, str) else store
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="history")

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure
        self.channel = grpc.insecure_channel(self.history.server.address)
        self.stub = order_history_pb2_grpc.OrderHistoryStub(self.channel)
        return self

    def __exit__(self, *unused: object) -> None:
        self.channel.close()
        self.loop.call_soon_threadsafe(self._leave.set)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def status(self) -> pb.GetHistoryStatusResponse:
        """GetHistoryStatus' answer."""
        return self.stub.GetHistoryStatus(pb.GetHistoryStatusRequest(), timeout=5)

    def is_serving(self) -> bool:
        """What the health service says."""
        health = health_pb2_grpc.HealthStub(self.channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service="ordertape.v1.OrderHistory"), timeout=5)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def wait_until_applied(self, sequence: int, timeout_seconds: float = 30.0) -> None:
        """Return when the history has applied ``sequence``."""
        eventually(lambda: self.history.view.applied_sequence >= sequence, timeout_seconds)

    def wait_until_halted(self) -> str:
        """Return when the history has halted: why."""
        return eventually(lambda: self.status().halt_reason)

    def in_loop(self, action: Callable[[], object]) -> None:
        """Run ``action`` in the event loop's thread."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (action(), done.set()))
        assert done.wait(5)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:
            self._failure = failure
            self._started.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._leave = asyncio.Event()
        self.history: History = await start_history(self._settings, self._store)
        self._started.set()
        await self._leave.wait()
        await self.history.stop()
