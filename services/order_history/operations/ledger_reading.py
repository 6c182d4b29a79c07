"""The ledger from its first batch on, once, in chunks that end where the reader wants: with the receiver's checks of sequence and
hash chain, over an engine that leaves and comes back.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from ordertape.v1 import ledger_pb2
from services.order_history.engine_client import EngineAway
from services.order_history.operations.asked_engine import AskedEngine
from services.order_history.operations.shown_progress import ShownProgress
from services.order_history.operations.signals import StopSignals
from services.order_history.order_processor import LedgerUnreadable, ReceivedBatch, read_batch
from services.order_history.receiver import Next, Receiver

_RETRY_SECONDS, _RETRY_SECONDS_MAX = 0.2, 2.0
# What is over sooner is not worth a word: each replay comes to the end of its time, and the next one goes on there.
TELL_SECONDS: Final = 1.0
CHUNK_COMMANDS_MAX: Final = 2_000


class PatientEngine:
    """Asks the engine again and again, for at most ``patience_seconds`` without an answer; then raises EngineAway. Raises Stop
    where a signal has come.
    """

    def __init__(self, engine: AskedEngine, patience_seconds: float, signals: StopSignals, shown: ShownProgress) -> None:
        self.engine = engine
        self._patience_seconds = patience_seconds
        self._signals = signals
        self._shown = shown
        self._retry_seconds, self._told = _RETRY_SECONDS, False

    def status(self, at_sequence: int) -> ledger_pb2.GetLedgerStatusResponse:
        """The ledger's state."""
        while True:
            try:
                return self.engine.status(at_sequence)
            except EngineAway as away:
                self.wait(away)

    def answered(self) -> None:
        """It did answer: waiting begins anew."""
        self._retry_seconds, self._told = _RETRY_SECONDS, False
        self._signals.check()

    def wait(self, away: EngineAway) -> None:
        """It did not answer: wait, or raise ``away`` where that has been so for too long."""
        self._signals.check()
        if self.engine.away_seconds > self._patience_seconds:
            raise away
        if not self._told and self.engine.away_seconds > TELL_SECONDS:
            self._told = True
            self._shown.say(f"waiting: {away}")
        self._signals.asked.wait(self._retry_seconds)
        self._retry_seconds = min(self._retry_seconds * 2, _RETRY_SECONDS_MAX)


class LedgerReading:
    """Reads the ledger ``ledger_id`` from its beginning. ``sequence`` and ``hash``: the end of what was read."""

    def __init__(self, engine: PatientEngine, ledger_id: str) -> None:
        self.sequence = 0
        self.hash = b""
        self._engine = engine
        self._receiver = Receiver(ledger_id, 0, b"")
        self._frames: Iterator[ledger_pb2.LedgerFrame] | None = None
        self._waiting: deque[ReceivedBatch] = deque()

    @property
    def ledger_id(self) -> str:
        """The ledger's name, empty before it was met."""
        return self._receiver.ledger_id

    def up_to(self, sequence: int) -> Iterator[list[ReceivedBatch]]:
        """The next batches, up to the one that ends at ``sequence``, which has to be durable; nothing where it was read already.

        Raises LedgerUnreadable for what cannot be right, EngineAway, Stop.
        """
        while self.sequence < sequence:
            while not self._waiting:
                self._receive(sequence)
            chunk: list[ReceivedBatch] = []
            first_sequence = self.sequence + 1
            while self._waiting and self._waiting[0].last_sequence <= sequence:
                batch = self._waiting.popleft()
                chunk.append(batch)
                self.sequence, self.hash = batch.last_sequence, batch.hash
                if self.sequence + 1 - first_sequence >= CHUNK_COMMANDS_MAX:
                    break
            if not chunk:
                raise LedgerUnreadable(sequence, f"no batch ends there, one is of {first_sequence} and more")
            yield chunk

    def _receive(self, wanted_sequence: int) -> None:
        receiver, engine = self._receiver, self._engine
        try:
            if receiver.next is Next.ASK:
                receiver.on_status(engine.engine.status(receiver.sequence))
                if receiver.durable_sequence < wanted_sequence:
                    raise LedgerUnreadable(wanted_sequence, f"the engine's ledger ends at {receiver.durable_sequence} now")
            elif receiver.next is Next.LISTEN:
                # A replay ends where the ledger was durable when it began.
                receiver.on_engine_away()
            elif self._frames is None:
                self._frames = engine.engine.replay(receiver.sequence)
            elif (frame := next(self._frames, None)) is not None:
                receiver.on_replayed(frame)
            else:
                self._frames = None
                receiver.on_replay_end()
            engine.answered()
        except EngineAway as away:
            self._frames = None
            receiver.on_engine_away()
            engine.wait(away)
        self._waiting.extend(receiver.take_received())


def batches_of(engine: PatientEngine, first_sequence: int, last_sequence: int) -> Iterator[list[ReceivedBatch]]:
    """The batches that hold the sequences, again, one by one; their chain was checked when they were read first. Raises as
    LedgerReading.
    """
    sequence = first_sequence - 1
    while sequence < last_sequence:
        try:
            for data in (data for frame in engine.engine.replay(sequence) for data in frame.batches):
                batch = read_batch(data, sequence + 1)
                if batch.last_sequence <= sequence:
                    continue
                sequence = batch.last_sequence
                engine.answered()
                yield [batch]
                if sequence >= last_sequence:
                    return
            if sequence < last_sequence:
                raise LedgerUnreadable(sequence + 1, "the engine's replay leaves it out")
        except EngineAway as away:
            engine.wait(away)
