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
from ordertape.v1 import matching_engine_pb2_grpc, order_history_pb2_grpc, order_pb2
from ordertape.v1 import order_history_pb2 as history
from services.matching_engine.bootstrap import write_ready_file
from services.matching_engine.config import EngineSettings
from services.order_history.config import HistorySettings
from services.serving.aio_server import start_aio_server
from services.serving.health import HealthBoard
from services.serving.process import run_until_signal, run_until_signal_aio
from services.serving.server import start_server
from services.serving.settings import ServerSettings


class ReadyAnswers(matching_engine_pb2_grpc.MatchingEngineServicer):
    """Gives every PlaceOrder and every SubmitOrders an answer that is ready: what gRPC and protobuf alone can do."""

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


class Echo(matching_engine_pb2_grpc.MatchingEngineServicer):
    """Fills in an answer for every order, field by field, as any server has to that has something of its own to say; the
    values are ready.
    """

    def __init__(self, update: order_pb2.OrderUpdate, position: str) -> None:
        fields = update.ListFields()
        self._position = position
        self._values = [(field.name, value) for field, value in fields if field.message_type is None]
        self._times = [(field.name, value.seconds, value.nanos) for field, value in fields if field.message_type is not None]

    def PlaceOrder(  # noqa: N802
        self, request: engine.PlaceOrderRequest, context: grpc.ServicerContext
    ) -> engine.PlaceOrderResponse:
        """Answer with one update."""
        response = engine.PlaceOrderResponse()
        self._fill(response)
        return response

    def SubmitOrders(  # noqa: N802
        self, request: engine.SubmitOrdersRequest, context: grpc.ServicerContext
    ) -> engine.SubmitOrdersResponse:
        """Answer with one update for each item."""
        response = engine.SubmitOrdersResponse()
        for _ in request.items:
            self._fill(response.results.add())
        response.position = self._position
        return response

    def _fill(self, answer: engine.PlaceOrderResponse | engine.SubmitOrdersResult) -> None:
        update = answer.updates.add()
        for name, value in self._values:
            setattr(update, name, value)
        for name, seconds, nanos in self._times:
            time = getattr(update, name)
            time.seconds = seconds
            time.nanos = nanos
        answer.position = self._position


class ReadyMessages(order_history_pb2_grpc.OrderHistoryServicer):
    """Streams the same messages to every watcher, as fast as gRPC takes them."""

    def __init__(self, watched: Sequence[history.WatchOrdersResponse]) -> None:
        self._watched = watched

    async def WatchOrders(  # noqa: N802
        self, request: history.WatchOrdersRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> AsyncIterator[history.WatchOrdersResponse]:
        """Stream all messages and end."""
        for message in self._watched:
            yield message


def serve_engine(servicer: matching_engine_pb2_grpc.MatchingEngineServicer, ready_file: Path) -> None:
    """Serve as the engine serves, until a signal."""
    settings = EngineSettings()
    server = start_server(
        [(matching_engine_pb2_grpc.add_MatchingEngineServicer_to_server, servicer)],
        ServerSettings(
            calls_max=settings.calls_max, call_threads_max=settings.call_threads_max, streams_max=settings.replays_max
        ),
        HealthBoard(),
    )
    write_ready_file(ready_file, {"address": server.address})
    run_until_signal(server)


async def serve_history(servicer: order_history_pb2_grpc.OrderHistoryServicer, ready_file: Path) -> None:
    """Serve as the history serves, until a signal."""
    settings = HistorySettings()
    server = await start_aio_server(
        [(order_history_pb2_grpc.add_OrderHistoryServicer_to_server, servicer)],
        ServerSettings(calls_max=settings.calls_max, streams_max=settings.watches_max),
        HealthBoard(),
    )
    write_ready_file(ready_file, {"address": server.address})
    await run_until_signal_aio(server)


def main() -> int:
    """Serve one of the baselines."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bare_server", description=__doc__)
    parser.add_argument("kind", choices=("ready-answers", "echo", "ready-messages"))
    parser.add_argument("folder", type=Path, help="where the recorded answers are")
    parser.add_argument("--ready-file", type=Path, required=True)
    given = parser.parse_args()
    if given.kind == "ready-messages":
        paths = sorted(given.folder.glob("watched.*"))
        watched = [history.WatchOrdersResponse.FromString(path.read_bytes()) for path in paths]
        asyncio.run(serve_history(ReadyMessages(watched), given.ready_file))
        return 0
    placed = engine.PlaceOrderResponse.FromString((given.folder / "placed").read_bytes())
    submitted = engine.SubmitOrdersResponse.FromString((given.folder / "submitted").read_bytes())
    echo = Echo(placed.updates[0], placed.position) if given.kind == "echo" else ReadyAnswers(placed, submitted)
    serve_engine(echo, given.ready_file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
