"""A client of WatchOrders that keeps all that it hears, in a thread of its own."""

import threading
from collections.abc import Sequence
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_history_pb2_grpc, order_pb2


class Watcher:
    """Watches ``user_id`` at ``address`` from entering the context until it is left, or until the server ends the watch: then
    ``error`` says how. While ``reading`` is cleared it reads nothing.
    """

    def __init__(
        self, address: str, user_id: str, after: str | None = None, *, window_bytes: int | None = None, **filters: Any
    ) -> None:
        options = [] if window_bytes is None else [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", window_bytes)]
        self._channel = grpc.insecure_channel(address, options=[*options, ("grpc.use_local_subchannel_pool", 1)])
        self._request = pb.WatchOrdersRequest(user_id=user_id, after=after, **filters)
        self.user_id = user_id
        self.messages: list[pb.WatchOrdersResponse] = []
        self.error: grpc.RpcError | None = None
        self.reading = threading.Event()
        self.reading.set()
        self._thread = threading.Thread(target=self._read, name=f"watcher of {user_id}")

    def __enter__(self) -> Self:
        self._call = order_history_pb2_grpc.OrderHistoryStub(self._channel).WatchOrders(self._request)
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._call.cancel()
        self.reading.set()
        self._thread.join()
        self._channel.close()

    @property
    def snapshot(self) -> list[order_pb2.OrderUpdate]:
        """The orders of the snapshot."""
        return [order for message in self.messages for order in message.snapshot.orders]

    @property
    def has_snapshot(self) -> bool:
        """Whether the last page is here."""
        return any(message.snapshot.last_page for message in self.messages)

    @property
    def updates(self) -> list[order_pb2.OrderUpdate]:
        """All updates, in the order in which they came."""
        return updates_in(self.messages)

    @property
    def position(self) -> str:
        """The last position."""
        return next((message.position for message in reversed(self.messages) if message.position), "")

    @property
    def error_info(self) -> error_details_pb2.ErrorInfo:
        """The details of the error that ended the watch."""
        assert self.error is not None
        info = error_details_pb2.ErrorInfo()
        rpc_status.from_call(self.error).details[0].Unpack(info)
        return info

    def _read(self) -> None:
        try:
            while True:
                self.reading.wait()
                self.messages.append(next(self._call))
        except StopIteration:
            return
        except grpc.RpcError as error:
            self.error = error


def updates_in(messages: Sequence[pb.WatchOrdersResponse]) -> list[order_pb2.OrderUpdate]:
    """All updates in the messages."""
    return [update for message in messages for update in message.updates.updates]
