"""Decides what of the feed is next, what is a repeat, what is missing, and what cannot be right.

The feed (ZMQ) is the fast path and never the proof: it loses, repeats and delays messages whenever a process dies. Each batch
says its place and the hash of the one before, so the receiver can tell for itself what it has. It touches no socket, clock or
store: the ingest thread hands it what it heard and does what ``next`` says, so every rule here can be tested by hand.
"""

from collections.abc import Iterable
from enum import Enum

from google.protobuf.message import DecodeError

from ordertape.v1 import ledger_pb2
from services.order_history.order_processor import LedgerUnreadable, ReceivedBatch, read_batch


class Next(Enum):
    """What the receiver needs done."""

    ASK = "ask"
    """Ask GetLedgerStatus at ``sequence``; the answer goes to ``on_status``."""
    REPLAY = "replay"
    """Ask ReplayLedger after ``sequence``; the answers go to ``on_replayed``, their end to ``on_replay_end``."""
    LISTEN = "listen"
    """Hand each frame of the feed to ``on_frame``; while there is none, call ``on_tick`` at least every 50 ms."""


class Receiver:
    """Follows one ledger from (``ledger_id``, ``sequence``, ``hash``), the end of the last batch that it has; an empty
    ``ledger_id`` with sequence 0 is a history that has not met its ledger yet.

    What is next in the ledger gathers in ``received`` until ``take_received``. Every ``on_`` method may raise LedgerUnreadable:
    what came cannot be right, and the history has to halt behind what it received before.
    ``gap_patience_seconds``: how long the feed may say that it is ahead of us, and bring nothing, before that is a hole.
    ``silence_seconds``: how long the feed may say nothing before the engine is asked.
    """

    def __init__(
        self,
        ledger_id: str,
        sequence: int,
        ledger_hash: bytes,
        *,
        gap_patience_seconds: float = 0.2,
        silence_seconds: float = 3.0,
    ) -> None:
        self.ledger_id = ledger_id
        self.sequence = sequence
        self.hash = ledger_hash
        self.next = Next.ASK
        self.received: list[ReceivedBatch] = []
        self.durable_sequence = sequence
        self.gaps_repaired = 0
        self._epoch = 0
        self._repairing = False
        self._gap_patience_seconds = gap_patience_seconds
        self._silence_seconds = silence_seconds
        self._ahead_since: float | None = None
        self._heard_at: float | None = None

    @property
    def received_commands(self) -> int:
        """How many commands are in ``received``."""
        return self.sequence + 1 - self.received[0].first_sequence if self.received else 0

    def take_received(self) -> list[ReceivedBatch]:
        """The batches received since the last call, contiguous with those taken then."""
        received, self.received = self.received, []
        return received

    def on_status(self, status: ledger_pb2.GetLedgerStatusResponse) -> None:
        """The answer to ASK: is this still the ledger that we have the beginning of?"""
        self._meet_ledger(status.ledger_id, "the engine")
        if status.durable_sequence < self.sequence:
            raise LedgerUnreadable(
                self.sequence,
                f"the engine's ledger ends at {status.durable_sequence}, this history has {self.sequence}: "
                "the ledger was put back from an older copy",
            )
        if self.sequence > 0 and status.hash != self.hash:
            found = status.hash.hex() if status.HasField("hash") else "no end of a batch"
            raise LedgerUnreadable(
                self.sequence,
                f"the engine's ledger has {found} at {self.sequence}, this history has {self.hash.hex()}: they have parted "
                "(the ledger was put back from an older copy and written on, or is a fork)",
            )
        self._epoch = status.epoch
        self.durable_sequence = status.durable_sequence
        self._ahead_since = None
        self._heard_at = None
        self.next = Next.REPLAY if status.durable_sequence > self.sequence else Next.LISTEN

    def on_engine_at(self, durable_sequence: int) -> None:
        """The engine says how far it is, while nothing is received."""
        self.durable_sequence = max(self.durable_sequence, durable_sequence)

    def on_connected(self) -> None:
        """The feed's connection was made anew: whoever is at its other end has to be asked first."""
        self.next = Next.ASK

    def on_engine_away(self) -> None:
        """The engine did not answer, or a replay broke off: ask again from where we are."""
        self.next = Next.ASK

    def on_frame(self, data: bytes, now: float) -> None:
        """A frame of the feed came at ``now`` (monotonic seconds). One of a later epoch is left to the replay that follows the
        question; those of an earlier one are old, not wrong: hash and sequence tell what they are worth.
        """
        try:
            frame = ledger_pb2.LedgerFrame.FromString(data)
        except DecodeError as error:
            raise LedgerUnreadable(self.sequence + 1, f"a frame of the feed cannot be read: {error}") from error
        self._heard_at = now
        self._meet_ledger(frame.ledger_id, "the feed")
        if frame.epoch > self._epoch:
            self.next = Next.ASK
            return
        before = self.sequence
        complete = self._take(frame.batches)
        self.durable_sequence = max(self.durable_sequence, frame.durable_sequence)
        if self.sequence > before or self.sequence >= self.durable_sequence:
            self._ahead_since = None
        if not complete:
            self._found_gap()
        elif self.sequence < self.durable_sequence and self._ahead_since is None:
            self._ahead_since = now

    def on_tick(self, now: float) -> None:
        """The feed has nothing for us at this moment: a tail that it lost shows only in the heartbeats that follow it."""
        if self._ahead_since is not None and now - self._ahead_since >= self._gap_patience_seconds:
            self._found_gap()
        if self._heard_at is None:
            self._heard_at = now
        elif now - self._heard_at >= self._silence_seconds:
            self.next = Next.ASK

    def on_replayed(self, frame: ledger_pb2.LedgerFrame) -> None:
        """One answer of ReplayLedger came. The ledger itself has no holes, so a hole here is damage."""
        self._meet_ledger(frame.ledger_id, "the engine")
        if not self._take(frame.batches):
            raise LedgerUnreadable(self.sequence + 1, "the engine's replay leaves it out")
        self.durable_sequence = max(self.durable_sequence, frame.durable_sequence, self.sequence)

    def on_replay_end(self) -> None:
        """ReplayLedger came to its end."""
        if self._repairing:
            self._repairing = False
            self.gaps_repaired += 1
        self._ahead_since = None
        self._heard_at = None
        self.next = Next.LISTEN

    def _found_gap(self) -> None:
        self._repairing = True
        self.next = Next.REPLAY

    def _meet_ledger(self, ledger_id: str, speaker: str) -> None:
        if not self.ledger_id:
            self.ledger_id = ledger_id
        elif ledger_id != self.ledger_id:
            raise LedgerUnreadable(self.sequence, f"{speaker} has the ledger {ledger_id}, this history follows {self.ledger_id}")

    def _take(self, batches: Iterable[bytes]) -> bool:
        """Receive those that are next; false where one is further on."""
        for data in batches:
            batch = read_batch(data, self.sequence + 1)
            if batch.first_sequence == self.sequence + 1:
                if batch.message.previous_hash != self.hash:
                    raise LedgerUnreadable(
                        batch.first_sequence,
                        f"its previous_hash is {batch.message.previous_hash.hex() or 'empty'}, "
                        f"the batch before it has {self.hash.hex() or 'none'}: the hash chain is broken",
                    )
                self.sequence, self.hash = batch.last_sequence, batch.hash
                self.received.append(batch)
            elif batch.first_sequence > self.sequence:
                return False
            elif batch.last_sequence > self.sequence:
                raise LedgerUnreadable(
                    batch.first_sequence,
                    f"a batch of {batch.first_sequence} to {batch.last_sequence} came, "
                    f"where this history has one that ends at {self.sequence}: they have parted",
                )
            elif batch.last_sequence == self.sequence and batch.hash != self.hash:
                raise LedgerUnreadable(
                    self.sequence, f"it came again with the hash {batch.hash.hex()}, this history has {self.hash.hex()}"
                )
        return True
