"""(e): a whole ledger into the history's store, against SQLite alone writing the same rows in the same transactions."""

import gc
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import count
from pathlib import Path

import apsw
import grpc

from ordertape.v1 import ledger_pb2, order_history_pb2, order_history_pb2_grpc
from services.matching_engine.feed import frames
from services.matching_engine.ledger import SegmentReader
from services.order_history.config import HistorySettings
from services.order_history.ingest import Ingest
from services.order_history.order_processor import Chunk, OrderProcessor
from services.order_history.receiver import Receiver
from services.order_history.stores.sqlite import SqliteHistoryStore
from services.order_history.stores.sqlite_schema import whole
from services.order_history.view import Progress
from tests.bench.figures import Figure, Round, compared, figure_of, in_turns
from tests.bench.filled import filled_engine
from tests.bench.processes import Server, history_server, position_of
from tests.bench.sizes import Sizes

APPLIED_SECONDS_MAX = 600.0
_UNIT = "updates/s"

_Transaction = list[tuple[str, list[tuple[object, ...]]]]
"""Statements, each with its rows."""


class Halted(Exception):
    """The history refused the ledger: nothing was measured."""


def history_ingest(sizes: Sizes, folder: Path) -> list[Figure]:
    """A history that catches up."""
    with filled_engine(folder, sizes.ledger_orders) as server:
        ledger = _Ledger(Path(server.ready["ledger"]))
        chunks: list[Chunk] = []
        _store_round(ledger, 0, folder / "rows", stored=chunks.append)
        transactions = [_transaction(chunk) for chunk in chunks]
        updates = sum(len(chunk.updates) for chunk in chunks)
        gc.freeze()  # what waits here to be written again is no part of what is measured
        sides = [
            partial(_bare_round, transactions, updates),
            partial(_store_round, ledger, updates),
            partial(_process_round, server, updates),
        ]
        numbers = count(1)
        bare, stored, process = in_turns(sizes.ingest_rounds, lambda: folder / f"ingest-{next(numbers)}", sides)
        gc.unfreeze()
    baseline = figure_of("e", "SQLite alone, the same rows and transactions", _UNIT, bare)
    return [
        baseline,
        compared(figure_of("e", "history ingest, from frames to rows", _UNIT, stored), stored, baseline, bare),
        compared(figure_of("e", "history process, by ReplayLedger", _UNIT, process), process, baseline, bare),
    ]


def wait_until_applied(address: str, position: str) -> None:
    """Return once the history at ``address`` has applied ``position``."""
    with grpc.insecure_channel(address) as channel:
        history = order_history_pb2_grpc.OrderHistoryStub(channel)
        history.GetHistoryStatus(order_history_pb2.GetHistoryStatusRequest(at_least=position), timeout=APPLIED_SECONDS_MAX)


class _Ledger:
    """A ledger as an engine replays it, from memory: what the ingest thread asks (Engine in ingest.py)."""

    def __init__(self, folder: Path) -> None:
        reader = SegmentReader.open(folder)
        self.ledger_id, self.last_sequence = reader.ledger_id, reader.durable_sequence
        replayed = frames(self.ledger_id, 1, self.last_sequence, [stored.data for stored in reader.read()])
        self._replayed = [frame.SerializeToString() for frame in replayed]

    def status(self, at_sequence: int) -> ledger_pb2.GetLedgerStatusResponse:  # noqa: ARG002 - asked by an empty history
        """The ledger's state."""
        return ledger_pb2.GetLedgerStatusResponse(ledger_id=self.ledger_id, epoch=1, durable_sequence=self.last_sequence)

    def replay(self, after_sequence: int) -> Iterator[ledger_pb2.LedgerFrame]:  # noqa: ARG002 - asked by an empty history
        """All batches."""
        return map(ledger_pb2.LedgerFrame.FromString, self._replayed)


class _NoFeed:
    """A live feed (Feed in ingest.py) that has nothing to say."""

    def wait(self, timeout_seconds: float) -> None:
        """Return at once."""

    def take_connected(self) -> bool:
        """Never."""
        return False

    def receive(self) -> bytes | None:
        """Nothing."""
        return None


class _UntilTheEnd:
    """Hears what is stored (Listener in ingest.py), hands each chunk on and ends the ingest behind the last one."""

    def __init__(self, last_sequence: int, stored: Callable[[Chunk], object]) -> None:
        self.ingest: Ingest
        self._last_sequence = last_sequence
        self._stored = stored

    def advance(self, chunk: Chunk, progress: Progress) -> None:  # noqa: ARG002 - only chunks matter here
        """A chunk is stored."""
        self._stored(chunk)
        if chunk.last_sequence >= self._last_sequence:
            self.ingest.stop()

    def observe(self, progress: Progress) -> None:
        """Nothing that matters here."""

    def halt(self, reason: str) -> None:
        """The ingest has ended."""
        raise Halted(reason)


def _store_round(ledger: _Ledger, updates: int, folder: Path, *, stored: Callable[[Chunk], object] = lambda _: None) -> Round:
    """Ingest the ledger into a new store in ``folder``."""
    store = SqliteHistoryStore(folder)
    listener = _UntilTheEnd(ledger.last_sequence, stored)
    listener.ingest = Ingest(
        Receiver("", 0, b""),
        OrderProcessor(),
        store,
        ledger,
        lambda: nullcontext(_NoFeed()),
        listener,
        chunk_commands_max=HistorySettings().chunk_commands_max,
    )
    timer = _Timer()
    listener.ingest.run()
    done = timer.round(updates)
    store.close()
    shutil.rmtree(folder)
    return done


def _process_round(engine: Server, updates: int, folder: Path) -> Round:
    with history_server(folder, engine) as history:
        began, used = time.perf_counter(), history.cpu_seconds()
        wait_until_applied(history.address, position_of(engine))
        seconds, cpu_seconds = time.perf_counter() - began, history.cpu_seconds() - used
    shutil.rmtree(folder)
    return Round(updates, seconds, cpu_seconds)


def _transaction(chunk: Chunk) -> _Transaction:
    return [
        ("INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?, ?, ?)", list(map(tuple, chunk.updates))),
        ("INSERT INTO order_history VALUES (?, ?, ?, ?, ?, ?, ?, ?)", list(map(tuple, chunk.ended))),
        ("INSERT INTO orders_by_client_id VALUES (?, ?, ?)", list(map(tuple, chunk.client_order_ids))),
        ("INSERT OR REPLACE INTO active_orders VALUES (?, ?)", [(o.order_id, o.sequence) for o in chunk.open.values()]),
        ("DELETE FROM active_orders WHERE order_id = ?", [(order_id,) for order_id in chunk.closed]),
        (
            "INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?, ?, ?)",
            [(chunk.ledger_id, chunk.epoch, chunk.last_sequence, chunk.hash)],
        ),
    ]


def _bare_round(transactions: list[_Transaction], updates: int, folder: Path) -> Round:
    folder.mkdir()
    connection = apsw.Connection(str(folder / "bare.db"))
    # As the store is opened.
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -65536")
    connection.wal_autocheckpoint(8_000)
    connection.execute(whole())
    timer = _Timer()
    for transaction in transactions:
        connection.execute("BEGIN IMMEDIATE")
        for statement, rows in transaction:
            connection.executemany(statement, rows)
        connection.execute("COMMIT")
    done = timer.round(updates)
    connection.close()
    shutil.rmtree(folder)
    return done


class _Timer:
    """Seconds, and seconds of processor time, since it was made."""

    def __init__(self) -> None:
        self._began, self._used = time.perf_counter(), time.process_time()

    def round(self, updates: int) -> Round:
        """What was done meanwhile."""
        return Round(updates, time.perf_counter() - self._began, time.process_time() - self._used)
