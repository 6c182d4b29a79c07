"""The baselines' server: the same messages, the server kind and the settings that the service has, and nothing behind them.

What it answers was recorded from the services, in files. gRPC takes every request apart and serializes every answer anew.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from ordertape.v1 import matching_engine_pb2 as engine
from ordertape.v1 import order_history_pb2 as history
from ordertape.v1 import order_pb2
from services.matching_engine.bootstrap import write_ready_file
from services.matching_engine.config import EngineSettings
from services.order_history.config import HistorySettings
from services.serving.aio_server import start_aio_server
from services.serving.health import HealthBoard
from services.serving.process import run_until_signal, run_until_signal_aio
from services.serving.registration import Registration
from services.serving.server import start_server
from services.serving.settings import ServerSettings

PlaceAnswer = Callable[[engine.PlaceOrderRequest, object], engine.PlaceOrderResponse]
SubmitAnswer = Callable[[engine.SubmitOrdersRequest, object], engine.SubmitOrdersResponse]
Items = RepeatedCompositeFieldContainer[engine.SubmitOrdersItem]
Results = RepeatedCompositeFieldContainer[engine.SubmitOrdersResult]
SessionAnswers = Callable[[Iterator[engine.OrderSessionRequest], object], Iterator[engine.OrderSessionResponse]]


def ready_answers(folder: Path) -> Registration:
    """Every order gets an answer that is ready: what gRPC and protobuf alone can do."""
    placed, submitted = _recorded_answers(folder)
    return _engine(lambda _request, _context: placed, lambda _request, _context: submitted)


def echo(folder: Path) -> Registration:
    """Every order gets an answer that is filled in field by field, as any server has to that has something of its own to
    say; the values are ready.
    """
    placed, _ = _recorded_answers(folder)
    fill, position = _filler(placed.updates[0]), placed.position

    def place(_request: engine.PlaceOrderRequest, _context: object) -> engine.PlaceOrderResponse:
        response = engine.PlaceOrderResponse()
        fill(response.updates.add())
        response.position = position
        return response

    def fill_results(items: Items, results: Results) -> None:
        for _ in items:
            result = results.add()
            fill(result.updates.add())
            result.position = position

    def submit(request: engine.SubmitOrdersRequest, _context: object) -> engine.SubmitOrdersResponse:
        response = engine.SubmitOrdersResponse()
        fill_results(request.items, response.results)
        response.position = position
        return response

    def session(requests: Iterator[engine.OrderSessionRequest], _context: object) -> Iterator[engine.OrderSessionResponse]:
        for request in requests:
            response = engine.OrderSessionResponse(correlation_id=request.correlation_id)
            fill_results(request.items, response.results)
            response.position = position
            yield response

    return _engine(place, submit, session)


def ready_messages(folder: Path) -> Registration:
    """Every watcher gets the same messages, which are ready, as fast as gRPC takes them."""
    paths = sorted(folder.glob("watched.*"))
    messages = [history.WatchOrdersResponse.FromString(path.read_bytes()) for path in paths]

    async def watch(_request: history.WatchOrdersRequest, _context: object) -> AsyncIterator[history.WatchOrdersResponse]:
        for message in messages:
            yield message
        await asyncio.Event().wait()  # like a watch, it goes on until its caller leaves

    handler = grpc.unary_stream_rpc_method_handler(
        watch, history.WatchOrdersRequest.FromString, history.WatchOrdersResponse.SerializeToString
    )
    return _service("ordertape.v1.OrderHistory", {"WatchOrders": handler})


def _recorded_answers(folder: Path) -> tuple[engine.PlaceOrderResponse, engine.SubmitOrdersResponse]:
    placed = engine.PlaceOrderResponse.FromString((folder / "placed").read_bytes())
    return placed, engine.SubmitOrdersResponse.FromString((folder / "submitted").read_bytes())


def _filler(recorded: order_pb2.OrderUpdate) -> Callable[[order_pb2.OrderUpdate], None]:
    fields = recorded.ListFields()
    values = [(field.name, value) for field, value in fields if field.message_type is None]
    times = [(field.name, value.seconds, value.nanos) for field, value in fields if field.message_type is not None]

    def fill(update: order_pb2.OrderUpdate) -> None:
        for name, value in values:
            setattr(update, name, value)
        for name, seconds, nanos in times:
            time = getattr(update, name)
            time.seconds = seconds
            time.nanos = nanos

    return fill


def _engine(place: PlaceAnswer, submit: SubmitAnswer, session: SessionAnswers | None = None) -> Registration:
    handlers: dict[str, Any] = {
        "PlaceOrder": grpc.unary_unary_rpc_method_handler(
            place, engine.PlaceOrderRequest.FromString, engine.PlaceOrderResponse.SerializeToString
        ),
        "SubmitOrders": grpc.unary_unary_rpc_method_handler(
            submit, engine.SubmitOrdersRequest.FromString, engine.SubmitOrdersResponse.SerializeToString
        ),
    }
    if session is not None:
        handlers["OrderSession"] = grpc.stream_stream_rpc_method_handler(
            session, engine.OrderSessionRequest.FromString, engine.OrderSessionResponse.SerializeToString
        )
    return _service("ordertape.v1.MatchingEngine", handlers)


def _service(name: str, handlers: Mapping[str, Any]) -> Registration:
    return (lambda methods, server: server.add_registered_method_handlers(name, methods), handlers)


def _serve_as_engine(registration: Registration, ready_file: Path) -> None:
    settings = EngineSettings()
    server = start_server(
        [registration],
        ServerSettings(
            calls_max=settings.calls_max,
            call_threads_max=settings.call_threads_max,
            streams_max=settings.replays_max,
            sessions_max=settings.sessions_max,
        ),
        HealthBoard(),
    )
    write_ready_file(ready_file, {"address": server.address})
    run_until_signal(server)


async def _serve_as_history(registration: Registration, ready_file: Path) -> None:
    settings = HistorySettings()
    server = await start_aio_server(
        [registration], ServerSettings(calls_max=settings.calls_max, streams_max=settings.watches_max), HealthBoard()
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
        asyncio.run(_serve_as_history(ready_messages(given.folder), given.ready_file))
    else:
        registration = echo(given.folder) if given.kind == "echo" else ready_answers(given.folder)
        _serve_as_engine(registration, given.ready_file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
