"""What the sequencer relies on. Segment files implement it; a replicated log can take their place without a change to the
engine, so nothing here speaks of files.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol


class StoredBatch(NamedTuple):
    """One LedgerBatch as stored: the ledger never parses it, and nobody re-encodes it."""

    first_sequence: int
    last_sequence: int
    data: bytes


class LedgerReader(Protocol):
    """Every batch from sequence 1 on, in order. Any thread may read, also while another one appends."""

    @property
    def ledger_id(self) -> str:
        """Name of the ledger, 16 hexadecimal digits, given at its making."""

    @property
    def durable_sequence(self) -> int:
        """The last synced sequence; 0 for an empty ledger."""

    @property
    def last_hash(self) -> bytes:
        """SHA-256 of the last batch's bytes; empty for an empty ledger."""

    def read(self, after_sequence: int = 0, up_to: int | None = None) -> Iterator[StoredBatch]:
        """The batches from the one that holds after_sequence + 1 to the one that holds `up_to`, at most to the sequence that
        is durable at the call. Raises ValueError for a negative sequence, LedgerDamaged where a batch is not as written.
        """

    def batch_at(self, sequence: int) -> StoredBatch:
        """The batch that holds the sequence. Raises LookupError where it is not in the ledger (yet), LedgerDamaged."""

    def hash_at(self, sequence: int) -> bytes | None:
        """SHA-256 of the batch that ends at the sequence: empty at 0, None where no durable batch ends there."""


class Ledger(LedgerReader, Protocol):
    """A ledger that one thread appends to."""

    def append(self, batches: Sequence[StoredBatch]) -> None:
        """Makes a commit group durable; returns when it is. Raises ValueError, with nothing done, where the sequences are not
        the next ones, and LedgerWriteFailed at the first failure and ever after.
        """

    def close(self) -> None:
        """Gives the ledger free for another engine."""
