"""Follows a user's orders over everything that may happen to the connection: the stream is left and resumed after its last
position, and each update is handed on exactly once.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc

from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_pb2
from services.cli.client import History, back_off, failure_of

# How a stream ends that is worth resuming: the service went away or drains, or cut us off for being slow.
_RESUMABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


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
    """The news, without end. A stream that ends is resumed, with back-off, for as long as ``patience_seconds`` pass without a
    word; ``interrupted`` is told why it ended. Raises Failure for an error that a resume does not mend, and where nobody answers
    at the very first attempt.
    """
    request = _copy(request)
    last_heard: float | None = None
    seen = 0  # the highest user_update_number handed on: a batch in several messages begins again where the stream broke in it
    pauses = back_off()
    while True:
        snapshot: list[order_pb2.OrderUpdate] = []
        try:
            for response in history.orders.WatchOrders(request):
                last_heard, pauses = time.monotonic(), back_off()
                if response.position:
                    request.after = response.position
                kind = response.WhichOneof("event")
                if kind == "snapshot":
                    snapshot.extend(response.snapshot.orders)
                    if response.snapshot.last_page:
                        seen = max((order.user_update_number for order in snapshot), default=0)
                        yield Followed(snapshot, snapshot=True, position=request.after)
                else:
                    fresh = [update for update in response.updates.updates if update.user_update_number > seen]
                    seen = fresh[-1].user_update_number if fresh else seen
                    yield Followed(fresh, snapshot=False, position=request.after)
            interrupted("the service ended the stream")
        except grpc.RpcError as error:
            gone = last_heard is None or time.monotonic() - last_heard > patience_seconds
            if error.code() not in _RESUMABLE or gone:
                raise failure_of(error, history.address) from error
            interrupted(f"{error.code().name}: {error.details()}")
        time.sleep(next(pauses))


def _copy(request: history_pb2.WatchOrdersRequest) -> history_pb2.WatchOrdersRequest:
    copy = history_pb2.WatchOrdersRequest()
    copy.CopyFrom(request)
    return copy
