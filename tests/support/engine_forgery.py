"""Ledgers that say what cannot be: every byte checked and chained, so that only who understands them can tell."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from ordertape.v1 import ledger_pb2
from services.matching_engine.ledger import SegmentReader, StoredBatch
from services.matching_engine.ledger.disk_format import encode_group, encode_header
from services.matching_engine.ledger.segment_file import segment_path

Forge = Callable[[ledger_pb2.LedgerBatch], object]


def forge_batch(data_dir: Path, sequence: int, forge: Forge) -> None:
    """Change the batch that holds the sequence, and chain it and all that follow anew; ``forge`` may give other bytes for it.

    The index of the ledger is thrown away, since it would not fit.
    """
    ledger = SegmentReader.open(data_dir / "ledger")
    previous_hash, written = b"", []
    for stored in ledger.read():
        batch = ledger_pb2.LedgerBatch.FromString(stored.data)
        batch.previous_hash = previous_hash
        data = None
        if stored.first_sequence <= sequence <= stored.last_sequence:
            data = forge(batch)
        if not isinstance(data, bytes):
            data = batch.SerializeToString()
        previous_hash = sha256(data).digest()
        written.append(StoredBatch(stored.first_sequence, stored.last_sequence, data))
    _write(data_dir, ledger.ledger_id, written)
    for file in data_dir.glob("engine.db*"):
        file.unlink()


def cut_after(data_dir: Path, is_last: Callable[[ledger_pb2.LedgerBatch], object]) -> ledger_pb2.LedgerBatch:
    """Make the first batch for which ``is_last`` holds the ledger's last, as a kill in the middle of a commit group would."""
    ledger = SegmentReader.open(data_dir / "ledger")
    written = []
    for stored in ledger.read():
        written.append(stored)
        batch = ledger_pb2.LedgerBatch.FromString(stored.data)
        if is_last(batch):
            _write(data_dir, ledger.ledger_id, written)
            return batch
    raise AssertionError("there is no such batch")


def _write(data_dir: Path, ledger_id: str, batches: list[StoredBatch]) -> None:
    folder = data_dir / "ledger"
    for segment in folder.glob("*.segment"):
        segment.unlink()
    segment_path(folder, 1).write_bytes(encode_header(ledger_id, 1) + encode_group(0, batches))
