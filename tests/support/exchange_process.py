"""Both services as the processes that they are in production, on addresses and folders that they keep over restarts, so that a
test can kill, freeze, stop and start each of them while clients go on.
"""

import json
import random
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import grpc

from ordertape.v1 import ledger_pb2
from ordertape.v1 import order_history_pb2 as history_pb2
from services.cli.client import Engine, History
from services.cli.failures import Failure
from services.cli.processes import ServiceProcess
from tests.support.eventually import eventually

EXIT_SECONDS = 40.0
READY_SECONDS = 120.0
# Seconds in place of minutes where only the clock is waited for.
CALL_SECONDS, RETRY_SECONDS = 10.0, 60.0

INSTRUMENTS = Path(__file__).parents[2] / "services" / "cli" / "exchange.toml"

Settings = dict[str, int | float | str | bool]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that the kernel gives to connections: a client that connects again and again to
    a port of that range can be given the very port that it calls, and then its service could not come back to it.
    """
    chance, found = random.SystemRandom(), list[int]()
    while len(found) < count:
        port = chance.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class Service:
    """One service that can be started again and again with the same command line. Signals reach the process itself."""

    def __init__(self, name: str, module: str, arguments: list[str], folder: Path) -> None:
        self.name = name
        self.arguments = arguments
        self.log: list[str] = []
        self._module = module
        self._ready_file = folder / f"{name}.ready.json"
        self._log_file = folder / f"{name}.log"
        self._running: ServiceProcess | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a process that has not ended."""
        return self._running is not None and self._running.process.poll() is None

    @property
    def process(self) -> "subprocess.Popen[str]":
        """The last process that was started."""
        assert self._running is not None, f"the {self.name} was never started"
        return self._running.process

    def launch(self) -> None:
        """Start a process and do not wait for it."""
        assert not self.is_running, f"the {self.name} runs already"
        self._running = ServiceProcess(self.name, self._module, self.arguments, self._ready_file, self._take_line)

    def start(self) -> dict[str, Any]:
        """Start a process and wait until it serves: what it says of itself."""
        self.launch()
        return self.wait_until_ready()

    def wait_until_ready(self) -> dict[str, Any]:
        """What the process says of itself once it serves. AssertionError with its log where it ends before."""

        def ready() -> bool:
            assert self._running is not None
            try:
                self._running.require_alive()
            except Failure as failure:
                raise RuntimeError("\n".join([failure.message, *failure.details])) from failure
            return self._ready_file.exists()

        eventually(ready, READY_SECONDS)
        said: dict[str, Any] = json.loads(self._ready_file.read_text())
        return said

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone, and all that the kernel held for it."""
        self.process.kill()
        self.process.wait(EXIT_SECONDS)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.wait_for_end()

    def wait_for_end(self) -> int:
        """The exit code of a process that ends by itself."""
        return self.process.wait(EXIT_SECONDS)

    def stop_now(self) -> None:
        """SIGKILL where it still runs."""
        if self.is_running:
            self.kill()

    def freeze(self) -> None:
        """SIGSTOP: it is there and does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def logged(self, text: str) -> bool:
        """Whether a line of any of its processes has the text."""
        return any(text in line for line in self.log)

    def count(self, text: str) -> int:
        """How many lines of all its processes have the text."""
        return sum(text in line for line in self.log)

    def _take_line(self, _name: str, line: str) -> None:
        self.log.append(line)
        # What an engine had started to make a snapshot may outlive it, and the folder of the test.
        with suppress(FileNotFoundError), self._log_file.open("a") as file:
            file.write(line + "\n")


class Exchange:
    """An engine and its history in ``folder``. Entering the context starts both; leaving it kills what still runs.

    ``history_calls`` and ``history_hears`` are the engine's gRPC and feed addresses as the history is told them: set them
    before it starts to put something in between. Settings are those of the services' config files; ``engine_module`` is what
    python runs as the engine.
    """

    def __init__(
        self,
        folder: Path,
        *,
        engine_folder: Path | None = None,
        history_folder: Path | None = None,
        engine_settings: Settings | None = None,
        history_settings: Settings | None = None,
        engine_module: str = "services.matching_engine",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.engine_folder = engine_folder or folder / "engine"
        self.history_folder = history_folder or folder / "history"
        engine_port, history_port, feed_port = free_ports(3)
        self.engine_address, self.history_address = f"127.0.0.1:{engine_port}", f"127.0.0.1:{history_port}"
        self.feed_address = f"tcp://127.0.0.1:{feed_port}"
        self.history_calls, self.history_hears = self.engine_address, self.feed_address
        self.ledger_id = ""
        self._engine_module = engine_module
        self._engine_config = _config(folder / "engine.toml", engine_settings or {}, INSTRUMENTS.read_text())
        self.engine = self.engine_again("engine")
        self._history_config = _config(folder / "history.toml", {"watch_heartbeat_seconds": 0.5, **(history_settings or {})})
        self.history = self.history_into("history", self.history_folder)

    def engine_again(self, name: str) -> Service:
        """An engine on this exchange's ledger and addresses; not started."""
        where = ["--data-dir", str(self.engine_folder), "--config", str(self._engine_config), "--listen", self.engine_address]
        arguments = [*where, "--feed", f"history={self.feed_address}"]
        return Service(name, self._engine_module, arguments, self.folder)

    def history_into(self, name: str, folder: Path, address: str | None = None) -> "HistoryService":
        """A history service of this exchange with its store in ``folder``; not started."""
        return HistoryService(self, name, folder, address or self.history_address, self._history_config)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop_now()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop_now()

    def start(self) -> None:
        """Start whichever of the two does not run, both at once, and wait until they serve."""
        stopped = [service for service in (self.engine, self.history) if not service.is_running]
        for service in stopped:
            service.launch()
        for service in stopped:
            said = service.wait_until_ready()
            self.ledger_id = said.get("ledger_id", self.ledger_id)

    def kill(self) -> None:
        """SIGKILL to both at the same moment."""
        for service in (self.engine, self.history):
            service.process.kill()
        for service in (self.engine, self.history):
            service.process.wait(EXIT_SECONDS)

    def terminate(self) -> None:
        """SIGTERM, the engine first, as `ordertape dev` does it; both must end well."""
        assert self.engine.terminate() == 0, self.engine.log[-20:]
        assert self.history.terminate() == 0, self.history.log[-20:]

    def stop_now(self) -> None:
        """Kill what still runs."""
        for service in (self.engine, self.history):
            service.stop_now()

    def engine_client(self) -> Engine:
        """A client of the engine that waits for one that is away."""
        return Engine(self.engine_address, CALL_SECONDS, RETRY_SECONDS)

    def history_client(self) -> History:
        """A client of the history that waits for one that is away."""
        return History(self.history_address, CALL_SECONDS, RETRY_SECONDS)

    def durable_sequence(self) -> int:
        """Where the engine's ledger ends."""
        with self.engine_client() as engine:
            return engine.call(engine.ledger.GetLedgerStatus, ledger_pb2.GetLedgerStatusRequest()).durable_sequence

    def history_status(self) -> history_pb2.GetHistoryStatusResponse:
        """What the history says of itself."""
        with self.history_client() as history:
            return history.call(history.orders.GetHistoryStatus, history_pb2.GetHistoryStatusRequest())

    def history_health(self) -> str:
        """The history's health: SERVING, NOT_SERVING."""
        with self.history_client() as history:
            return history.health("ordertape.v1.OrderHistory")

    def wait_until_durable(self, sequence: int, timeout_seconds: float = 60.0) -> None:
        """Return when the engine's ledger has come to ``sequence``; asks often, so a moment in a flow can be met by it."""
        with grpc.insecure_channel(self.engine_address) as channel:
            ask = channel.unary_unary(
                "/ordertape.v1.LedgerFeed/GetLedgerStatus",
                request_serializer=ledger_pb2.GetLedgerStatusRequest.SerializeToString,
                response_deserializer=ledger_pb2.GetLedgerStatusResponse.FromString,
            )
            nothing = ledger_pb2.GetLedgerStatusRequest()
            eventually(lambda: ask(nothing, timeout=CALL_SECONDS).durable_sequence >= sequence, timeout_seconds)

    def wait_until_equal(self, timeout_seconds: float = 60.0) -> int:
        """Return when the history follows live, is well, and has all that the engine has: up to which sequence."""

        def equal() -> int:
            durable, status = self.durable_sequence(), self.history_status()
            assert status.halt_reason == ""
            assert (status.applied_sequence, status.lag_commands) == (durable, 0)
            assert status.state == history_pb2.HISTORY_STATE_LIVE
            assert self.history_health() == "SERVING"
            return durable

        return eventually(equal, timeout_seconds)

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`ordertape` with the arguments, as a process, on this exchange's engine and history."""
        where = ("--engine", self.engine_address, "--history", self.history_address)
        command = (sys.executable, "-m", "services.cli", *arguments, *where)
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


class HistoryService(Service):
    """A history, told at each start where its exchange's engine is."""

    def __init__(self, exchange: Exchange, name: str, folder: Path, address: str, config: Path) -> None:
        super().__init__(name, "services.order_history", [], exchange.folder)
        self._exchange = exchange
        self._fixed = ["--data-dir", str(folder), "--config", str(config), "--listen", address]

    def launch(self) -> None:
        exchange = self._exchange
        self.arguments = [
            *self._fixed, "--engine-address", exchange.history_calls, "--engine-feed", exchange.history_hears,
        ]  # fmt: skip
        super().launch()

    def applied_sequence(self) -> int:
        """How far it says that it is."""
        with History(self.wait_until_ready()["address"], CALL_SECONDS, RETRY_SECONDS) as history:
            return history.call(history.orders.GetHistoryStatus, history_pb2.GetHistoryStatusRequest()).applied_sequence


class Background(threading.Thread):
    """A thread whose failure is the test's: ``finish`` raises it."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Run ``work`` and keep what it raises."""
        try:
            self.work()
        except BaseException as failure:
            self.failure = failure

    def work(self) -> None:
        """What the thread does."""
        raise NotImplementedError

    def finish(self, timeout_seconds: float) -> None:
        """Wait for the end. Raises what the thread raised, AssertionError where it does not end."""
        self.join(timeout_seconds)
        if self.failure is not None:
            raise self.failure
        assert not self.is_alive(), f"{self.name} did not end within {timeout_seconds:g} s"


def _config(path: Path, settings: Settings, rest: str = "") -> Path:
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()) + rest)
    return path
