"""`ordertape demo` on services that a test can kill while it runs: the command's replay and proof in a thread of the test, or the
command itself as a process.
"""

import json
import subprocess
import sys
from typing import Any, Self

from services.cli.demo.command import PATIENCE_SECONDS, SYMBOL, run
from services.cli.demo.flow import Flow
from services.cli.demo.replay import Sending
from tests.support.exchange_process import Background, Exchange

ITEMS_PER_MESSAGE = 100
# A history whose store has lost a server answers nothing until the last minute is written again.
_PATIENCE_SECONDS = 240
DEMO_USERS = ("bids", "asks")


class DemoRun(Background):
    """Sends the flow from entering the context on; ``prove`` waits for its end and asserts that all came out as recorded."""

    def __init__(self, exchange: Exchange, flow: Flow, items_per_message: int = ITEMS_PER_MESSAGE) -> None:
        super().__init__("demo")
        self.report: dict[str, Any] = {}
        self._exchange = exchange
        self._flow = flow
        self._items = items_per_message

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        # A test that failed has killed the services: then the run ends when its patience does, and its thread is a daemon.
        self.join(0)

    def work(self) -> None:
        sending = Sending(SYMBOL, self._items, None, PATIENCE_SECONDS)
        with self._exchange.engine_client() as engine, self._exchange.history_client() as history:
            self.report = run(engine, history, self._flow, sending)

    def prove(self, timeout_seconds: float = 300.0) -> dict[str, Any]:
        """The demo's report, every check of which must be equal."""
        self.finish(timeout_seconds)
        return _proven(self.report)


class DemoProcess:
    """`ordertape demo` as a process from entering the context on; needs the recording, which it downloads where it is not cached.
    ``minutes`` None: the whole recording; ``speed`` None: as fast as it goes, else times real time.
    """

    def __init__(self, exchange: Exchange, minutes: float | None, speed: float | None = None) -> None:
        self._command = [
            sys.executable, "-m", "services.cli", "demo", "-o", "json", "--engine", exchange.engine_address,
            "--history", exchange.history_address, "--patience", str(_PATIENCE_SECONDS),
            *([] if minutes is None else ["--minutes", str(minutes)]), *([] if speed is None else ["--speed", str(speed)]),
        ]  # fmt: skip
        self._output, self._errors = exchange.folder / "demo.json", exchange.folder / "demo.log"

    def __enter__(self) -> Self:
        with self._output.open("w") as output, self._errors.open("w") as errors:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=errors)
        return self

    def __exit__(self, *unused: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def prove(self, timeout_seconds: float = 1_200.0) -> dict[str, Any]:
        """The demo's report, every check of which must be equal, and its exit code 0."""
        code = self._process.wait(timeout_seconds)
        assert code == 0, f"exit code {code}: {self._errors.read_text()[-2000:]}{self._output.read_text()[-2000:]}"
        return _proven(json.loads(self._output.read_text()))


def _proven(report: dict[str, Any]) -> dict[str, Any]:
    assert [check for check in report["checks"] if not check["ok"]] == []
    assert report["ok"]
    return report
