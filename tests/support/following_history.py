"""A history as a process on a CQL store that follows an engine of the test's own, over faults of either: the engine publishes a
ledger that was made beforehand, so that at every moment it is known what each answer has to be.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ordertape.v1 import ledger_pb2, order_pb2
from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_history_pb2_grpc as history_grpc
from services.order_history.order_processor import ReceivedBatch
from services.order_history.stores.cql_settings import CqlSettings, parse_cql_address
from services.wire.position import encode_position
from tests.support.cql_proof import prove_fold_in_keyspace
from tests.support.eventually import eventually
from tests.support.exact_watch import ExactWatch, watching
from tests.support.exchange_process import Background, Service, free_ports
from tests.support.exchange_proof import open_orders
from tests.support.fake_engine import FakeEngine
from tests.support.ledger_builder import LedgerBuilder

CALL_SECONDS = 5.0
CATCH_UP_SECONDS = 60.0
_SETTINGS = (
    "watch_heartbeat_seconds = 0.5\nsilence_seconds = 0.5\nlag_seconds_max = 2.0\ndrain_grace_seconds = 3.0\n"
    "chunk_commands_max = 500\n"
)


class HeldEngine(FakeEngine):
    """An engine whose replays can be held back, so that a history comes no further than to ask for one."""

    def __init__(self, batches: list[ReceivedBatch]) -> None:
        self.may_replay = threading.Event()
        self.may_replay.set()
        super().__init__(batches)

    def ReplayLedger(  # noqa: N802
        self, request: ledger_pb2.ReplayLedgerRequest, context: grpc.ServicerContext
    ) -> Iterator[ledger_pb2.ReplayLedgerResponse]:
        assert self.may_replay.wait(60)
        yield from super().ReplayLedger(request, context)


class FollowingHistory:
    """The engine from entering the context on, and its history where it is started. ``store`` is the address of a CQL store.

    ``published`` is how many of the ledger's batches the engine has.
    """

    def __init__(self, folder: Path, store: str, ledger: LedgerBuilder) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ledger = ledger
        self.published = 0
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self._store = store
        self._folder = folder
        (folder / "history.toml").write_text(_SETTINGS)

    def __enter__(self) -> Self:
        self.engine = HeldEngine([])
        self.service = Service(
            "history", "services.order_history",
            [
                "--data-dir", str(self._folder / "history"), "--store", self._store, "--listen", self.address,
                "--engine-address", self.engine.address, "--engine-feed", self.engine.feed,
                "--config", str(self._folder / "history.toml"),
            ],
            self._folder,
        )  # fmt: skip
        self.channel = grpc.insecure_channel(self.address)
        self.stub = history_grpc.OrderHistoryStub(self.channel)
        return self

    def __exit__(self, *unused: object) -> None:
        self.service.stop_now()
        self.channel.close()
        self.engine.may_replay.set()
        self.engine.stop()

    @property
    def settings(self) -> CqlSettings:
        """The store's."""
        return parse_cql_address(self._store)

    @property
    def batches(self) -> list[ReceivedBatch]:
        """What the engine has."""
        return self.ledger.batches[: self.published]

    @property
    def updates(self) -> list[order_pb2.OrderUpdate]:
        """All updates in what the engine has."""
        return [update for update in self.ledger.updates if update.sequence <= self.engine.durable_sequence]

    def publish(self, count: int) -> None:
        """The ledger's next batches, all at once."""
        for batch in self.ledger.batches[self.published : self.published + count]:
            self.engine.publish(batch)
            self.published += 1

    def status(self) -> pb.GetHistoryStatusResponse:
        """What the history says of itself."""
        return self.stub.GetHistoryStatus(pb.GetHistoryStatusRequest(), timeout=CALL_SECONDS, wait_for_ready=True)

    def is_serving(self) -> bool:
        """What its health says."""
        request = health_pb2.HealthCheckRequest(service="ordertape.v1.OrderHistory")
        answer = health_pb2_grpc.HealthStub(self.channel).Check(request, timeout=CALL_SECONDS, wait_for_ready=True)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def wait_until_equal(self, timeout_seconds: float = CATCH_UP_SECONDS) -> None:
        """Return when the history is well and has all that the engine has."""

        def equal() -> bool:
            status = self.status()
            assert status.halt_reason == ""
            return (status.applied_sequence, status.lag_commands) == (self.engine.durable_sequence, 0) and self.is_serving()

        eventually(equal, timeout_seconds)

    def open_orders(self) -> list[order_pb2.OrderUpdate]:
        """All open orders of all users, as the history lists them, by order_id."""
        found = [
            order
            for user_id in sorted({update.user_id for update in self.ledger.updates})
            for order in self.stub.ListActiveOrders(
                pb.ListActiveOrdersRequest(user_id=user_id, page_size=500), timeout=CALL_SECONDS
            ).orders
        ]
        return sorted(found, key=lambda order: order.order_id)

    def watching(self, *users: str) -> AbstractContextManager[list[ExactWatch]]:
        """Watches of the users, from the ledger's beginning."""
        return watching(self.address, users, encode_position(self.ledger.ledger_id, 0))

    def prove(self, watches: list[ExactWatch]) -> None:
        """Everything, with the history running, which is stopped and started on the way and stopped at the end."""
        self.wait_until_equal()
        updates = self.updates
        for watch in watches:
            mine = [update for update in updates if update.user_id == watch.user_id]
            watch.wait_until(lambda watch=watch, mine=mine: len(watch.updates) >= len(mine))
            assert watch.updates == mine, f"{watch.name}: not each update once"
            watch.leave()
        assert self.open_orders() == open_orders(updates)
        assert self.service.terminate() == 0
        prove_fold_in_keyspace(self.settings, self.ledger.ledger_id, self.batches, open_orders(updates))
        self.service.start()
        self.wait_until_equal()
        assert self.open_orders() == open_orders(updates), "other orders are open after a cold start"
        assert self.service.terminate() == 0


class PublishedLoad(Background):
    """Publishes the history's next ``count`` batches within ``seconds``, from entering the context on."""

    def __init__(self, history: FollowingHistory, count: int, seconds: float) -> None:
        super().__init__("load")
        self._history = history
        self._count = count
        self._seconds = seconds
        self._first = history.published

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.finish(self._seconds + 60)

    def work(self) -> None:
        begun = time.monotonic()
        for number in range(self._count):
            time.sleep(max(0.0, begun + self._seconds * number / self._count - time.monotonic()))
            self._history.publish(1)

    def wait_for(self, share: float) -> None:
        """Return when so much of it is published."""
        eventually(lambda: self._history.published - self._first >= share * self._count, self._seconds + 60)
