"""(j): orders through an OrderSession to the disk and back, against a bare session that only answers; SubmitOrders beside it."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

from ordertape.v1 import matching_engine_pb2 as engine
from tests.bench.calls import BATCH_ITEMS, WrongAnswer, batch_of_items, check_results, check_submitted, servers_alike, submits
from tests.bench.figures import Figure, Round, compared, figure_of, in_turns
from tests.bench.grpc_load import Calls, GrpcLoad
from tests.bench.processes import ORDER_SESSION, SUBMIT_ORDERS, Server
from tests.bench.sizes import Sizes

IN_FLIGHT = 4
_UNIT = "orders/s"


class _Prepared(NamedTuple):
    """One turn's messages. The calls name orders of their own: to the same engine the same ones would be replays."""

    messages: list[bytes]
    requests: list[bytes]


def order_session(sizes: Sizes, folder: Path) -> list[Figure]:
    """100 orders a message of one session, durable."""
    with servers_alike(folder / "order-session") as (_, bare, server), ExitStack() as connections:
        to_bare = connections.enter_context(GrpcLoad(bare.address, ORDER_SESSION))
        to_engine = connections.enter_context(GrpcLoad(server.address, ORDER_SESSION))
        calls = connections.enter_context(GrpcLoad(server.address, SUBMIT_ORDERS))
        sides = [partial(_session, bare, to_bare), partial(_session, server, to_engine), partial(_submit, server, calls)]
        echo, session, submit = in_turns(sizes.rounds, partial(_prepare, sizes.batches_per_round), sides)
    shape = f"{BATCH_ITEMS} orders a message, {IN_FLIGHT} in flight"
    echo_figure = figure_of("j", f"echo session, {shape}", _UNIT, echo)
    session_figure = figure_of("j", f"OrderSession, durable, {shape}", _UNIT, session)
    submit_figure = figure_of("j", f"SubmitOrders, durable, {BATCH_ITEMS} orders a call, {IN_FLIGHT} in flight", _UNIT, submit)
    return [
        echo_figure,
        compared(session_figure, session, echo_figure, echo),
        compared(submit_figure, submit, echo_figure, echo),
    ]


def _prepare(batches: int) -> _Prepared:
    messages = [
        engine.OrderSessionRequest(correlation_id=number, items=batch_of_items()).SerializeToString()
        for number in range(1, batches + 1)
    ]
    return _Prepared(messages, submits(batches))


def _session(server: Server, connection: GrpcLoad, given: _Prepared) -> Round:
    used = server.cpu_seconds()
    exchanged = connection.exchange_all(given.messages, IN_FLIGHT)
    done = _round(exchanged, server.cpu_seconds() - used)
    _check_session(exchanged.answers)
    return done


def _submit(server: Server, connection: GrpcLoad, given: _Prepared) -> Round:
    used = server.cpu_seconds()
    calls = connection.call_all(given.requests, IN_FLIGHT)
    done = _round(calls, server.cpu_seconds() - used)
    for answer in calls.answers:
        check_submitted(answer)
    return done


def _round(calls: Calls, cpu_seconds: float) -> Round:
    return Round(len(calls.answers) * BATCH_ITEMS, calls.seconds, cpu_seconds, calls.latencies)


def _check_session(answers: Sequence[bytes]) -> None:
    for number, answer in zip(count(1), answers, strict=False):
        response = engine.OrderSessionResponse.FromString(answer)
        if response.correlation_id != number:
            raise WrongAnswer(f"the answer to message {response.correlation_id} came as number {number}")
        check_results(response.results)
