"""History processes that share the users of one engine between them, in one keyspace."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from ordertape.v1 import order_history_pb2 as pb
from services.order_history.order_processor import OrderProcessor, ReceivedBatch
from services.order_history.stores.cql import CqlHistoryStore
from services.order_history.stores.cql_settings import CqlSettings
from services.order_history.user_share import UserShare
from tests.support.eventually import eventually
from tests.support.fake_engine import Consumer
from tests.support.history_process import HistoryProcess
from tests.support.shares import addresses, environment_of, settings_of
from tests.support.store_kinds import dump_keyspace, empty_tables


class Histories:
    """One process for each of ``shares``, each with a feed of its own; killed when the context is left.

    Each start has folders of its own, since nothing of a history on CQL is on its machine's disk.
    """

    def __init__(
        self, store: CqlSettings, consumers: Sequence[Consumer], folder: Path, shares: Sequence[UserShare], **settings: str
    ) -> None:
        self.shares = list(shares)
        self.places = addresses(len(shares))
        self._store = store
        self._consumers = consumers
        self._folder = folder
        self._settings = settings
        self._stack = ExitStack()
        self._started = 0
        self.processes: list[HistoryProcess] = []

    def __enter__(self) -> Self:
        self.processes = [self.start(number) for number in range(len(self.shares))]
        return self

    def __exit__(self, *unused: object) -> None:
        self._stack.close()

    def start(self, number: int, **settings: str) -> HistoryProcess:
        """Start a process with the share and the place of that number."""
        mine: dict[str, Any] = settings_of(self.shares, self.places, number)
        environment = {"STORE": address_of(self._store), **environment_of(mine), **self._settings, **settings}
        self._started += 1
        folder = self._folder / f"{self.places[number].partition(':')[2]}-{self._started}"
        process = HistoryProcess(self._consumers[number], folder, "--listen", mine["listen"], **environment)
        return self._stack.enter_context(process)

    def wait_until_applied(self, sequence: int) -> None:
        """Return when each has applied ``sequence`` and may be read, which it is not before it has all of its share."""
        for process in self.processes:
            eventually(lambda: process.wait_until_applied(sequence).state == pb.HISTORY_STATE_LIVE, 30)  # noqa: B023


def address_of(store: CqlSettings) -> str:
    """The setting ``store``. Nothing counts as safe before a minute has passed, so a start writes much again."""
    hosts = ",".join(f"{host}:{port}" for host, port in store.hosts)
    return f"scylla://{hosts}/{store.keyspace}?timeout_seconds=30"


def rows(store: CqlSettings) -> list[str]:
    """Every row but the checkpoints, of which there is one for each share that ever was."""
    return [row for row in dump_keyspace(store) if not row.startswith("checkpoints ")]


def rows_of_one(store: CqlSettings, ledger_id: str, batches: Sequence[ReceivedBatch]) -> list[str]:
    """What one process that has all users makes of the ledger, in the keyspace ``store``, which is emptied for it."""
    empty_tables(store)
    opened = CqlHistoryStore(store)
    for begin in range(0, len(batches), 500):
        opened.apply(OrderProcessor().project(ledger_id, batches[begin : begin + 500]))
    opened.close()
    return rows(store)
