"""Clients of WatchOrders that must see each update exactly once, over kills, cuts and restarts of everything: one of our own
making, which does no more than the contract asks of any client, and the one of the `ordertape` command.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

import grpc

from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_history_pb2_grpc as history_grpc
from ordertape.v1 import order_pb2
from services.cli.client import History
from services.cli.failures import Failure
from services.cli.following import follow
from tests.support.eventually import eventually
from tests.support.exchange_process import Background

# gRPC itself CANCELs what reaches a server in the moment in which it stops.
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
RESUMABLE = (*AWAY, grpc.StatusCode.RESOURCE_EXHAUSTED)
QUICK_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 300), ("grpc.use_local_subchannel_pool", 1),
)  # fmt: skip
_PAUSE_SECONDS = 0.05


class ExactWatch(Background):
    """Keeps a user's ``updates`` from entering the context until it is left: those after a position, or (None) a ``snapshot`` and
    those after it. ``began`` is the position that they follow; ``cuts`` how its streams ended.
    """

    def __init__(self, address: str, user_id: str, after: str | None) -> None:
        super().__init__(f"{type(self).__name__} of {user_id}")
        self.user_id = user_id
        self.updates: list[order_pb2.OrderUpdate] = []
        self.snapshot: list[order_pb2.OrderUpdate] = []
        self.has_snapshot = after is None
        self.began = self.position = after
        self.cuts: list[grpc.StatusCode] = []
        self._address = address
        self._leaving = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.leave()
        self.finish(30)

    def leave(self) -> None:
        """Hear nothing more; once more does nothing."""
        self._leaving.set()
        self._end_stream()

    def wait_until(self, has: Callable[[], bool], timeout_seconds: float = 60.0) -> None:
        """Return when ``has`` is true of it. Raises what ended it."""

        def look() -> bool:
            if self.failure is not None:
                raise RuntimeError(f"{self.name} ended") from self.failure
            return has()

        eventually(look, timeout_seconds)

    def _end_stream(self) -> None:
        raise NotImplementedError


class RawWatch(ExactWatch):
    """Takes in what it heard when a message says the position after it, and resumes after the last position."""

    def __init__(self, address: str, user_id: str, after: str | None) -> None:
        super().__init__(address, user_id, after)
        self._channel = grpc.insecure_channel(address, options=QUICK_RECONNECT)
        self._stub = history_grpc.OrderHistoryStub(self._channel)

    def work(self) -> None:
        while not self._leaving.wait(_PAUSE_SECONDS):
            heard: list[order_pb2.OrderUpdate] = []
            opened: list[order_pb2.OrderUpdate] = []
            try:
                request = history_pb2.WatchOrdersRequest(user_id=self.user_id, after=self.position)
                for response in self._stub.WatchOrders(request):
                    heard += response.updates.updates
                    opened += response.snapshot.orders
                    if response.position:
                        self.position = response.position
                        self.began = self.began or response.position
                        self.updates += heard
                        self.snapshot += opened
                        heard, opened = [], []
            except (grpc.RpcError, ValueError) as error:
                # A closed channel raises ValueError.
                if self._leaving.is_set():
                    return
                if not isinstance(error, grpc.Call) or error.code() not in RESUMABLE:
                    raise
                self.cuts.append(error.code())

    def _end_stream(self) -> None:
        self._channel.close()


class CommandWatch(ExactWatch):
    """Follows with the code of `ordertape watch`, which resumes by itself."""

    def __init__(self, address: str, user_id: str, after: str | None) -> None:
        super().__init__(address, user_id, after)
        self._history = History(address, timeout_seconds=10, retry_seconds=60)

    def work(self) -> None:
        request = history_pb2.WatchOrdersRequest(user_id=self.user_id, after=self.position)
        try:
            for news in follow(self._history, request):
                if news.snapshot:
                    self.snapshot += news.orders
                else:
                    self.updates += news.orders
                self.position = news.position
                self.began = self.began or news.position
        except (Failure, ValueError):
            # A closed channel raises ValueError.
            if not self._leaving.is_set():
                raise

    def _end_stream(self) -> None:
        self._history.channel.close()


@contextmanager
def watching(address: str, users: Sequence[str], after: str | None) -> Iterator[list[ExactWatch]]:
    """Both kinds of client for each user, from the position on, or from a snapshot on."""
    with ExitStack() as running:
        kinds = (RawWatch, CommandWatch)
        yield [running.enter_context(kind(address, user_id, after)) for user_id in users for kind in kinds]
