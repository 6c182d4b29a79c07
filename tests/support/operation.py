"""What an operator does to a history's store, as the processes that do it."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from services.order_history.order_processor import OrderProcessor, ReceivedBatch
from services.order_history.stores import Checkpoint, HistoryStore, StoreRefused
from services.order_history.stores.cql import CqlHistoryStore
from services.order_history.stores.cql_settings import parse_cql_address
from services.order_history.stores.sqlite import SqliteHistoryStore
from services.order_history.stores.sqlite_inspection import SqliteInspection
from tests.support import history_dump
from tests.support.eventually import eventually
from tests.support.store_kinds import cql_checkpoint, dump_keyspace

HISTORY = (sys.executable, "-m", "services.order_history")
COMMAND = (sys.executable, "-m", "services.cli")
SECONDS_MAX = 100


NewPlace: TypeAlias = Callable[[], "StoreAt"]


class Done(NamedTuple):
    """How a process ended and what it said."""

    code: int
    out: str
    err: str


class StoreAt(NamedTuple):
    """A place for a store: ``address`` as the setting ``store`` has it, ``folder`` for SQLite's file."""

    address: str
    folder: Path

    @property
    def is_sqlite(self) -> bool:
        return self.address == "sqlite"

    @property
    def options(self) -> tuple[str, ...]:
        """As the commands are told of it."""
        return ("--store", self.address, "--data-dir", str(self.folder))

    def checkpoint(self) -> Checkpoint:
        """How far the store is, whoever is at work in it; sequence 0 where there is none yet."""
        if not self.is_sqlite:
            return cql_checkpoint(parse_cql_address(self.address))
        try:
            store = SqliteInspection(self.folder)
        except StoreRefused:
            return Checkpoint("", 0, 0, b"")
        try:
            return store.checkpoint()
        finally:
            store.close()

    def fill(self, ledger_id: str, batches: Sequence[ReceivedBatch]) -> None:
        """Store these batches in this process."""
        store: HistoryStore
        store = SqliteHistoryStore(self.folder) if self.is_sqlite else CqlHistoryStore(parse_cql_address(self.address))
        if batches:
            store.apply(OrderProcessor().project(ledger_id, batches))
        store.close()

    def dump(self) -> list[str]:
        """Every row of every table."""
        return history_dump.dump(self.folder) if self.is_sqlite else dump_keyspace(parse_cql_address(self.address))


def operate(*arguments: str, command: tuple[str, ...] = HISTORY, seconds_max: float = SECONDS_MAX, **settings: str) -> Done:
    """Run a command to its end; ``settings`` are given by the environment, without their prefix."""
    done = subprocess.run(
        (*command, *arguments), check=False, capture_output=True, text=True, timeout=seconds_max, env=_environment(settings)
    )
    return Done(done.returncode, done.stdout, done.stderr)


class Running:
    """A command that runs; killed when the context is left."""

    def __init__(self, *arguments: str, command: tuple[str, ...] = HISTORY, **settings: str) -> None:
        self.process = subprocess.Popen(
            (*command, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment(settings)
        )

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *unused: object) -> None:
        self.process.kill()
        self.process.communicate()

    def wait_until_stored(self, store: StoreAt, sequence: int) -> None:
        """Return when the store has come so far."""

        def stored() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            return store.checkpoint().sequence >= sequence

        eventually(stored, timeout_seconds=60)

    def wait_until_said(self, text: str) -> str:
        """The next line of its output that has the text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return line
        raise AssertionError(f"it ended without saying {text!r}: {self.process.communicate()}")

    def signalled(self, number: int) -> Done:
        """Send a signal; how it ends."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=SECONDS_MAX)
        return Done(self.process.returncode, out, err)


def _environment(settings: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORDERTAPE_")}
    return kept | {f"ORDERTAPE_HISTORY_{name.upper()}": value for name, value in settings.items()}
