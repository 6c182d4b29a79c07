"""The feed: pushes what is durable to every consumer over ZMQ. It is the fast path and never the proof: where a consumer is
slow or away its copy is dropped and counted, and it asks ReplayLedger for what it missed. The engine never waits for it.

Owned by the sequencer's thread, as ZMQ sockets belong to one thread.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import structlog
import zmq
from zmq.utils.monitor import recv_monitor_message

from ordertape.v1 import ledger_pb2

FRAME_BYTES_MAX: Final = 1 << 20
FRAMES_QUEUED_MAX: Final = 256

_VANISHED_PEER: Final = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 2,
    zmq.TCP_KEEPALIVE_INTVL: 1,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_MAXRT: 6000,
}

_log = structlog.get_logger()


def frames(ledger_id: str, epoch: int, durable_sequence: int, batches: Sequence[bytes]) -> list[ledger_pb2.LedgerFrame]:
    """The batches in frames of at most 1 MiB, or one batch where that alone is larger; one empty frame for none."""
    frame = ledger_pb2.LedgerFrame(ledger_id=ledger_id, epoch=epoch, durable_sequence=durable_sequence)
    made = [frame]
    size = 0
    for data in batches:
        if size and size + len(data) > FRAME_BYTES_MAX:
            frame = ledger_pb2.LedgerFrame(ledger_id=ledger_id, epoch=epoch, durable_sequence=durable_sequence)
            made.append(frame)
            size = 0
        frame.batches.append(data)
        size += len(data)
    return made


class _Consumer:
    """One consumer's PUSH socket. Two PULLs on it would split the stream between them: that is told loudly."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], name: str, address: str) -> None:
        self.name = name
        self.dropped = 0
        self._accepted: list[int] = []  # connections, by file descriptor, that have not shown yet to be receivers
        self._receivers: set[int] = set()
        self._dropped_before = 0
        self._dropping = False
        self._socket = context.socket(zmq.PUSH)
        self._socket.set(zmq.SNDHWM, FRAMES_QUEUED_MAX)
        self._socket.set(zmq.LINGER, 0)
        # A peer that vanishes without a word (a cut cable), or takes nothing, is noticed within seconds, and its queue freed. By
        # TCP, not by ZMQ's own heartbeats: with them, libzmq 4.3.5 ends the process where a peer sends to us, more than we take,
        # and leaves (issues 3937 and 4767 are about the same).
        for option, value in _VANISHED_PEER.items():
            self._socket.set(option, value)
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise OSError(f"feed {name}: cannot bind {address}: {error}") from error
        self.address = self._socket.get_string(zmq.LAST_ENDPOINT)

    def send(self, data: bytes) -> None:
        try:
            self._socket.send(data, zmq.NOBLOCK)
        except zmq.Again:
            self.dropped += 1

    def watch(self) -> None:
        """Tell loudly of a second receiver, and once when the one that is there begins to lose frames."""
        dropped_since = self.dropped - self._dropped_before
        self._dropped_before = self.dropped
        if self._count_receivers() or not self._receivers:
            return
        if dropped_since and not self._dropping:
            _log.warning(
                "feed drops frames: its receiver is slower than the engine and has to ask for a replay",
                feed=self.name,
                frames_dropped=self.dropped,
            )
        self._dropping = dropped_since > 0

    def _count_receivers(self) -> bool:
        """Whether any came or left since the last look. What connects and is no receiver (a health check, a scan) is none."""
        changed = False
        while self._monitor.poll(0):
            changed = True
            event = recv_monitor_message(self._monitor)
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._accepted.append(event["value"])
            elif event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED and self._accepted:
                # It does not say whose: a receiver shakes hands at once, so the newest connection's.
                self._receivers.add(self._accepted.pop())
                if len(self._receivers) > 1:
                    _log.error(
                        "feed has more than one receiver: each gets a part of the frames and repairs the rest by replay; "
                        "give every consumer a feed of its own",
                        feed=self.name,
                        address=self.address,
                        receivers=len(self._receivers),
                    )
            elif event["event"] == zmq.EVENT_DISCONNECTED:
                self._receivers.discard(event["value"])
                self._accepted = [connection for connection in self._accepted if connection != event["value"]]
        return changed

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()


class Feed:
    """All consumers' sockets: ``consumers`` maps their names to the addresses to bind (``tcp://127.0.0.1:0`` picks a port).

    Raises OSError where an address cannot be bound.
    """

    def __init__(self, consumers: Mapping[str, str]) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._consumers: list[_Consumer] = []
        try:
            for name, address in consumers.items():
                self._consumers.append(_Consumer(self._context, name, address))
        except OSError:
            self.close()
            raise

    @property
    def addresses(self) -> dict[str, str]:
        """Where each consumer's feed is bound."""
        return {consumer.name: consumer.address for consumer in self._consumers}

    @property
    def dropped(self) -> dict[str, int]:
        """How many frames each consumer did not take."""
        return {consumer.name: consumer.dropped for consumer in self._consumers}

    def publish(self, ledger_id: str, epoch: int, durable_sequence: int, batches: Sequence[bytes]) -> None:
        """Push durable batches, or a heartbeat where there are none."""
        if not self._consumers:
            return
        for frame in frames(ledger_id, epoch, durable_sequence, batches):
            data = frame.SerializeToString()
            for consumer in self._consumers:
                consumer.send(data)

    def watch(self) -> None:
        """Look who connected and who is slow; call now and then."""
        for consumer in self._consumers:
            consumer.watch()

    def close(self) -> None:
        """Close all sockets; what is still queued is dropped (it is in the ledger)."""
        for consumer in self._consumers:
            consumer.close()
        self._context.term()
