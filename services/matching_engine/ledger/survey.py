"""What a ledger's folder holds, looked at without changing anything: the same look decides what a writer may cut off and what a
reader takes for the end, and tells damage, which is refused, from a torn tail, of which nobody was told.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from services.matching_engine.ledger.disk_format import FORMAT_VERSION, HEADER_BYTES, SegmentHeader, decode_header
from services.matching_engine.ledger.errors import LedgerDamaged, LedgerFormatUnsupported
from services.matching_engine.ledger.segment_file import (
    find_record,
    list_segments,
    open_for_reading,
    records,
    segment_path,
)


@dataclass(frozen=True, slots=True)
class TornTail:
    """What a crash left behind the last whole record: never synced as far as anybody was told."""

    file: Path
    sequence_after: int
    """The last sequence before it, 0 where there is none."""
    bytes_cut: int


@dataclass(frozen=True, slots=True)
class Survey:
    """A ledger as found. Offsets are those of the last segment."""

    ledger_id: str
    first_sequences: list[int]
    """Of each segment; empty where there is no ledger yet."""
    last_sequence: int
    end: int
    """Where the next record goes."""
    last_group: int
    """Where the last commit group begins: from here on no record proves what is before it durable."""
    torn_tail: TornTail | None


def survey(folder: Path, verify_from_sequence: int | None) -> Survey:
    """Looks at every segment's header and both ends, and at every record of those that hold `verify_from_sequence` or later
    (None: of the last one only). Raises LedgerDamaged, LedgerFormatUnsupported.
    """
    found = Survey("", [], 0, 0, 0, None)
    first_sequences = list_segments(folder)
    if not first_sequences:
        return found
    if first_sequences[0] != 1:
        raise LedgerDamaged(segment_path(folder, first_sequences[0]), 1, "the segment that begins the ledger is missing")
    for first, following in zip(first_sequences, [*first_sequences[1:], None], strict=True):
        path = segment_path(folder, first)
        with open_for_reading(path) as file:
            segment = _Segment(path, file, os.fstat(file).st_size, first, following)
            if following is None and segment.is_torn_off():
                torn = TornTail(path, found.last_sequence, segment.size)
                return Survey(found.ledger_id, first_sequences[:-1], found.last_sequence, found.end, found.last_group, torn)
            ledger_id = segment.check_header(found.ledger_id)
            if following is None or (verify_from_sequence is not None and verify_from_sequence < following):
                found = segment.walk(ledger_id, first_sequences)
            else:
                found = segment.check_ends(ledger_id, first_sequences)
    return found


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment file under the eye of the survey; `following` is the first sequence of the next one, None for the last."""

    path: Path
    file: int
    size: int
    first: int
    following: int | None

    def is_torn_off(self) -> bool:
        """Whether the file was never finished: no header, and no record, which only a file with a synced header can have."""
        return self._header() is None and not any(records(self.file, 0, self.size, skip_damage=True))

    def check_header(self, ledger_id: str) -> str:
        """The ledger that the file belongs to; it has to be `ledger_id` unless that is empty."""
        header = self._header()
        if header is None:
            raise self._damaged(self.first, "the file's header is not what was written")
        if header.version != FORMAT_VERSION:
            raise LedgerFormatUnsupported(self.path, header.version, FORMAT_VERSION)
        if header.first_sequence != self.first:
            raise self._damaged(self.first, f"the file is not what its name says, but begins at {header.first_sequence}")
        if ledger_id and header.ledger_id != ledger_id:
            raise self._damaged(self.first, f"the file belongs to ledger {header.ledger_id}, those before it to {ledger_id}")
        return header.ledger_id

    def walk(self, ledger_id: str, first_sequences: list[int]) -> Survey:
        """Looks at every byte of the file."""
        offset = last_group = HEADER_BYTES
        expected = self.first
        durable = expected - 1
        for record in records(self.file, HEADER_BYTES, self.size):
            first, last, _ = record.batch
            if first != expected or last < first or record.durable_sequence >= first:
                raise self._damaged(expected, f"a record of {first}..{last} stands there, after {record.durable_sequence}")
            if record.durable_sequence != durable:
                durable, last_group = record.durable_sequence, offset
            offset, expected = record.end, last + 1
        torn = None
        if offset < self.size:
            if self.following is not None or self._was_durable(expected, offset):
                raise self._damaged(expected, f"the record at byte {offset} is not what was written")
            torn = TornTail(self.path, expected - 1, self.size - offset)
        self._check_following(expected)
        return Survey(ledger_id, first_sequences, expected - 1, offset, last_group, torn)

    def check_ends(self, ledger_id: str, first_sequences: list[int]) -> Survey:
        """Looks at the last record only: a file that is not the last one ends where the next one begins."""
        assert self.following is not None
        record = find_record(self.file, self.following - 1, self.size, self.first, self.following)
        if record is None or record.end != self.size:
            raise self._damaged(self.following - 1, "the file does not end with its record")
        self._check_following(record.batch.last_sequence + 1)
        return Survey(ledger_id, first_sequences, self.following - 1, record.end, record.offset, None)

    def _check_following(self, expected: int) -> None:
        if self.following is not None and self.following != expected:
            sequence = min(self.following, expected)
            raise self._damaged(sequence, f"the file ends before {expected}, the next one begins at {self.following}")

    def _was_durable(self, sequence: int, offset: int) -> bool:
        later = records(self.file, offset, self.size, skip_damage=True)
        return any(record.durable_sequence >= sequence for record in later)

    def _header(self) -> SegmentHeader | None:
        return decode_header(os.pread(self.file, HEADER_BYTES, 0))

    def _damaged(self, sequence: int, what: str) -> LedgerDamaged:
        return LedgerDamaged(self.path, sequence, what)
