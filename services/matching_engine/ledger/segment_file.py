"""One segment file: how it is made, and how its records are found again, one after the other, after bytes that cannot be
trusted, or by sequence without an index.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from services.matching_engine.ledger.disk_format import (
    HEADER_BYTES,
    RECORD_CHECKED_FROM,
    RECORD_HEADER,
    RECORD_MAGIC,
    encode_header,
)
from services.matching_engine.ledger.interface import StoredBatch

_NAME = re.compile(r"(\d{20})\.segment")
_READ_BYTES = 1 << 20  # of one read while walking a file
_PROBE_BYTES = 8 << 10  # of one read while looking for a sequence


class Record(NamedTuple):
    """An intact record and where it stands in its file."""

    offset: int
    end: int
    durable_sequence: int
    batch: StoredBatch


def segment_path(folder: Path, first_sequence: int) -> Path:
    """The file that begins with the sequence."""
    return folder / f"{first_sequence:020d}.segment"


def list_segments(folder: Path) -> list[int]:
    """The first sequence of every segment file of the folder, rising."""
    names = (_NAME.fullmatch(name) for name in os.listdir(folder))
    return sorted(int(name[1]) for name in names if name)


@contextmanager
def open_for_reading(path: Path) -> Iterator[int]:
    """A file descriptor of its own, so that any thread can read while another appends."""
    file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)


def create_segment(folder: Path, ledger_id: str, first_sequence: int) -> int:
    """A new segment file, open for writing. It is on disk, and so is its name, before it holds anything."""
    file = os.open(segment_path(folder, first_sequence), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        write_all(file, encode_header(ledger_id, first_sequence), 0)
        os.fsync(file)
        sync_folder(folder)
    except BaseException:
        os.close(file)
        raise
    return file


def write_all(file: int, data: bytes, offset: int) -> None:
    """Writes all of the data, though one write may take only a part of it (a disk that fills up says so at the next)."""
    written = os.pwrite(file, data, offset)
    while written < len(data):
        written += os.pwrite(file, memoryview(data)[written:], offset + written)


def sync_folder(folder: Path) -> None:
    """Makes the names in the folder durable."""
    with open_for_reading(folder) as file:
        os.fsync(file)


class _Window:
    """The part of a file that was read last. Bytes from `end` on do not exist for it."""

    __slots__ = ("_base", "_buffer", "_end", "_file", "_read_bytes", "_view")

    def __init__(self, file: int, end: int, read_bytes: int) -> None:
        self._file = file
        self._end = end
        self._read_bytes = read_bytes
        self._base = 0
        self._buffer = b""
        self._view = memoryview(self._buffer)

    def record_at(self, offset: int) -> Record | None:
        """The record at the offset; None where there is no whole and intact one."""
        at = self._hold(offset, RECORD_HEADER.size)
        if at < 0:
            return None
        magic, length, checksum, durable, first, count = RECORD_HEADER.unpack_from(self._buffer, at)
        if magic != RECORD_MAGIC:
            return None
        size = RECORD_HEADER.size + length
        at = self._hold(offset, size)
        if at < 0 or crc32(self._view[at + RECORD_CHECKED_FROM : at + size]) != checksum:
            return None
        batch = StoredBatch(first, first + count - 1, self._buffer[at + RECORD_HEADER.size : at + size])
        return Record(offset, offset + size, durable, batch)

    def find_magic(self, offset: int) -> int:
        """Where the next record may begin, at the offset or later; -1 where none can."""
        while (at := self._hold(offset, RECORD_HEADER.size)) >= 0:
            found = self._buffer.find(RECORD_MAGIC, at)
            if found >= 0:
                return self._base + found
            offset = self._base + len(self._buffer) - len(RECORD_MAGIC) + 1
        return -1

    def _hold(self, offset: int, size: int) -> int:
        """Where in the buffer the `size` bytes at the offset are; -1 where the file does not have them all."""
        at = offset - self._base
        if at + size <= len(self._buffer):
            return at
        if offset + size > self._end:
            return -1
        self._buffer = os.pread(self._file, min(max(self._read_bytes, size), self._end - offset), offset)
        self._view = memoryview(self._buffer)
        self._base = offset
        return 0 if len(self._buffer) >= size else -1


def records(file: int, offset: int, end: int, *, read_bytes: int = _READ_BYTES, skip_damage: bool = False) -> Iterator[Record]:
    """The records between two offsets, up to the first place that has no intact one; or, with `skip_damage`, every intact
    record, wherever between the offsets it begins.
    """
    window = _Window(file, end, read_bytes)
    while True:
        record = window.record_at(offset)
        if record is not None:
            yield record
            offset = record.end
        elif not skip_damage or (offset := window.find_magic(offset + 1)) < 0:
            return


def find_record(file: int, sequence: int, end: int, first_sequence: int, next_sequence: int) -> Record | None:
    """The record that holds the sequence, in a file whose records span `first_sequence` to below `next_sequence` and end at
    `end`; None where they are not what was written.

    Sequences rise almost evenly with offsets, so the place is guessed from both ends, a record is looked for there, and the
    guess repeated with what it says: two or three reads of 8 KiB. Every second guess halves the span instead, which bounds
    their number whatever the sizes are.
    """
    low, low_sequence = HEADER_BYTES, first_sequence
    high, high_sequence = end, next_sequence
    halve = False
    while low < high:
        share = (1, 2) if halve else (sequence - low_sequence, high_sequence - low_sequence)
        halve = not halve
        guess = low + (high - low) * share[0] // share[1]
        start = max(low, guess - _PROBE_BYTES // 2)
        beyond = high_sequence
        for record in records(file, start, end, read_bytes=_PROBE_BYTES, skip_damage=True):
            first, last, _ = record.batch
            if sequence < first:
                beyond = first
                break
            if sequence <= last:
                return record
            low, low_sequence = record.end, last + 1
            if low >= start + _PROBE_BYTES:
                break
        if low == start:
            return None  # no record between here and `high` holds it
        if low < start:
            high, high_sequence = start, beyond
    return None
