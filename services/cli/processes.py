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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from services.cli.failures import SERVICE_ENDED, Failure

POLL_SECONDS = 0.02
STOP_SECONDS = 30.0
LOG_TAIL_LINES = 20
EXCHANGE_CONFIG = Path(__file__).parent / "exchange.toml"
_FEED_NAME = "history"

LogLine = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the services shall listen, HOST:PORT each; port 0 for any free one."""

    engine: str = "127.0.0.1:0"
    history: str = "127.0.0.1:0"
    feed: str = "127.0.0.1:0"


class ServiceProcess:
    """One service as a child process; ``log_line(name, line)`` gets each line that it prints."""

    def __init__(self, name: str, module: str, arguments: list[str], ready_file: Path, log_line: LogLine) -> None:
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
    """Both services on this machine, their files under ``data_dir`` (None: a temporary folder, removed at the end).

    Entering the context starts them and waits until both serve; leaving it stops them, the engine first, so that the history
    has stored all that the engine said.
    """

    def __init__(self, data_dir: Path | None, listen: Listen, config: Path, log_line: LogLine) -> None:
        self.ephemeral = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="ordertape-")) if data_dir is None else data_dir.resolve()
        self.config = config
        self.engine_address = self.history_address = self.feed_address = self.ledger_id = ""
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
        history = self._launch("history", "services.order_history", ["--listen", self._listen.history, *where])
        self.history_address = history.wait_until_ready()["address"]

    def _launch(self, name: str, module: str, arguments: list[str]) -> ServiceProcess:
        folder = self.data_dir / name
        ready_file = self.data_dir / f"{name}.ready.json"
        service = ServiceProcess(name, module, ["--data-dir", str(folder), *arguments], ready_file, self._log_line)
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
