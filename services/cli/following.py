"""Follows a user's orders over everything that may happen to the connection: the stream is left and resumed after its last
position, and each update is handed on exactly once, whole batch by whole batch.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc

from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_pb2
from services.cli.client import AWAY, History, back_off, failure_of

# How a stream ends that is worth resuming: the service went away or drains, or cut us off for being slow.
_RESUMABLE = (*AWAY, grpc.StatusCode.RESOURCE_EXHAUSTED)


@dataclass(frozen=True, slots=True)
class Followed:
    """Some news. ``snapshot``: these are the open orders at the beginning, all of them. ``position``: where to resume."""

    orders: list[order_pb2.OrderUpdate]
    snapshot: bool
    position: str


def follow(
    history: History,
    request: history_pb2.WatchOrdersRequest,
    patience_seconds: float = float("inf"),
    interrupted: Callable[[str], None] = lambda _reason: None,
) -> Iterator[Followed]:
    """The news, without end. A stream that ends is resumed, with back-off, until ``patience_seconds`` have passed without a word;
    ``interrupted`` is told once why it ended. Before the first word it is tried again like any call, for the history's
    ``retry_seconds``. Raises Failure where that time is over, and for an error that a resume does not mend.
    """
    request = _copy(request)
    give_up_at = time.monotonic() + history.retry_seconds
    pauses, told = back_off(), False
    while True:
        # Only what has a position after it is handed on: where a stream breaks before that, the resumed one says it again.
        heard: list[order_pb2.OrderUpdate] = []
        try:
            for response in history.orders.WatchOrders(request):
                give_up_at, pauses, told = time.monotonic() + patience_seconds, back_off(), False
                snapshot = response.HasField("snapshot")
                heard += response.snapshot.orders if snapshot else response.updates.updates
                if response.position:
                    request.after = response.position
                    yield Followed(heard, snapshot, response.position)
                    heard = []
            reason = "the service ended the stream"
        except grpc.RpcError as error:
            if error.code() not in _RESUMABLE or time.monotonic() > give_up_at:
                raise failure_of(error, history.address) from error
            reason = f"{error.code().name}: {error.details()}"
        if not told:
            interrupted(reason)
            told = True
        time.sleep(next(pauses))


def _copy(request: history_pb2.WatchOrdersRequest) -> history_pb2.WatchOrdersRequest:
    copy = history_pb2.WatchOrdersRequest()
    copy.CopyFrom(request)
    return copy
