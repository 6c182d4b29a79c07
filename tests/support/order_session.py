"""A client's end of an OrderSession: sends when told to, keeps what it hears, in a thread of its own."""

import queue
import threading
from collections.abc import Iterator
from typing import Self

import grpc

from ordertape.v1 import matching_engine_pb2 as pb
from ordertape.v1 import matching_engine_pb2_grpc
from tests.support.engine_client import Request, item_of
from tests.support.eventually import eventually


class OrderSession:
    """A session on a connection of its own, from entering the context until it is left: then it ends as a client ends that has
    nothing more to say. ``hears``: whether it reads what comes back from the start.
    """

    def __init__(self, address: str, *, user_id: str | None = None, grace_seconds: int = 0, hears: bool = True) -> None:
        self.answers: list[pb.OrderSessionResponse] = []
        self.error: grpc.RpcError | None = None
        self.sent = 0
        self._wish = None if user_id is None else pb.CancelOnDisconnect(user_id=user_id, grace_seconds=grace_seconds)
        self._outbox: queue.SimpleQueue[pb.OrderSessionRequest | None] = queue.SimpleQueue()
        self._hears = threading.Event()
        if hears:
            self._hears.set()
        # As little as a connection can hold of what nobody reads.
        small = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16)]
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1), *small])
        self._thread = threading.Thread(target=self._read, name="order session", daemon=True)

    def __enter__(self) -> Self:
        self._call = matching_engine_pb2_grpc.MatchingEngineStub(self._channel).OrderSession(self._messages())
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.hear()
        self.finish()
        self._channel.close()

    def send(self, *requests: Request, correlation_id: int | None = None) -> int:
        """Send a message of these items; its number."""
        number = self.sent + 1 if correlation_id is None else correlation_id
        self.send_message(pb.OrderSessionRequest(correlation_id=number, items=[item_of(request) for request in requests]))
        return number

    def send_message(self, message: pb.OrderSessionRequest) -> None:
        """Send a message as it is; the wish of the session goes with the first."""
        if self.sent == 0 and self._wish is not None:
            message.cancel_on_disconnect.CopyFrom(self._wish)
        self.sent += 1
        self._outbox.put(message)

    def ask(self, *requests: Request) -> pb.OrderSessionResponse:
        """Send a message and wait for its answer."""
        number, heard = self.send(*requests), len(self.answers)
        answer = eventually(lambda: self.answers[heard:])[0]
        assert answer.correlation_id == number
        return answer

    def hear(self) -> None:
        """Read what comes back from now on."""
        self._hears.set()

    def finish(self) -> None:
        """Say that nothing more will be said, and hear all that is still to come."""
        self._outbox.put(None)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def lose(self) -> None:
        """Break the connection off."""
        self._channel.close()

    def wait_for_end(self) -> grpc.StatusCode:
        """How the engine ended it."""
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.code

    @property
    def code(self) -> grpc.StatusCode:
        """How it ended."""
        return grpc.StatusCode.OK if self.error is None else self.error.code()

    def _messages(self) -> Iterator[pb.OrderSessionRequest]:
        while (message := self._outbox.get()) is not None:
            yield message

    def _read(self) -> None:
        try:
            self._hears.wait()
            for answer in self._call:
                self.answers.append(answer)
        except grpc.RpcError as error:
            self.error = error
        finally:
            self._outbox.put(None)
