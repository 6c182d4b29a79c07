"""The engine as the history sees it, over real sockets: a ZMQ PUSH and a LedgerFeed that serve a list of stored batches and
can lose, repeat, delay and forge on demand.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Self

import grpc
import zmq

from ordertape.v1 import ledger_pb2, ledger_pb2_grpc
from services.order_history.order_processor import ReceivedBatch
from tests.support.ledger_builder import LEDGER_ID

FRAME_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Consumer:
    """Where one of an engine's consumers finds it."""

    address: str
    feed: str


class FakeEngine(ledger_pb2_grpc.LedgerFeedServicer):
    """Serves ``batches`` as the ledger ``ledger_id``; heartbeats go out every ``heartbeat_seconds`` while it runs. There is a
    feed for each of several consumers where ``more_feeds`` says so.
    """

    def __init__(
        self,
        batches: Sequence[ReceivedBatch] = (),
        *,
        ledger_id: str = LEDGER_ID,
        epoch: int = 1,
        heartbeat_seconds: float = 0.02,
        feed: str = "tcp://127.0.0.1:*",
        more_feeds: Sequence[str] = (),
        address: str = "127.0.0.1:0",
    ) -> None:
        self.batches = list(batches)
        self.ledger_id = ledger_id
        self.epoch = epoch
        self.replays: list[int] = []
        self.status_calls = 0
        self.break_replay_after: int | None = None
        self._heartbeat_seconds = heartbeat_seconds
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._context = zmq.Context(io_threads=1)
        self._sockets = [self._bound(each) for each in (feed, *more_feeds)]
        self.feed, *self._more_feeds = [socket.getsockopt_string(zmq.LAST_ENDPOINT) for socket in self._sockets]
        options = [("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)]
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=options)
        ledger_pb2_grpc.add_LedgerFeedServicer_to_server(self, self._server)
        self.add_services(self._server)
        host = address.rsplit(":", 1)[0]
        self.address = f"{host}:{self._server.add_insecure_port(address)}"
        self._server.start()
        self._heart = threading.Thread(target=self._beat, name="heartbeat")
        self._heart.start()

    def add_services(self, server: grpc.Server) -> None:
        """For engines that answer more than the history asks."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave at once; a second time does nothing."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._heart.join()
        self._server.stop(grace=None).wait()
        for socket in self._sockets:
            socket.close(linger=0)
        self._context.term()

    def restarted(self, batches: Sequence[ReceivedBatch], *, epoch: int, ledger_id: str | None = None) -> "FakeEngine":
        """A new engine in this one's place, at its addresses."""
        self.stop()
        return FakeEngine(
            batches,
            ledger_id=ledger_id or self.ledger_id,
            epoch=epoch,
            heartbeat_seconds=self._heartbeat_seconds,
            feed=self.feed,
            more_feeds=self._more_feeds,
            address=self.address,
        )

    @property
    def consumers(self) -> list[Consumer]:
        """One for each feed."""
        return [Consumer(self.address, feed) for feed in (self.feed, *self._more_feeds)]

    @property
    def durable_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else 0

    def append(self, *batches: ReceivedBatch) -> None:
        """Make batches durable without a word on the feed: they were lost on the way."""
        self.batches.extend(batches)

    def push(self, *batches: ReceivedBatch, epoch: int | None = None) -> bool:
        """Send one frame to each consumer, whatever the ledger says; false where not each takes it."""
        frame = ledger_pb2.LedgerFrame(
            ledger_id=self.ledger_id,
            epoch=self.epoch if epoch is None else epoch,
            durable_sequence=self.durable_sequence,
            batches=[batch.data for batch in batches],
        )
        return self.push_bytes(frame.SerializeToString())

    def push_bytes(self, data: bytes) -> bool:
        """Send these bytes as a frame to each consumer; false where not each takes them."""
        with self._lock:
            sent = [self._was_sent(socket, data) for socket in self._sockets]
        return all(sent)

    def publish(self, *batches: ReceivedBatch) -> None:
        """What an engine does: durable first, then the feed."""
        self.append(*batches)
        self.push(*batches)

    def GetLedgerStatus(  # noqa: N802
        self, request: ledger_pb2.GetLedgerStatusRequest, _context: grpc.ServicerContext
    ) -> ledger_pb2.GetLedgerStatusResponse:
        self.status_calls += 1
        status = ledger_pb2.GetLedgerStatusResponse(
            ledger_id=self.ledger_id, epoch=self.epoch, durable_sequence=self.durable_sequence
        )
        if request.HasField("at_sequence"):
            if request.at_sequence == 0:
                status.hash = b""
            for batch in self.batches:
                if batch.last_sequence == request.at_sequence:
                    status.hash = batch.hash
        return status

    def ReplayLedger(  # noqa: N802
        self, request: ledger_pb2.ReplayLedgerRequest, context: grpc.ServicerContext
    ) -> Iterator[ledger_pb2.ReplayLedgerResponse]:
        self.replays.append(request.after_sequence)
        asked = [batch for batch in self.batches if batch.last_sequence > request.after_sequence]
        breaks, self.break_replay_after = self.break_replay_after, None
        frame, size = self._frame(), 0
        for number, batch in enumerate(asked):
            if number == breaks:
                yield ledger_pb2.ReplayLedgerResponse(frame=frame)
                context.abort(grpc.StatusCode.UNAVAILABLE, "the engine is leaving")
            if size and size + len(batch.data) > FRAME_BYTES_MAX:
                yield ledger_pb2.ReplayLedgerResponse(frame=frame)
                frame, size = self._frame(), 0
            frame.batches.append(batch.data)
            size += len(batch.data)
        yield ledger_pb2.ReplayLedgerResponse(frame=frame)

    def _frame(self) -> ledger_pb2.LedgerFrame:
        return ledger_pb2.LedgerFrame(ledger_id=self.ledger_id, epoch=self.epoch, durable_sequence=self.durable_sequence)

    def _bound(self, feed: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.PUSH)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(feed)
        return socket

    def _was_sent(self, socket: zmq.Socket[bytes], data: bytes) -> bool:
        try:
            socket.send(data, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _beat(self) -> None:
        while not self._stopped.wait(self._heartbeat_seconds):
            self.push()
