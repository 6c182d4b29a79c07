"""What a client knows beyond its connection: whose orders it is about, the keys that it gives to writes, and the positions of
what it wrote, so that it reads what it wrote.
"""

import secrets
import threading
from typing import Any

from google.protobuf.message import Message

from ordertape.v1 import matching_engine_pb2 as engine_pb2

# The field of a request that makes its retry safe; a request without one is a read.
_KEY_FIELDS: dict[type[Message], str] = {
    engine_pb2.PlaceOrderRequest: "client_order_id",
    engine_pb2.ReplaceOrderRequest: "request_id",
    engine_pb2.CancelOrderRequest: "request_id",
    engine_pb2.CancelOrdersRequest: "request_id",
    engine_pb2.DepositRequest: "request_id",
    engine_pb2.WithdrawRequest: "request_id",
}


class Session:
    """One client's. Safe for threads.

    Positions are opaque, so which of two is later is known only from when they came: a write that was sent after another was
    answered is later than that. Writes that overlapped, and answers to repeats, which tell of long ago, may be either; so all
    that may be the last are kept, and a read waits for each.
    """

    def __init__(self, user: str, read_your_writes: bool) -> None:
        self.user = user
        self.read_your_writes = read_your_writes
        self._lock = threading.Lock()
        self._written: dict[str, int] = {}  # position: when it came
        self._ticks = 0

    def prepare(self, request: Message) -> str:
        """Give the request the user and the key that it lacks; the key, empty for a read and for many items."""
        if isinstance(request, engine_pb2.SubmitOrdersRequest):
            for item in request.items:
                self.prepare(getattr(item, item.WhichOneof("action") or ""))
            return ""
        whole: Any = request
        if "user_id" in request.DESCRIPTOR.fields_by_name:
            whole.user_id = whole.user_id or self.user
        field = _KEY_FIELDS.get(type(request))
        if field is None:
            return ""
        if not getattr(request, field):
            setattr(request, field, f"py-{secrets.token_hex(12)}")
        return key_of(request)

    def tick(self) -> int:
        """The moment in which a write is sent."""
        with self._lock:
            self._ticks += 1
            return self._ticks

    def wrote(self, response: Any, sent: int) -> None:
        """A write that was sent at ``sent`` was answered."""
        position, replayed = _outcome(response)
        if not position:
            return
        with self._lock:
            self._ticks += 1
            if not replayed:
                self._written = {other: came for other, came in self._written.items() if came > sent}
            self._written.setdefault(position, self._ticks)

    def to_wait_for(self, request: Message) -> list[str]:
        """The positions that a read has to wait for, usually one; none where it says itself for which. The history's status is
        to be seen also while it is behind.
        """
        fields, asked = request.DESCRIPTOR.fields_by_name, str(getattr(request, "at_least", ""))
        if not self.read_your_writes or "at_least" not in fields or "user_id" not in fields or asked:
            return []
        with self._lock:
            return list(self._written)

    def reached(self, request: Any, positions: list[str]) -> None:
        """The history has all but the last of these, for which the request waits itself."""
        if not positions:
            return
        request.at_least = positions[-1]
        with self._lock:
            for position in positions[:-1]:
                self._written.pop(position, None)


def key_of(request: Any) -> str:
    """The key of a write; empty for a read."""
    field = _KEY_FIELDS.get(type(request))
    return str(getattr(request, field)) if field else ""


def _outcome(response: Any) -> tuple[str, bool]:
    """The position after a write, and whether it is that of an earlier one. Of many items, the last that was not."""
    if not isinstance(response, engine_pb2.SubmitOrdersResponse):
        return response.position, response.replayed
    new = [result.position for result in response.results if result.position and not result.replayed]
    return (new[-1], False) if new else (response.position, True)
