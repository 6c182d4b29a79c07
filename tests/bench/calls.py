"""(a), (b), (c): orders through gRPC to the disk and back, against a server of the same kind that only answers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ordertape.v1 import matching_engine_pb2 as engine
from ordertape.v1 import order_pb2
from tests.bench.figures import Figure, Round, compared, figure_of, in_turns
from tests.bench.grpc_load import GrpcLoad
from tests.bench.orders import resting
from tests.bench.processes import PLACE_ORDER, SUBMIT_ORDERS, Server, bare_server, deposit_money, engine_server
from tests.bench.sizes import Sizes

CALLERS = 16
BATCH_CALLERS = 4
BATCH_ITEMS = 100


class WrongAnswer(Exception):
    """The engine did not do what was to be measured."""


class _Workload(NamedTuple):
    """What is sent, and what must come back."""

    part: str
    items: str
    measured: str
    method: str
    callers: int
    items_per_call: int
    calls: Callable[[], list[bytes]]
    check: Callable[[bytes], None]


def place_order(sizes: Sizes, folder: Path) -> list[Figure]:
    """One order a call, durable."""
    calls = partial(_places, sizes.orders_per_round)
    work = _Workload("b", "one order a call", "PlaceOrder", PLACE_ORDER, CALLERS, 1, calls, _check_placed)
    return _compare(work, sizes.rounds, folder / "place-order")


def submit_orders(sizes: Sizes, folder: Path) -> list[Figure]:
    """100 orders a call, durable."""
    calls = partial(submits, sizes.batches_per_round)
    what = f"{BATCH_ITEMS} orders a call"
    work = _Workload("c", what, "SubmitOrders", SUBMIT_ORDERS, BATCH_CALLERS, BATCH_ITEMS, calls, check_submitted)
    return _compare(work, sizes.rounds, folder / "submit-orders")


def _compare(work: _Workload, rounds: int, folder: Path) -> list[Figure]:
    with servers_alike(folder) as servers, ExitStack() as connections:
        loads = [connections.enter_context(GrpcLoad(server.address, work.method)) for server in servers]
        sides = [partial(_round, work, server, load) for server, load in zip(servers, loads, strict=True)]
        ready, echo, ours = in_turns(rounds, work.calls, sides)
    shape = f"{work.items}, {work.callers} callers"
    ready_figure = figure_of("a", f"ready answer, {shape}", "orders/s", ready)
    echo_figure = figure_of("a", f"echo, {shape}", "orders/s", echo)
    figure = figure_of(work.part, f"{work.measured}, durable, {shape}", "orders/s", ours)
    return [
        ready_figure,
        compared(echo_figure, echo, ready_figure, ready),
        compared(figure, ours, echo_figure, echo),
    ]


def _round(work: _Workload, server: Server, connection: GrpcLoad, requests: list[bytes]) -> Round:
    before = server.cpu_seconds()
    calls = connection.call_all(requests, work.callers)
    used = server.cpu_seconds() - before
    for answer in calls.answers:
        work.check(answer)
    return Round(len(requests) * work.items_per_call, calls.seconds, used, calls.latencies)


@contextmanager
def servers_alike(folder: Path) -> Iterator[tuple[Server, Server, Server]]:
    """Two bare servers with answers that the engine gave, and the engine."""
    recorded = folder / "recorded"
    with engine_server(folder / "engine") as server:
        deposit_money(server)
        recorded.mkdir()
        for name, method, requests in (("placed", PLACE_ORDER, _places(1)), ("submitted", SUBMIT_ORDERS, submits(1))):
            with GrpcLoad(server.address, method) as load:
                (recorded / name).write_bytes(load.call_all(requests, 1).answers[0])
        with bare_server("ready-answers", recorded) as ready, bare_server("echo", recorded) as echo:
            yield ready, echo, server


def _places(count: int) -> list[bytes]:
    return [place.SerializeToString() for place in islice(resting(), count)]


def submits(count: int) -> list[bytes]:
    """So many requests of SubmitOrders."""
    return [engine.SubmitOrdersRequest(items=batch_of_items()).SerializeToString() for _ in range(count)]


def batch_of_items() -> list[engine.SubmitOrdersItem]:
    """So many orders that rest as one message has."""
    return [engine.SubmitOrdersItem(place=place) for place in islice(resting(), BATCH_ITEMS)]


def _check_placed(answer: bytes) -> None:
    _require_new(engine.PlaceOrderResponse.FromString(answer))


def check_submitted(answer: bytes) -> None:
    """Raise WrongAnswer unless every item of SubmitOrders' answer is a new order that rests."""
    check_results(engine.SubmitOrdersResponse.FromString(answer).results)


def check_results(results: Sequence[engine.SubmitOrdersResult]) -> None:
    """Raise WrongAnswer unless every item of a message is a new order that rests."""
    if len(results) != BATCH_ITEMS:
        raise WrongAnswer(f"{len(results)} results for {BATCH_ITEMS} items")
    for result in results:
        _require_new(result)


def _require_new(answer: engine.PlaceOrderResponse | engine.SubmitOrdersResult) -> None:
    if answer.replayed or [update.status for update in answer.updates] != [order_pb2.ORDER_STATUS_NEW]:
        raise WrongAnswer(f"an order that should rest as a new one did not: {answer}")
