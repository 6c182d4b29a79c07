"""A consumer of the engine's feed: a real PULL socket."""

from collections.abc import Callable
from typing import Self

import zmq

from ordertape.v1 import ledger_pb2
from tests.support.eventually import eventually


class FeedReceiver:
    """Connected to one feed; ``receive`` keeps every frame in ``frames``."""

    def __init__(self, address: str, **options: int) -> None:
        self.frames: list[ledger_pb2.LedgerFrame] = []
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.PULL)
        self._socket.set(zmq.LINGER, 0)
        for name, value in options.items():
            self._socket.set(getattr(zmq, name), value)
        self._socket.connect(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self._socket.close()
        self._context.term()

    @property
    def batches(self) -> list[bytes]:
        """The batches of all frames so far."""
        return [data for frame in self.frames for data in frame.batches]

    @property
    def heartbeats(self) -> list[ledger_pb2.LedgerFrame]:
        """The frames without batches so far."""
        return [frame for frame in self.frames if not frame.batches]

    def receive(self, milliseconds: int = 0) -> None:
        """Take all frames that are there, waiting so long for the first."""
        while self._socket.poll(milliseconds):
            self.frames.append(ledger_pb2.LedgerFrame.FromString(self._socket.recv()))
            milliseconds = 0

    def receive_until(self, satisfied: Callable[[], object]) -> None:
        """Take frames until the condition holds."""

        def probe() -> bool:
            self.receive(20)
            return bool(satisfied())

        eventually(probe)
