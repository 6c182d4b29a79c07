"""A client of ExportOrderHistory that keeps all that it gets."""

from collections.abc import Sequence
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_history_pb2_grpc, order_pb2


class Exported:
    """What one export brought: its messages, and the error that ended it, if one did."""

    def __init__(self, messages: Sequence[pb.ExportOrderHistoryResponse], error: grpc.RpcError | None = None) -> None:
        self.messages = list(messages)
        self.error = error

    @property
    def updates(self) -> list[order_pb2.OrderUpdate]:
        """All updates, in the order in which they came."""
        return [update for message in self.messages for update in message.updates]

    @property
    def position(self) -> str:
        """The last position."""
        return next((message.position for message in reversed(self.messages) if message.position), "")

    @property
    def whole_updates(self) -> list[order_pb2.OrderUpdate]:
        """The updates up to the last position: what came of a batch that was cut is not in."""
        end = max((index for index, message in enumerate(self.messages) if message.position), default=-1)
        return Exported(self.messages[: end + 1]).updates

    @property
    def error_info(self) -> error_details_pb2.ErrorInfo:
        """The details of the error."""
        return details_of(self.error)[0]

    @property
    def violations(self) -> dict[str, str]:
        """The rules that the request breaks, by field."""
        return {violation.field: violation.description for violation in details_of(self.error)[1].field_violations}


def details_of(error: grpc.RpcError | None) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest]:
    """What comes with an error."""
    assert error is not None
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status = rpc_status.from_call(error)
    assert status is not None, error
    for detail in status.details:
        detail.Unpack(info) or detail.Unpack(bad_request)
    return info, bad_request


def export(channel: grpc.Channel, user_id: str, *, timeout: float = 20, **fields: Any) -> Exported:
    """An export from its beginning to its end, however it ends."""
    stub = order_history_pb2_grpc.OrderHistoryStub(channel)
    messages: list[pb.ExportOrderHistoryResponse] = []
    try:
        for message in stub.ExportOrderHistory(pb.ExportOrderHistoryRequest(user_id=user_id, **fields), timeout=timeout):
            messages.append(message)  # noqa: PERF402 - what came before an error counts
    except grpc.RpcError as error:
        return Exported(messages, error)
    return Exported(messages)


class SlowReader:
    """An export of which nothing is read but by ``next_message`` and ``rest``, through a window of ``window_bytes``."""

    def __init__(self, address: str, user_id: str, *, window_bytes: int = 1024, **fields: Any) -> None:
        options = [
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", window_bytes),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._channel = grpc.insecure_channel(address, options=options)
        stub = order_history_pb2_grpc.OrderHistoryStub(self._channel)
        self._call = stub.ExportOrderHistory(pb.ExportOrderHistoryRequest(user_id=user_id, **fields))
        self._messages: list[pb.ExportOrderHistoryResponse] = []

    def __enter__(self) -> "SlowReader":
        return self

    def __exit__(self, *unused: object) -> None:
        self._call.cancel()
        self._channel.close()

    def next_message(self) -> pb.ExportOrderHistoryResponse:
        """Read one message."""
        self._messages.append(next(self._call))
        return self._messages[-1]

    def rest(self) -> Exported:
        """Read to the end: all that came."""
        try:
            while True:
                self.next_message()
        except StopIteration:
            return Exported(self._messages)
        except grpc.RpcError as error:
            return Exported(self._messages, error)
