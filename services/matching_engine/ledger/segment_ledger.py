"""The ledger that the engine writes: one group of batches, one write, one sync, and only then is it there for anybody.

A ledger whose write or sync failed takes nothing more. What the kernel holds of the failed group may never reach the disk, and
a second sync would not say so; only a start, which looks at what is there and writes the unproven part anew, can go on.
"""

import fcntl
import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from services.matching_engine.ledger.disk_format import HEADER_BYTES, encode_group
from services.matching_engine.ledger.errors import LedgerLocked, LedgerWriteFailed
from services.matching_engine.ledger.interface import StoredBatch
from services.matching_engine.ledger.segment_file import (
    create_segment,
    segment_path,
    sync_folder,
    write_all,
)
from services.matching_engine.ledger.segment_reader import End, SegmentReader
from services.matching_engine.ledger.survey import Survey, TornTail, survey

SEGMENT_BYTES_MAX: Final = 64 << 20

_HOLDER_FILE = "engine.pid"


class SegmentLedger(SegmentReader):
    """A reader whose end moves. One thread appends; any thread may read meanwhile.

    `torn_tail` is what was cut off when it was opened, None where nothing was: report it.
    """

    def __init__(self, folder: Path, found: Survey, lock: int, file: int, segment_bytes_max: int) -> None:
        super().__init__(folder, found)
        self._lock = lock
        self._file = file
        self._segment_bytes_max = segment_bytes_max
        self._failure: BaseException | None = None

    @classmethod
    def open(
        cls, folder: Path, *, verify_from_sequence: int | None = 1, segment_bytes_max: int = SEGMENT_BYTES_MAX
    ) -> "SegmentLedger":
        """Locks the folder and opens its ledger, or makes a new one where there is none; cuts off a torn tail.

        Checks every record from the segment that holds `verify_from_sequence` on (1: all; None: the last segment). A segment
        grows to `segment_bytes_max`; a commit group that is larger gets one of its own. Raises LedgerLocked, LedgerDamaged,
        LedgerFormatUnsupported, OSError; a ledger that is refused is left as it was.
        """
        _make_folder(folder)
        lock = _lock(folder)
        file = -1
        try:
            found = survey(folder, verify_from_sequence)
            if found.torn_tail is not None:
                _cut(found.torn_tail, found)
            if found.first_sequences:
                file = os.open(segment_path(folder, found.first_sequences[-1]), os.O_RDWR)
                _settle(file, found)
                sync_folder(folder)
            else:
                found = replace(found, ledger_id=secrets.token_hex(8), first_sequences=[1], end=HEADER_BYTES)
                file = create_segment(folder, found.ledger_id, 1)
            return cls(folder, found, lock, file, segment_bytes_max)
        except BaseException:
            if file >= 0:
                os.close(file)
            os.close(lock)
            raise

    def append(self, batches: Sequence[StoredBatch]) -> None:
        """Makes a commit group durable with one write and one sync; returns when it is. An empty group does nothing.

        Raises ValueError, with nothing done, where the sequences are not the next ones, and LedgerWriteFailed at the first
        failure of a write or sync and ever after: the process has to end.
        """
        durable, offset = self._end
        if self._failure is not None:
            raise LedgerWriteFailed(self.folder, durable + 1, self._failure)
        if not batches:
            return
        group = encode_group(durable, batches)
        try:
            if offset > HEADER_BYTES and offset + len(group) > self._segment_bytes_max:
                offset = self._begin_segment(durable + 1)
            write_all(self._file, group, offset)
            os.fdatasync(self._file)
        except BaseException as error:
            self._failure = error
            raise LedgerWriteFailed(self.folder, durable + 1, error) from error
        self._end = End(batches[-1].last_sequence, offset + len(group))

    def close(self) -> None:
        """Gives the ledger free for another engine. All that was appended is durable already."""
        if self._lock >= 0:
            os.close(self._file)
            os.close(self._lock)
            self._lock = self._file = -1

    def _begin_segment(self, first_sequence: int) -> int:
        file = create_segment(self.folder, self.ledger_id, first_sequence)
        os.close(self._file)
        self._file = file
        self._first_sequences.append(first_sequence)
        return HEADER_BYTES


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir()
        sync_folder(folder.parent)


def _lock(folder: Path) -> int:
    """The folder itself is what is locked: no file that somebody could delete. The pid is only for the message."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    holder = folder / _HOLDER_FILE
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.write_text(f"{os.getpid()}\n")
    except BlockingIOError:
        os.close(lock)
        raise LedgerLocked(folder, _read_pid(holder)) from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _read_pid(holder: Path) -> int | None:
    try:
        return int(holder.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _cut(torn: TornTail, found: Survey) -> None:
    """Takes away a file that was never finished, or what stands after the last record."""
    if found.first_sequences and torn.file == segment_path(torn.file.parent, found.first_sequences[-1]):
        os.truncate(torn.file, found.end)
    else:
        torn.file.unlink()


def _settle(file: int, found: Survey) -> None:
    """Makes durable what a process that was killed may have written and not synced. It is written anew: after a failed sync
    the kernel may hold pages that it takes for clean and that are not on disk.
    """
    write_all(file, os.pread(file, found.end - found.last_group, found.last_group), found.last_group)
    os.fsync(file)
