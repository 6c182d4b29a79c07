"""(a), (b), (c): orders through gRPC to the disk and back, against a server of the same kind that only answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ordertape.v1 import matching_engine_pb2 as engine
from ordertape.v1 import order_pb2
from tests.bench.figures import Figure, Round, compared, figure_of, paired
from tests.bench.grpc_load import GrpcLoad
from tests.bench.orders import resting
from tests.bench.services import PLACE_ORDER, SUBMIT_ORDERS, Server, bare_server, deposit_money, engine_server
from tests.bench.sizes import Sizes

CALLERS = 16
BATCH_CALLERS = 4
BATCH_ITEMS = 100


class WrongAnswer(Exception):
    """The engine did not do what was to be measured."""


class _Servers(NamedTuple):
    bare: Server
    engine: Server


def place_order(sizes: Sizes, folder: Path) -> list[Figure]:
    """One order a call."""
    with _servers(folder / "place-order") as servers:
        return _compare(
            sizes.rounds,
            servers,
            PLACE_ORDER,
            CALLERS,
            lambda: _places(sizes.orders_per_round),
            check=_check_placed,
            items_per_call=1,
            names=("echo of one order a call", "PlaceOrder, durable"),
            part="b",
        )


def submit_orders(sizes: Sizes, folder: Path) -> list[Figure]:
    """100 orders a call."""
    with _servers(folder / "submit-orders") as servers:
        return _compare(
            sizes.rounds,
            servers,
            SUBMIT_ORDERS,
            BATCH_CALLERS,
            lambda: _submits(sizes.batches_per_round),
            check=_check_submitted,
            items_per_call=BATCH_ITEMS,
            names=("echo of 100 orders a call", "SubmitOrders of 100, durable"),
            part="c",
        )


def _compare(
    rounds: int,
    servers: _Servers,
    method: str,
    callers: int,
    prepare: Callable[[], list[bytes]],
    *,
    check: Callable[[bytes], None],
    items_per_call: int,
    names: tuple[str, str],
    part: str,
) -> list[Figure]:
    with GrpcLoad(servers.bare.address, method) as bare_load, GrpcLoad(servers.engine.address, method) as load:

        def run(server: Server, connection: GrpcLoad, requests: list[bytes]) -> tuple[Round, list[bytes]]:
            before = server.cpu_seconds()
            calls = connection.call_all(requests, callers)
            used = server.cpu_seconds() - before
            return Round(len(requests) * items_per_call, calls.seconds, used, calls.latencies), calls.answers

        def measured(requests: list[bytes]) -> Round:
            done, answers = run(servers.engine, load, requests)
            for answer in answers:
                check(answer)
            return done

        pairs = paired(rounds, prepare, lambda requests: run(servers.bare, bare_load, requests)[0], measured)
    unit = "orders/s"
    baseline = figure_of("a", f"{names[0]}, {callers} callers", unit, [bare for bare, _ in pairs])
    ours = figure_of(part, f"{names[1]}, {callers} callers", unit, [each for _, each in pairs])
    return [baseline, compared(ours, baseline, pairs)]


@contextmanager
def _servers(folder: Path) -> Iterator[_Servers]:
    """The engine, and a bare server that gives answers which the engine gave."""
    with engine_server(folder / "engine") as server:
        deposit_money(server)
        recorded = folder / "bare"
        recorded.mkdir()
        for name, method, requests in (("placed", PLACE_ORDER, _places(1)), ("submitted", SUBMIT_ORDERS, _submits(1))):
            with GrpcLoad(server.address, method) as load:
                (recorded / name).write_bytes(load.call_all(requests, 1).answers[0])
        with bare_server("engine", recorded) as bare:
            yield _Servers(bare, server)


def _places(count: int) -> list[bytes]:
    return [place.SerializeToString() for place in islice(resting(), count)]


def _submits(count: int) -> list[bytes]:
    places = resting()
    return [
        engine.SubmitOrdersRequest(
            items=[engine.SubmitOrdersItem(place=place) for place in islice(places, BATCH_ITEMS)]
        ).SerializeToString()
        for _ in range(count)
    ]


def _check_placed(answer: bytes) -> None:
    _require_new(engine.PlaceOrderResponse.FromString(answer))


def _check_submitted(answer: bytes) -> None:
    response = engine.SubmitOrdersResponse.FromString(answer)
    if len(response.results) != BATCH_ITEMS:
        raise WrongAnswer(f"{len(response.results)} results for {BATCH_ITEMS} items")
    for result in response.results:
        _require_new(result)


def _require_new(answer: engine.PlaceOrderResponse | engine.SubmitOrdersResult) -> None:
    if [update.status for update in answer.updates] != [order_pb2.ORDER_STATUS_NEW]:
        raise WrongAnswer(f"an order that should rest did not: {answer}")
