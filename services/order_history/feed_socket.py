"""The live end of the engine's feed: a ZMQ PULL socket that connects, is polled once and then drained without blocking (an
order of magnitude quicker than one wait per message), and tells when its connection was made anew.
"""

from types import TracebackType
from typing import Self

import zmq
from zmq.utils.monitor import recv_monitor_message

# A peer that vanished without a word (a cut cable, a dead machine) is noticed by TCP; the socket then connects again by itself.
# Not by ZMQ's own heartbeats: with them, libzmq 4.3.5 ends the process where the receive queue is full and the peer goes away
# (issues 3937 and 4767), so a history that waits for its store would die with its engine.
_KEEPALIVE_IDLE_SECONDS = 2
_KEEPALIVE_INTERVAL_SECONDS = 1
_KEEPALIVE_PROBES = 3
_RECONNECT_MS = 100
_RECONNECT_MAX_MS = 2_000


class FeedSocket:
    """A PULL socket on ``address`` (for example tcp://127.0.0.1:5591). Belongs to the thread that made it.

    ``frames_max``: how many frames wait in memory at most; what comes beyond is dropped by the engine and replayed later.
    """

    def __init__(self, address: str, frames_max: int) -> None:
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.RCVHWM, frames_max)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        self._socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _KEEPALIVE_IDLE_SECONDS)
        self._socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, _KEEPALIVE_INTERVAL_SECONDS)
        self._socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, _KEEPALIVE_PROBES)
        self._socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._socket.connect(address)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
        self._context.term()

    def wait(self, timeout_seconds: float) -> None:
        """Return when there is something to receive or to know, at the latest after ``timeout_seconds``."""
        self._poller.poll(int(timeout_seconds * 1000))

    def take_connected(self) -> bool:
        """Whether the connection was made (anew) since the last call."""
        connected = False
        while self._monitor.poll(0):
            recv_monitor_message(self._monitor)
            connected = True
        return connected

    def receive(self) -> bytes | None:
        """The next frame, None where there is none at this moment."""
        try:
            return self._socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None
