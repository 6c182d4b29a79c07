"""A user's orders as the command prints and writes them, over everything that may happen to the connection: the client package
resumes the streams, here their messages are taken apart.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ordertape.client.resuming import Resumption
from ordertape.client.streams import Interrupted, ResumedStream, unheard
from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_pb2
from services.cli.client import History, translated


@dataclass(frozen=True, slots=True)
class Followed:
    """Some news. ``snapshot``: these are the open orders at the beginning, all of them. ``position``: where to resume."""

    orders: list[order_pb2.OrderUpdate]
    snapshot: bool
    position: str


@dataclass(frozen=True, slots=True)
class Exported:
    """Some updates of an export. ``position``: where to resume; ``until``: where it ends, there is no more once the two are
    equal. ``last_number``: user_update_number of the last update that it comes to.
    """

    updates: list[order_pb2.OrderUpdate]
    position: str
    until: str
    last_number: int


def follow(
    history: History,
    request: history_pb2.WatchOrdersRequest,
    patience_seconds: float = float("inf"),
    interrupted: Interrupted = unheard,
) -> Iterator[Followed]:
    """The news, without end. Resumed and ended as ``_resumed`` says."""
    for heard in _resumed(history, history.orders.WatchOrders, request, patience_seconds, interrupted):
        orders = [order for one in heard for order in (*one.snapshot.orders, *one.updates.updates)]
        yield Followed(orders, heard[-1].HasField("snapshot"), heard[-1].position)


def exported(
    history: History,
    request: history_pb2.ExportOrderHistoryRequest,
    patience_seconds: float,
    interrupted: Interrupted = unheard,
) -> Iterator[Exported]:
    """An export up to its end, which stays where it was when the export began. Resumed and ended as ``_resumed`` says."""
    for heard in _resumed(history, history.orders.ExportOrderHistory, request, patience_seconds, interrupted):
        last, updates = heard[-1], [update for one in heard for update in one.updates]
        yield Exported(updates, last.position, last.until, last.last_user_update_number)


def _resumed(
    history: History, method: Callable[[Any], Any], request: Any, patience_seconds: float, interrupted: Interrupted
) -> Iterator[list[Any]]:
    """The stream's messages, in lists that end with a position.

    A stream that ends is resumed, with back-off, until ``patience_seconds`` have passed without a word; ``interrupted`` is told
    once why it ended. Before the first word it is tried again like any call, for the history's ``retry_seconds``. Raises Failure
    where that time is over, and for an error that a resume does not mend.
    """
    own = type(request)()
    own.CopyFrom(request)
    with translated(history.address):
        resumption: Resumption[Any] = Resumption(own, history.retry_seconds, patience_seconds)
        yield from ResumedStream(lambda: method(own), resumption, interrupted)
