"""The history service as a process of its own, for what only a process can show: kills, signals, exit codes, its output."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import grpc

from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_history_pb2_grpc
from tests.support.eventually import eventually
from tests.support.fake_engine import Consumer, FakeEngine


class HistoryProcess:
    """``python -m services.order_history`` following ``engine`` into ``folder``; killed when the context is left.

    ``settings`` are given by the environment, without their prefix; ``output`` is a file descriptor in the place of a file.
    """

    def __init__(
        self, engine: FakeEngine | Consumer, folder: Path, *arguments: str, output: int | None = None, **settings: str
    ) -> None:
        self.folder = folder
        self._ready_file = folder.with_name(folder.name + ".ready.json")
        self._output_file = folder.with_name(folder.name + ".out")
        self._output = output
        self._log = folder.with_name(folder.name + ".log")
        self._command = (
            sys.executable, "-m", "services.order_history", "--data-dir", str(folder), "--listen", "127.0.0.1:0",
            "--engine-address", engine.address, "--engine-feed", engine.feed, "--ready-file", str(self._ready_file), *arguments,
        )  # fmt: skip
        self._environment = os.environ | {f"ORDERTAPE_HISTORY_{name}": value for name, value in settings.items()}

    def __enter__(self) -> Self:
        self._ready_file.unlink(missing_ok=True)
        with self._output_file.open("w") as file, self._log.open("w") as log:
            output = file if self._output is None else self._output
            self.process = subprocess.Popen(self._command, stdout=output, stderr=log, env=self._environment)
        return self

    def __exit__(self, *unused: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def output(self) -> list[str]:
        """What it has printed on its standard output."""
        return self._output_file.read_text().splitlines()

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text()

    def wait_until_ready(self) -> str:
        """The address, once it serves."""

        def ready() -> bool:
            assert self.process.poll() is None, self.log
            return self._ready_file.exists()

        eventually(ready, timeout_seconds=30)
        return str(json.loads(self._ready_file.read_text())["address"])

    def wait_until_applied(self, sequence: int) -> pb.GetHistoryStatusResponse:
        """The status when ``sequence`` is applied."""
        with grpc.insecure_channel(self.wait_until_ready()) as channel:
            stub = order_history_pb2_grpc.OrderHistoryStub(channel)

            def applied() -> pb.GetHistoryStatusResponse | None:
                status = stub.GetHistoryStatus(pb.GetHistoryStatusRequest(), timeout=5)
                return status if status.applied_sequence >= sequence else None

            return eventually(applied, timeout_seconds=30)

    def kill(self) -> None:
        """SIGKILL: no step of its own is taken any more."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)
