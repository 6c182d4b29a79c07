"""(e): a whole ledger into the history's store, against SQLite alone writing the same rows in the same transactions."""

import gc
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import count
from pathlib import Path

import apsw
import grpc

from ordertape.v1 import order_history_pb2, order_history_pb2_grpc
from services.order_history.config import HistorySettings
from services.order_history.ingest import Ingest
from services.order_history.order_processor import Chunk, OrderProcessor, StoredUpdate
from services.order_history.receiver import Receiver
from services.order_history.stores.sqlite import SqliteHistoryStore
from services.order_history.stores.sqlite_schema import whole
from services.order_history.view import Progress
from tests.bench.figures import Figure, Round, Timer, compared, figure_of, in_turns
from tests.bench.filled import filled_engine
from tests.bench.ledgers import Ledger
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
        ledger = Ledger(Path(server.ready["ledger"]))
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

    def begin(self, open_orders: Sequence[StoredUpdate]) -> None:
        """See Listener."""

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


def _store_round(ledger: Ledger, updates: int, folder: Path, *, stored: Callable[[Chunk], object] = lambda _: None) -> Round:
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
    timer = Timer()
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
        ("INSERT INTO order_history VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [ended[:8] for ended in chunk.ended]),
        (
            "INSERT INTO orders_by_client_id VALUES (?, ?, ?)",
            [placed[:3] for placed in chunk.placed if placed.client_order_id is not None],
        ),
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
    timer = Timer()
    for transaction in transactions:
        connection.execute("BEGIN IMMEDIATE")
        for statement, rows in transaction:
            connection.executemany(statement, rows)
        connection.execute("COMMIT")
    done = timer.round(updates)
    connection.close()
    shutil.rmtree(folder)
    return done
