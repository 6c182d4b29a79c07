"""The engine as a process of its own, for what only a process can show: kills, signals, exit codes, full disks."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.support.engine_client import EngineClient
from tests.support.engine_exchange import write_config
from tests.support.eventually import eventually

START_SECONDS = 60.0


class EngineProcess:
    """``python -m services.matching_engine`` on ``data_dir``; killed when the context is left.

    ``before``: Python that runs in the process first, to put a fault into what is under the engine.
    """

    def __init__(self, data_dir: Path, *arguments: str, before: str = "") -> None:
        self.data_dir = data_dir
        self._ready_file = data_dir.with_name(data_dir.name + ".ready.json")
        self._log_file = data_dir.with_name(data_dir.name + ".log")
        self._command = engine_command(data_dir, "--ready-file", str(self._ready_file), *arguments, before=before)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, again after it has ended."""
        self._ready_file.unlink(missing_ok=True)
        with self._log_file.open("a") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        """All that it has written, in all its lives."""
        return self._log_file.read_text()

    def address(self) -> str:
        """Where it serves, once it does."""

        def ready() -> bool:
            assert self.process.poll() is None, self.log
            return self._ready_file.exists()

        eventually(ready, START_SECONDS)
        return str(json.loads(self._ready_file.read_text())["address"])

    def client(self) -> EngineClient:
        """A connection to it, once it serves."""
        return EngineClient(self.address())

    def kill(self) -> None:
        """SIGKILL: it takes no step of its own any more."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit code, once it has ended."""
        return self.process.wait(START_SECONDS)


def engine_command(data_dir: Path, *arguments: str, before: str = "") -> list[str]:
    """The command line of an engine with the tests' instruments, on ports of the system's choice."""
    config = write_config(data_dir.with_name(data_dir.name + ".toml"))
    program = ["-m", "services.matching_engine"]
    if before:
        program = ["-c", f"{before}\nimport sys\nfrom services.matching_engine.__main__ import main\nsys.exit(main())"]
    return [
        sys.executable, *program, "--config", str(config), "--data-dir", str(data_dir), "--listen", "127.0.0.1:0",
        "--feed", "history=tcp://127.0.0.1:0", *arguments,
    ]  # fmt: skip


def run_refused(data_dir: Path, *arguments: str) -> tuple[int, str]:
    """Start an engine that has to refuse: its exit code and what it says."""
    done = subprocess.run(
        engine_command(data_dir, *arguments), check=False, capture_output=True, text=True, timeout=START_SECONDS
    )
    return done.returncode, done.stderr


def verify_ledger(data_dir: Path) -> tuple[int, str]:
    """``ledger --verify``: its exit code and what it says."""
    command = [sys.executable, "-m", "services.matching_engine", "ledger", "--data-dir", str(data_dir), "--verify", "--quiet"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=START_SECONDS)
    return done.returncode, done.stdout + done.stderr
