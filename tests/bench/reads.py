"""(l): whether a read takes as long in a long history as in a short one: of a user with many orders and one with few, of an order
with many fills and one with few, on both stores, by the real service and one caller.
"""

import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import grpc

from services.order_history.config import SQLITE
from services.order_history.stores import HistoryStore
from services.order_history.stores.cql import CqlHistoryStore
from services.order_history.stores.sqlite import SqliteHistoryStore
from services.wire.position import encode_position
from tests.bench.cql_bench import CqlBench
from tests.bench.figures import Figure, Round, figure_of, in_turns
from tests.bench.grpc_load import GrpcLoad
from tests.bench.ingest import wait_until_applied
from tests.bench.long_history import LongHistory
from tests.bench.processes import Server, history_server
from tests.bench.read_questions import Question, questions
from tests.bench.sizes import Sizes
from tests.support.eventually import eventually
from tests.support.fake_engine import FakeEngine
from tests.support.ledger_builder import LEDGER_ID

_KEYSPACE = "bench_reads"
_READABLE_SECONDS_MAX = 30.0


class WrongAnswer(Exception):
    """An answer has not the rows that it should have: its time says nothing."""


def reads(sizes: Sizes, folder: Path, cql: CqlBench) -> list[Figure]:
    """Reads in short and in long histories."""
    cql.run_with("periodic")
    data = folder / "reads"
    settings = cql.emptied(_KEYSPACE)
    sqlite = _figures("SQLite", sizes, SqliteHistoryStore(data), data)
    shutil.rmtree(data)
    return [*sqlite, *_figures("CQL", sizes, CqlHistoryStore(settings), data, cql.address(_KEYSPACE))]


def _figures(name: str, sizes: Sizes, store: HistoryStore, data: Path, address: str = SQLITE) -> list[Figure]:
    history = LongHistory(sizes.long_orders, sizes.long_fills)
    with _filled_history(history, store, data, address) as server:
        return [figure for question in questions(history) for figure in _compare(name, question, sizes, server)]


@contextmanager
def _filled_history(history: LongHistory, store: HistoryStore, data: Path, address: str) -> Iterator[Server]:
    """The service on the store with all of ``history``; its engine has the last batch alone."""
    for chunk in history.chunks():
        store.apply(chunk)
    last = history.last_batch()
    store.apply(last.chunk)
    store.close()
    with FakeEngine([last.batch], heartbeat_seconds=1.0) as engine:
        at = Server(engine.address, os.getpid(), {"feeds": {"history": engine.feed}})
        with history_server(data, at, store=address) as server:
            position = encode_position(LEDGER_ID, last.batch.last_sequence)
            eventually(partial(_has_applied, server.address, position), _READABLE_SECONDS_MAX)
            yield server


def _has_applied(address: str, position: str) -> bool:
    """Whether the history may be read up to there; a CQL store's first writes again what might have been lost of it."""
    try:
        wait_until_applied(address, position)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


def _compare(store: str, question: Question, sizes: Sizes, server: Server) -> Iterator[Figure]:
    side = _watches if question.is_watch else _calls
    sides = [partial(side, question, server, place, sizes.reads_per_round) for place in range(2)]
    numbers = random.Random(1)
    few, many = in_turns(sizes.read_rounds, lambda: numbers.randrange(1 << 32), sides)
    baseline = _figure(f"{store}: {question.what}, {question.sizes[0]}", few)
    yield baseline
    ratio = median(median(ours.latencies) / median(bare.latencies) for bare, ours in zip(few, many, strict=True))
    yield replace(_figure(f"{store}: {question.what}, {question.sizes[1]}", many), baseline=baseline.what, ratio=ratio)


def _figure(what: str, rounds: Sequence[Round]) -> Figure:
    figure = figure_of("l", what, "ms", rounds)
    return replace(figure, value=median(median(each.latencies) for each in rounds) * 1e3)


def _calls(question: Question, server: Server, place: int, count: int, seed: int) -> Round:
    requests = _requests(question, place, count, seed)
    with GrpcLoad(server.address, question.method) as load:
        load.call_all(requests[:1], 1)
        used = server.cpu_seconds()
        calls = load.call_all(requests, 1)
        used = server.cpu_seconds() - used
    _check(question, calls.answers)
    return Round(count, calls.seconds, used, calls.latencies)


def _watches(question: Question, server: Server, place: int, count: int, seed: int) -> Round:
    """Each on a connection of its own, which ends it; the time until the first message has come."""
    latencies, answers = [], []
    used = server.cpu_seconds()
    for request in _requests(question, place, count, seed):
        with GrpcLoad(server.address, question.method) as load:
            began = time.perf_counter()
            load.begin_streams(request, 1)
            answers.append(load.read_messages()[0][1])
            latencies.append(time.perf_counter() - began)
    used = server.cpu_seconds() - used
    _check(question, answers)
    return Round(count, sum(latencies), used, latencies)


def _requests(question: Question, place: int, count: int, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    return [question.asks[place](chance).SerializeToString() for _ in range(count)]


def _check(question: Question, answers: Sequence[bytes]) -> None:
    for answer in answers:
        if (rows := question.rows(answer)) != question.expected_rows:
            raise WrongAnswer(f"{question.what}: {rows} rows, not {question.expected_rows}")
