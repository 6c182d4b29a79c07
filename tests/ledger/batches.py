"""Batches for tests of the ledger, which never looks into them: each says what it is, so that any of them can be checked."""

from collections.abc import Iterable

from services.matching_engine.ledger import SegmentReader, StoredBatch


def batch(first_sequence: int, commands: int = 1, size_bytes: int = 0) -> StoredBatch:
    last_sequence = first_sequence + commands - 1
    text = f"batch {first_sequence}..{last_sequence};".encode()
    return StoredBatch(first_sequence, last_sequence, text * max(1, size_bytes // len(text)))


def batches_after(sequence: int, commands: Iterable[int], size_bytes: int = 0) -> list[StoredBatch]:
    """One batch for each number of commands, in a row."""
    made = []
    for count in commands:
        made.append(batch(sequence + 1, count, size_bytes))
        sequence += count
    return made


def contents(ledger: SegmentReader) -> list[StoredBatch]:
    return list(ledger.read())
