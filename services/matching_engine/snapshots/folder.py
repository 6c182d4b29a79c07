"""The folder of snapshots, each named by the sequence after which it was taken: 20 digits and `.snapshot`.

A snapshot is only ever there whole: it is written under another name, synced, and then renamed. It can be thrown away; what
does not fit the ledger exactly is never used, but reported, and the one before it is.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from google.protobuf.message import DecodeError

from ordertape.v1 import snapshot_pb2
from services.domain.state import ExchangeState
from services.matching_engine.ledger import LedgerReader
from services.matching_engine.ledger.segment_file import sync_folder
from services.matching_engine.snapshots.disk_format import BadFormat, decode_pieces, encode_pieces
from services.wire.snapshot_codec import SnapshotUnreadable, decode_head, decode_state, encode_state

_NAME = re.compile(r"(\d{20})\.snapshot")
_PART_SUFFIX: Final = ".part"
# So much is written before it is synced: more would make the ledger's own syncs wait behind it.
_UNSYNCED_BYTES_MAX: Final = 1 << 20

_log = structlog.get_logger()


class SnapshotUnusable(Exception):
    """The file is damaged, or is not a snapshot of this ledger for this program."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"snapshot {path} cannot be used: {what}")
        self.path = path
        self.what = what


class SnapshotLocked(Exception):
    """Another process is just making a snapshot."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another process is making a snapshot in {folder}")


class Snapshot(NamedTuple):
    """A state, and the SHA-256 of the batch that it ends with."""

    state: ExchangeState
    last_hash: bytes


def snapshot_path(folder: Path, sequence: int) -> Path:
    """The file of the snapshot that was taken after the sequence."""
    return folder / f"{sequence:020d}.snapshot"


def list_snapshots(folder: Path) -> list[int]:
    """The sequences of all snapshots, the newest first."""
    if not folder.is_dir():
        return []
    names = (_NAME.fullmatch(name) for name in os.listdir(folder))
    return sorted((int(name[1]) for name in names if name), reverse=True)


def load_snapshot(folder: Path, sequence: int, ledger: LedgerReader) -> Snapshot:
    """The snapshot that was taken after the sequence, checked against the ledger before anything is made of it.

    Raises SnapshotUnusable; LedgerDamaged where the ledger's own batch is not as written.
    """
    path = snapshot_path(folder, sequence)
    try:
        with path.open("rb") as file:
            data = decode_pieces(file, os.fstat(file.fileno()).st_size)
            first = snapshot_pb2.SnapshotPiece.FromString(next(data, b""))
            head = decode_head(first)
            _check_place(head.ledger_id, head.sequence, head.hash, sequence, ledger)

            def pieces() -> Iterator[snapshot_pb2.SnapshotPiece]:
                yield first
                yield from map(snapshot_pb2.SnapshotPiece.FromString, data)

            return Snapshot(decode_state(pieces()), head.hash)
    except (BadFormat, SnapshotUnreadable, DecodeError, OSError) as error:
        raise SnapshotUnusable(path, str(error)) from error


def newest_snapshot(folder: Path, ledger: LedgerReader) -> Snapshot | None:
    """The newest snapshot that fits the ledger; None where none does. Whatever is not used is reported as an error."""
    for sequence in list_snapshots(folder):
        try:
            return load_snapshot(folder, sequence, ledger)
        except SnapshotUnusable as unusable:
            _log.error("a snapshot cannot be used: the one before it is, or the whole ledger", file=str(unusable.path),
                       why=unusable.what)  # fmt: skip
    return None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """The right to write into the folder, for one process at a time; what one that was killed left is cleaned up.

    Raises SnapshotLocked, OSError.
    """
    folder.mkdir(exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SnapshotLocked(folder) from None
        for left in folder.glob(f"*{_PART_SUFFIX}"):
            left.unlink()
        yield
    finally:
        os.close(lock)


def write_snapshot(folder: Path, snapshot: Snapshot) -> Path:
    """Makes the snapshot durable, under its name from the moment that it is whole. Only inside ``writing``. Raises OSError."""
    path = snapshot_path(folder, snapshot.state.sequence)
    part = path.with_name(path.name + _PART_SUFFIX)
    try:
        with part.open("wb") as file:
            unsynced = 0
            pieces = encode_state(snapshot.state, snapshot.last_hash)
            for data in encode_pieces(piece.SerializeToString() for piece in pieces):
                file.write(data)
                unsynced += len(data)
                if unsynced >= _UNSYNCED_BYTES_MAX:
                    file.flush()
                    os.fdatasync(file.fileno())
                    unsynced = 0
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    return path


def remove_others(folder: Path, *kept: int) -> None:
    """Deletes the snapshots of all other sequences. Only inside ``writing``."""
    for sequence in list_snapshots(folder):
        if sequence not in kept:
            snapshot_path(folder, sequence).unlink()


def _check_place(ledger_id: str, sequence: int, last_hash: bytes, named: int, ledger: LedgerReader) -> None:
    if ledger_id != ledger.ledger_id:
        raise SnapshotUnreadable(f"it is of ledger {ledger_id}, this one is {ledger.ledger_id}")
    if sequence != named:
        raise SnapshotUnreadable(f"it is not what its name says, but was taken after sequence {sequence}")
    if sequence > ledger.durable_sequence:
        raise SnapshotUnreadable(f"it was taken after sequence {sequence}, the ledger ends at {ledger.durable_sequence}")
    if last_hash != ledger.hash_at(sequence):
        raise SnapshotUnreadable(f"the ledger has another batch at sequence {sequence}")
