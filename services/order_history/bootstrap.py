"""Puts the history service together, and takes it apart in order: the only place that knows all of its parts."""

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from ordertape.v1.order_history_pb2_grpc import add_OrderHistoryServicer_to_server
from services.order_history.command_printer import CommandPrinter
from services.order_history.config import HistorySettings
from services.order_history.engine_client import AsyncEngineClient, EngineClient
from services.order_history.export import Exports
from services.order_history.feed_socket import FeedSocket
from services.order_history.forwarding import Forwarding
from services.order_history.grpc_api import OrderHistoryApi
from services.order_history.ingest import Ingest, LoopHandover
from services.order_history.order_processor import OrderProcessor
from services.order_history.queries import Queries
from services.order_history.receiver import Receiver
from services.order_history.stores import HistoryStore
from services.order_history.stores.opening import open_store
from services.order_history.view import HistoryView
from services.order_history.watch import WatchHub
from services.serving.aio_server import AioServer, start_aio_server
from services.serving.failures import draining
from services.serving.health import OVERALL, HealthBoard
from services.serving.process import exit_when_a_thread_dies, run_until_signal_aio, settle_memory
from services.serving.settings import ServerSettings

_HEALTH_SECONDS = 0.1

log = structlog.stdlib.get_logger(__name__)


class History:
    """The running service; made by ``start_history``. ``server.address`` is where it serves."""

    def __init__(
        self,
        server: AioServer,
        view: HistoryView,
        watches: WatchHub,
        exports: Exports,
        forwarding: Forwarding,
        ingest: "IngestThread",
        close: list[Callable[[], object]],
    ) -> None:
        self.server = server
        self.view = view
        self.watches = watches
        self.exports = exports
        self.forwarding = forwarding
        self._health = asyncio.create_task(_keep_health(view, server.health), name="health")
        self.stop_steps: list[Callable[[], object]] = [ingest.stop, self._stop_health, *close]
        """What ends the service behind the server once that is drained, in order; some are coroutine functions."""

    async def _stop_health(self) -> None:
        self._health.cancel()
        with suppress(asyncio.CancelledError):
            await self._health

    async def stop(self) -> None:
        """Drain the server and end all behind it, as a signal does for the process."""
        await self.server.drain()
        for step in self.stop_steps:
            outcome = step()
            if asyncio.iscoroutine(outcome):
                await outcome


class IngestThread:
    """The ingest in a thread of its own, with the client that it asks the engine by."""

    def __init__(self, ingest: Ingest, engine: EngineClient) -> None:
        self._ingest = ingest
        self._engine = engine
        self._thread = threading.Thread(target=ingest.run, name="ingest")
        self._thread.start()

    async def stop(self) -> None:
        """Let it finish the chunk that it is storing, and wait for that."""
        self._ingest.stop()
        self._engine.close()
        await asyncio.to_thread(self._thread.join)


async def start_history(settings: HistorySettings, store: HistoryStore | None = None) -> History:
    """Start everything: the server listens, the ingest follows the engine. ``store`` None: the settings' one.

    Raises StoreRefused, StoreUnavailable, StoreDamaged where the store cannot be opened, AddressError where the address cannot be
    listened on.
    """
    store = store or open_store(settings)
    engine = AsyncEngineClient(settings.engine_address)
    forwarding = Forwarding(settings.share, settings.peers, settings.listen, stall_seconds=settings.watch_stall_seconds)
    try:
        view = HistoryView(
            store.checkpoint(),
            store.active_orders.read_all() if (begun := store.due_rewrite() is None) else None,
            engine,
            store_kind=store.kind,
            wait_seconds_max=settings.wait_seconds_max,
            lag_seconds_max=settings.lag_seconds_max,
            users=settings.share,
        )
        watches = WatchHub(
            view,
            store.order_history,
            queue_updates_max=settings.watch_queue_updates_max,
            stall_seconds=settings.watch_stall_seconds,
            heartbeat_seconds=settings.watch_heartbeat_seconds,
        )
        view.follow(watches)
        exports = Exports(
            view,
            store.order_history,
            stall_seconds=settings.watch_stall_seconds,
            heartbeat_seconds=settings.watch_heartbeat_seconds,
        )
        view.follow(exports)
        server = await _start_server(settings, view, watches, exports, store, forwarding)
    except BaseException:
        await forwarding.close()
        await engine.close()
        store.close()
        raise
    log.info(
        "history started",
        address=server.address,
        data_dir=str(settings.data_dir.resolve()),
        store=store.kind,
        users=str(settings.share),
        engine_address=settings.engine_address,
        engine_feed=settings.engine_feed,
        applied_sequence=view.applied_sequence,
    )
    close: list[Callable[[], object]] = [forwarding.close, engine.close, store.close]
    return History(server, view, watches, exports, forwarding, _start_ingest(settings, view, store, begun), close)


async def _start_server(
    settings: HistorySettings,
    view: HistoryView,
    watches: WatchHub,
    exports: Exports,
    store: HistoryStore,
    forwarding: Forwarding,
) -> AioServer:
    queries = Queries(view, store.order_history, clock=lambda: time.time_ns() // 1000)
    return await start_aio_server(
        [(forwarding.around(add_OrderHistoryServicer_to_server), OrderHistoryApi(view, queries, watches, exports))],
        ServerSettings(
            host=settings.listen_host,
            port=settings.listen_port,
            calls_max=settings.calls_max,
            streams_max=settings.watches_max,
            grace_seconds=settings.drain_grace_seconds,
            channelz=settings.channelz,
        ),
        HealthBoard(),
        on_drain=[partial(streams.end_all, draining()) for streams in (watches, exports, forwarding)],
    )


def _start_ingest(settings: HistorySettings, view: HistoryView, store: HistoryStore, begun: bool) -> IngestThread:
    checkpoint = store.checkpoint()
    receiver = Receiver(
        checkpoint.ledger_id,
        checkpoint.sequence,
        checkpoint.hash,
        gap_patience_seconds=settings.gap_patience_seconds,
        silence_seconds=settings.silence_seconds,
    )
    engine = EngineClient(settings.engine_address, settings.engine_timeout_seconds, settings.replay_timeout_seconds)
    ingest = Ingest(
        receiver,
        OrderProcessor(settings.share),
        store,
        engine,
        lambda: FeedSocket(settings.engine_feed, settings.feed_frames_max),
        LoopHandover(asyncio.get_running_loop(), view),
        chunk_commands_max=settings.chunk_commands_max,
        begun=begun,
        stored=CommandPrinter(sys.stdout) if settings.print_commands else None,
    )
    return IngestThread(ingest, engine)


async def serve(settings: HistorySettings) -> None:
    """Run the service in the main thread until SIGTERM or SIGINT. Raises as ``start_history``."""
    if settings.ready_file is not None:
        settings.ready_file.unlink(missing_ok=True)
    history = await start_history(settings)
    exit_when_a_thread_dies(history.server.health)
    settle_memory()

    def tell_ready() -> None:
        if settings.ready_file is not None:
            _write_ready_file(settings.ready_file, history.server.address)

    await run_until_signal_aio(history.server, history.stop_steps, ready=tell_ready)


def _write_ready_file(path: Path, address: str) -> None:
    """Whole or not at all: whoever waits for the file reads it the moment that it is there."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(json.dumps({"address": address, "pid": os.getpid()}) + "\n")
    part.replace(path)


async def _keep_health(view: HistoryView, health: HealthBoard) -> None:
    """Lag grows with time alone, so the board is set by the clock."""
    was_serving = False
    while True:
        trouble = view.trouble()
        if (serving := not trouble) is not was_serving:
            was_serving = serving
            health.set_serving(OVERALL, serving)
            log.info("serving") if serving else log.warning("not serving", reason=trouble)
        await asyncio.sleep(_HEALTH_SECONDS)
