"""The replay and the proof of `ordertape demo`, the command's own code, in a thread of the test: so that the services can be
killed while it runs.
"""

from typing import Any, Self

from services.cli.demo.command import PATIENCE_SECONDS, SYMBOL, run
from services.cli.demo.flow import Flow
from services.cli.demo.replay import Sending
from tests.support.exchange_process import Background, Exchange

ITEMS_PER_MESSAGE = 100
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
        wrong = [check for check in self.report["checks"] if not check["ok"]]
        assert self.report["ok"], wrong
        assert wrong == []
        return self.report
