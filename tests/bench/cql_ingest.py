"""(k): a whole ledger into a CQL store, against the driver alone writing the very same rows, in the same batches, to the same
server.

The driver's side is given its statements ready, has them all in one stream and never waits for one of them by itself; the store
makes them, and has a chunk's rows acknowledged before its checkpoint moves and the next chunk begins.
"""

import gc
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Final, NamedTuple

from cassandra.query import BatchStatement, Statement

from services.order_history.order_processor import Chunk
from services.order_history.stores.cql import CqlHistoryStore
from services.order_history.stores.cql_rows import SIZES, groups_of
from services.order_history.stores.cql_session import CqlSession
from services.order_history.stores.cql_settings import CqlSettings
from services.order_history.stores.cql_writes import CqlWrites
from services.serving.process import settle_memory
from tests.bench.cql_bench import CqlBench
from tests.bench.figures import Figure, Round, Timer, compared, figure_of, in_turns
from tests.bench.filled import filled_engine
from tests.bench.followers import Followed, follow, followed_ledger
from tests.bench.orders import USERS
from tests.bench.sizes import Sizes
from tests.support.cql_session import cql_session

_FLOWS: Final = {"many users": USERS, "few users": USERS[:4]}
"""Where a chunk has few rows of each user, batches are small; where it has many, they are of 50."""
_BARE, _OURS = "bench_bare", "bench_ours"
_UNIT: Final = "updates/s"
_CHECKPOINT: Final = (
    "INSERT INTO checkpoints (consumer, ledger_id, epoch, sequence, safe_sequence, hash, first_shard, last_shard) "
    "VALUES ('0-255', ?, ?, ?, ?, ?, 0, 255) USING TIMESTAMP ?"
)


class WriteFailed(Exception):
    """A bare write was not acknowledged: nothing was measured."""


class _Counts(NamedTuple):
    updates: int
    rows: int
    requests: int


def cql_ingest(sizes: Sizes, folder: Path, cql: CqlBench) -> list[Figure]:
    """A history that catches up, into a CQL store."""
    figures = []
    for sync in sizes.cql_syncs:
        cql.run_with(sync)
        for flow, users in _FLOWS.items():
            with filled_engine(folder, sizes.cql_orders, users) as server:
                followed = followed_ledger(server)
            figures += _compare(f"{flow}, {sync} sync", sizes.cql_rounds, folder, cql, followed)
    return figures


def store_all(cql: CqlBench, chunks: Sequence[Chunk]) -> Round:
    """Apply the chunks to an empty store."""
    store = CqlHistoryStore(cql.emptied(_OURS))
    timer = Timer()
    for chunk in chunks:
        store.apply(chunk)
    done = timer.round(_updates(chunks))
    store.close()
    return done


def _compare(shape: str, rounds: int, folder: Path, cql: CqlBench, followed: Followed) -> list[Figure]:
    chunks = followed.chunks
    statements = _statements(cql.emptied(_BARE), chunks)
    counts = _counts(chunks, statements)
    thresholds = gc.get_threshold()
    settle_memory()  # as the service does: the collector costs the store as much as all else does where it may
    sides = [
        partial(_bare_round, cql, statements, counts.updates),
        lambda _folder: store_all(cql, chunks),
        partial(follow, cql, _OURS, followed, 1),
    ]
    numbers = count(1)
    bare, stored, process = in_turns(rounds, lambda: folder / f"cql-ingest-{next(numbers)}", sides)
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    shape = f"{shape}, {counts.rows / counts.requests:.1f} rows a request"
    baseline = figure_of("k", f"driver alone, {shape}", _UNIT, bare)
    ours = compared(figure_of("k", f"CQL store, {shape}", _UNIT, stored), stored, baseline, bare)
    return [
        baseline,
        ours,
        _in_rows(ours, stored, counts),
        compared(figure_of("k", f"history process, {shape}", _UNIT, process), process, baseline, bare),
    ]


def _in_rows(figure: Figure, rounds: Sequence[Round], counts: _Counts) -> Figure:
    """The same again by rows, without the ratio that is the same."""
    by_rows = [replace(each, items=each.items * counts.rows // counts.updates) for each in rounds]
    return figure_of("k", f"{figure.what}: rows", "rows/s", by_rows)


def _bare_round(cql: CqlBench, statements: Sequence[Statement], updates: int, _folder: Path) -> Round:
    settings = cql.emptied(_BARE)
    with cql_session(cql.contact_point, timeout_seconds=settings.timeout_seconds) as session:
        places = threading.Semaphore(settings.requests_max)
        failed: list[Exception] = []

        def acknowledged(_rows: object) -> None:
            places.release()

        def fail(error: Exception) -> None:
            failed.append(error)
            places.release()

        timer = Timer()
        for statement in statements:
            places.acquire()
            session.execute_async(statement).add_callbacks(acknowledged, fail)
        for _ in range(settings.requests_max):
            places.acquire()
        done = timer.round(updates)
    if failed:
        raise WriteFailed(f"{len(failed)} writes failed, the first: {failed[0]}")
    return done


def _statements(settings: CqlSettings, chunks: Sequence[Chunk]) -> list[Statement]:
    """All that a store writes of the chunks, made by what the store makes it by."""
    session = CqlSession(settings)
    session.use_keyspace()
    statements = list(_written(session, chunks))
    session.close()
    return statements


def _written(session: CqlSession, chunks: Sequence[Chunk]) -> Iterator[Statement]:
    writes, checkpoint = CqlWrites(session), session.prepare(_CHECKPOINT)
    for chunk in chunks:
        yield from chain(
            writes.inserts(groups_of(chunk, SIZES)), writes.upserts(chunk.open.values()), writes.deletes(chunk.ended)
        )
        yield checkpoint.bind((chunk.ledger_id, chunk.epoch, chunk.last_sequence, 0, chunk.hash, chunk.timestamp))


def _counts(chunks: Sequence[Chunk], statements: Sequence[Statement]) -> _Counts:
    rows = sum(len(each._statements_and_parameters) if isinstance(each, BatchStatement) else 1 for each in statements)
    return _Counts(_updates(chunks), rows, len(statements))


def _updates(chunks: Sequence[Chunk]) -> int:
    return sum(len(chunk.updates) for chunk in chunks)
