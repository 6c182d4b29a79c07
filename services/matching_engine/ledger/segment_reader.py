"""Reading a ledger of segment files: in order, or any one batch by its sequence. Every reader opens files of its own and never
looks past what is synced, so any number of threads and processes can read while the engine appends.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from services.matching_engine.ledger.errors import LedgerDamaged, LedgerNotFound
from services.matching_engine.ledger.interface import StoredBatch
from services.matching_engine.ledger.segment_file import (
    Record,
    find_record,
    open_for_reading,
    records,
    segment_path,
)
from services.matching_engine.ledger.survey import Survey, TornTail, survey


class End(NamedTuple):
    """How far the ledger is durable: the sequence, and where its record ends in the last segment."""

    sequence: int
    offset: int


class SegmentReader:
    """A ledger as it was when opened. Takes no lock and changes nothing, so an engine may be running on it.

    `ledger_id` is the ledger's name; `torn_tail` what stands after the last whole record (of a running engine: a group that
    it is just writing), None where nothing does.
    """

    def __init__(self, folder: Path, found: Survey) -> None:
        self.folder = folder
        self.ledger_id = found.ledger_id
        self.torn_tail: TornTail | None = found.torn_tail
        self._first_sequences = found.first_sequences
        # Replaced as one value by a writer, after a new segment is in the list: other threads see both or an older state.
        self._end = End(found.last_sequence, found.end)

    @classmethod
    def open(cls, folder: Path, *, verify_from_sequence: int | None = None) -> "SegmentReader":
        """Opens the ledger up to its last whole record, after making sure that this one is synced.

        Checks every record from the segment that holds `verify_from_sequence` on (1: every byte of the ledger; None: the last
        segment). Raises LedgerNotFound, LedgerDamaged, LedgerFormatUnsupported.
        """
        if not folder.is_dir():
            raise LedgerNotFound(folder)
        found = survey(folder, verify_from_sequence)
        if not found.first_sequences:
            raise LedgerNotFound(folder)
        with open_for_reading(segment_path(folder, found.first_sequences[-1])) as file:
            os.fdatasync(file)
        return cls(folder, found)

    @property
    def durable_sequence(self) -> int:
        """The last synced sequence; 0 for an empty ledger."""
        return self._end.sequence

    @property
    def last_hash(self) -> bytes:
        """SHA-256 of the last batch's bytes; empty for an empty ledger."""
        last_hash = self.hash_at(self.durable_sequence)
        assert last_hash is not None
        return last_hash

    def read(self, after_sequence: int = 0, up_to: int | None = None) -> Iterator[StoredBatch]:
        """The batches from the one that holds after_sequence + 1 to the one that holds `up_to`, at most to the sequence that
        is durable at the call. Raises ValueError for a negative sequence, LedgerDamaged where a batch is not as written.
        """
        if after_sequence < 0:
            raise ValueError(f"after_sequence {after_sequence} is negative")
        durable = self.durable_sequence
        return self._read(after_sequence + 1, durable if up_to is None else min(up_to, durable))

    def batch_at(self, sequence: int) -> StoredBatch:
        """The batch that holds the sequence. Raises LookupError where it is not in the ledger (yet), LedgerDamaged."""
        if not 1 <= sequence <= self.durable_sequence:
            raise LookupError(f"sequence {sequence} is not in the ledger, which goes from 1 to {self.durable_sequence}")
        with self._open_segment_of(sequence) as segment:
            return segment.find(sequence).batch

    def hash_at(self, sequence: int) -> bytes | None:
        """SHA-256 of the batch that ends at the sequence: empty at 0, None where no durable batch ends there."""
        if sequence == 0:
            return b""
        if not 1 <= sequence <= self.durable_sequence:
            return None
        batch = self.batch_at(sequence)
        return sha256(batch.data).digest() if batch.last_sequence == sequence else None

    def _read(self, sequence: int, last_sequence: int) -> Iterator[StoredBatch]:
        while sequence <= last_sequence:
            with self._open_segment_of(sequence) as segment:
                start = segment.find(sequence)
                for record in records(segment.file, start.offset, segment.end):
                    batch = record.batch
                    if not batch.first_sequence <= sequence <= batch.last_sequence:
                        break
                    yield batch
                    sequence = batch.last_sequence + 1
                    if sequence > last_sequence:
                        return
            # Here the file is at its end, or at a bad record: then it is opened again and says so.

    @contextmanager
    def _open_segment_of(self, sequence: int) -> Iterator["_OpenSegment"]:
        end = self._end
        index = bisect_right(self._first_sequences, sequence) - 1
        first = self._first_sequences[index]
        path = segment_path(self.folder, first)
        with open_for_reading(path) as file:
            if index + 1 < len(self._first_sequences):
                yield _OpenSegment(path, file, os.fstat(file).st_size, first, self._first_sequences[index + 1])
            else:
                yield _OpenSegment(path, file, end.offset, first, end.sequence + 1)


class _OpenSegment(NamedTuple):
    """A segment file, open, with what its durable part spans: sequences from `first` to below `following`."""

    path: Path
    file: int
    end: int
    first: int
    following: int

    def find(self, sequence: int) -> Record:
        record = find_record(self.file, sequence, self.end, self.first, self.following)
        if record is None:
            raise LedgerDamaged(self.path, sequence, "its record is not what was written")
        return record
