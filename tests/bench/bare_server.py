"""The baselines' server: the same messages, the server kind and the settings that the service has, and nothing behind them.

What it answers was recorded from the services, in files; gRPC takes every request apart and serializes every answer anew.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc

from ordertape.v1 import matching_engine_pb2 as engine
from ordertape.v1 import matching_engine_pb2_grpc, order_history_pb2_grpc
from ordertape.v1 import order_history_pb2 as history
from services.matching_engine.bootstrap import write_ready_file
from services.matching_engine.config import EngineSettings
from services.order_history.config import HistorySettings
from services.serving.aio_server import start_aio_server
from services.serving.health import HealthBoard
from services.serving.process import run_until_signal, run_until_signal_aio
from services.serving.server import start_server
from services.serving.settings import ServerSettings


class EngineEcho(matching_engine_pb2_grpc.MatchingEngineServicer):
    """Gives every PlaceOrder and every SubmitOrders the same answer."""

    def __init__(self, placed: engine.PlaceOrderResponse, submitted: engine.SubmitOrdersResponse) -> None:
        self._placed = placed
        self._submitted = submitted

    def PlaceOrder(  # noqa: N802
        self, request: engine.PlaceOrderRequest, context: grpc.ServicerContext
    ) -> engine.PlaceOrderResponse:
        """Answer at once."""
        return self._placed

    def SubmitOrders(  # noqa: N802
        self, request: engine.SubmitOrdersRequest, context: grpc.ServicerContext
    ) -> engine.SubmitOrdersResponse:
        """Answer at once."""
        return self._submitted


class HistoryEcho(order_history_pb2_grpc.OrderHistoryServicer):
    """Streams the same messages to every watcher, as fast as gRPC takes them."""

    def __init__(self, watched: Sequence[history.WatchOrdersResponse]) -> None:
        self._watched = watched

    async def WatchOrders(  # noqa: N802
        self, request: history.WatchOrdersRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> AsyncIterator[history.WatchOrdersResponse]:
        """Stream all messages and end."""
        for message in self._watched:
            yield message


def serve_engine(placed: Path, submitted: Path, ready_file: Path) -> None:
    """Serve EngineEcho as the engine serves, until a signal."""
    settings = EngineSettings()
    answers = EngineEcho(
        engine.PlaceOrderResponse.FromString(placed.read_bytes()),
        engine.SubmitOrdersResponse.FromString(submitted.read_bytes()),
    )
    server = start_server(
        [(matching_engine_pb2_grpc.add_MatchingEngineServicer_to_server, answers)],
        ServerSettings(
            calls_max=settings.calls_max, call_threads_max=settings.call_threads_max, streams_max=settings.replays_max
        ),
        HealthBoard(),
    )
    write_ready_file(ready_file, {"address": server.address})
    run_until_signal(server)


async def serve_history(watched: Sequence[Path], ready_file: Path) -> None:
    """Serve HistoryEcho as the history serves, until a signal."""
    settings = HistorySettings()
    messages = [history.WatchOrdersResponse.FromString(path.read_bytes()) for path in watched]
    server = await start_aio_server(
        [(order_history_pb2_grpc.add_OrderHistoryServicer_to_server, HistoryEcho(messages))],
        ServerSettings(calls_max=settings.calls_max, streams_max=settings.watches_max),
        HealthBoard(),
    )
    write_ready_file(ready_file, {"address": server.address})
    await run_until_signal_aio(server)


def main() -> int:
    """Serve one of the two."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bare_server", description=__doc__)
    parser.add_argument("kind", choices=("engine", "history"))
    parser.add_argument("folder", type=Path, help="where the recorded answers are")
    parser.add_argument("--ready-file", type=Path, required=True)
    given = parser.parse_args()
    if given.kind == "engine":
        serve_engine(given.folder / "placed", given.folder / "submitted", given.ready_file)
    else:
        asyncio.run(serve_history(sorted(given.folder.glob("watched.*")), given.ready_file))
    return 0


if __name__ == "__main__":
    sys.exit(main())
