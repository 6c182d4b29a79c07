"""Starts the two services as processes of their own and stops them, for `ordertape dev` and for a demo that has no services to
use. The command knows a service by its command line and the file that says where it serves, by nothing else.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from services.cli.failures import SERVICE_ENDED, USAGE, Failure

POLL_SECONDS = 0.02
STOP_SECONDS = 30.0
LOG_TAIL_LINES = 20
EXCHANGE_CONFIG = Path(__file__).parent / "exchange.toml"
SQLITE = "sqlite"
_FEED_NAME = "history"
# Addresses of stores have passwords, and a process's environment is its owner's to see, unlike its command line.
_STORE_VARIABLE = "ORDERTAPE_HISTORY_STORE"
_BAD_SETTING = 78

LogLine = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the services shall listen, HOST:PORT each; port 0 for any free one."""

    engine: str = "127.0.0.1:0"
    history: str = "127.0.0.1:0"
    feed: str = "127.0.0.1:0"


class ServiceProcess:
    """One service as a child process; ``log_line(name, line)`` gets each line that it prints. ``environment`` is what it gets
    beside ours.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: list[str],
        ready_file: Path,
        log_line: LogLine,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.tail: deque[str] = deque(maxlen=LOG_TAIL_LINES)
        self._ready_file = ready_file
        self._log_line = log_line
        ready_file.unlink(missing_ok=True)
        # A session of its own: Ctrl-C in the terminal reaches only us, and we stop the services in order.
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            (sys.executable, "-m", module, *arguments, "--ready-file", str(ready_file)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        self._forwarder = threading.Thread(target=self._forward, name=f"{name} log", daemon=True)
        self._forwarder.start()

    def wait_until_ready(self) -> dict[str, Any]:
        """What the service says once it serves; it may replay a long ledger first. Raises Failure where it ends instead."""
        while not self._ready_file.exists():
            self.require_alive()
            time.sleep(POLL_SECONDS)
        ready: dict[str, Any] = json.loads(self._ready_file.read_text())
        return ready

    def require_alive(self) -> None:
        """Raise Failure with the last lines of the log where the service has ended."""
        code = self.process.poll()
        if code is not None:
            self._forwarder.join(timeout=1)
            raise Failure(SERVICE_ENDED, f"the {self.name} ended by itself with exit code {code}", list(self.tail))

    def stop(self) -> None:
        """Ask the service to end and wait; kill it where it takes longer than STOP_SECONDS."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._log_line(self.name, f"did not end within {STOP_SECONDS:g} s of SIGTERM: killed")
            finally:
                # Reached with the process alive on a timeout, or where the user interrupts the waiting.
                if self.process.poll() is None:
                    self.process.kill()
                    self.process.wait()
        self._forwarder.join(timeout=1)

    def _forward(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.tail.append(line.rstrip("\n"))
                self._log_line(self.name, line.rstrip("\n"))


class LocalExchange:
    """Both services on this machine, their files under ``data_dir`` (None: a temporary folder, removed at the end). ``store`` is
    the history's: sqlite for one of these files, or a CQL store's address, whose tables are made where they are missing; None:
    what ORDERTAPE_HISTORY_STORE says, else sqlite.

    Entering the context starts them and waits until both serve; leaving it stops them, the engine first, so that the history
    has stored all that the engine said.
    """

    def __init__(self, data_dir: Path | None, listen: Listen, config: Path, log_line: LogLine, store: str | None = None) -> None:
        self.ephemeral = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="ordertape-")) if data_dir is None else data_dir.resolve()
        self.config = config
        self.engine_address = self.history_address = self.feed_address = self.ledger_id = ""
        self._store = store or os.environ.get(_STORE_VARIABLE) or SQLITE
        self._listen = listen
        self._log_line = log_line
        self._services: list[ServiceProcess] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    @property
    def store(self) -> str:
        """The history's store for people to read: never with a password."""
        if self._store == SQLITE:
            return f"SQLite in {self.data_dir / 'history'}"
        scheme, _, rest = self._store.partition("://")
        login, _, places = rest.rpartition("@")
        user = login.partition(":")[0]
        return f"{scheme}://{user}{'@' if user else ''}{places}"

    def require_alive(self) -> None:
        """Raise Failure where one of the services has ended."""
        for service in self._services:
            service.require_alive()

    def require_clean_end(self) -> None:
        """Raise Failure where a service that was stopped did not end well (SIGTERM itself ends one that does not serve yet)."""
        for service in self._services:
            code = service.process.returncode
            if code not in (0, -signal.SIGTERM):
                raise Failure(
                    SERVICE_ENDED, f"the {service.name} was stopped and ended with exit code {code}", list(service.tail)
                )

    def _start(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._store != SQLITE:
            _apply_schema(self._store)
        feed = f"tcp://{self._listen.feed}"
        engine = self._launch(
            "engine",
            "services.matching_engine",
            ["--listen", self._listen.engine, "--feed", f"{_FEED_NAME}={feed}", "--config", str(self.config)],
        )
        ready = engine.wait_until_ready()
        self.engine_address, self.feed_address = ready["address"], ready["feeds"][_FEED_NAME]
        self.ledger_id = ready["ledger_id"]
        where = ["--engine-address", self.engine_address, "--engine-feed", self.feed_address]
        history = self._launch(
            "history", "services.order_history", ["--listen", self._listen.history, *where], {_STORE_VARIABLE: self._store}
        )
        self.history_address = history.wait_until_ready()["address"]

    def _launch(
        self, name: str, module: str, arguments: list[str], environment: Mapping[str, str] | None = None
    ) -> ServiceProcess:
        folder = self.data_dir / name
        ready_file = self.data_dir / f"{name}.ready.json"
        arguments = ["--data-dir", str(folder), *arguments]
        service = ServiceProcess(name, module, arguments, ready_file, self._log_line, environment)
        self._services.append(service)
        return service

    def _stop(self) -> None:
        try:
            for service in self._services:
                service.stop()
        finally:
            for service in self._services:
                if service.process.poll() is None:
                    service.process.kill()
            if self.ephemeral:
                shutil.rmtree(self.data_dir)


def _apply_schema(store: str) -> None:
    """Make the store's tables where they are missing. Raises Failure with what the history's own command says."""
    command = (sys.executable, "-m", "services.order_history", "schema", "apply")
    done = subprocess.run(  # noqa: S603 - our own interpreter and module
        command, check=False, capture_output=True, text=True, env={**os.environ, _STORE_VARIABLE: store}
    )
    if done.returncode != 0:
        code = USAGE if done.returncode == _BAD_SETTING else SERVICE_ENDED
        raise Failure(code, "the tables of the store could not be made", done.stderr.splitlines()[-LOG_TAIL_LINES:])


class Interrupts:
    """SIGTERM ends the block like Ctrl-C does, by KeyboardInterrupt, so that what was started is stopped either way; but neither
    comes in the middle of a ``held`` block (a second signal does: what is held may hang).
    """

    def __init__(self) -> None:
        self._held = self._came = False

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._arrived) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a signal wait until the block is done."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._came:
            raise KeyboardInterrupt

    def _arrived(self, _signal: int, _frame: FrameType | None) -> None:
        if self._held and not self._came:
            self._came = True
        else:
            raise KeyboardInterrupt


def default_data_dir() -> Path:
    """ORDERTAPE_DATA, or .ordertape in the present folder."""
    return Path(os.environ.get("ORDERTAPE_DATA") or ".ordertape")
