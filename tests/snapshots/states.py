"""States at any place of a ledger, their hash, and snapshots of them."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from services.domain.state import ExchangeState
from services.matching_engine.ledger import SegmentReader, StoredBatch
from services.matching_engine.recovery import fold
from services.matching_engine.snapshots import Snapshot
from services.matching_engine.snapshots.folder import write_snapshot, writing


def states_of(ledger: SegmentReader) -> Iterator[tuple[StoredBatch, ExchangeState]]:
    """Each batch and the state after it; one state that goes on changing."""
    state = ExchangeState()
    for stored, _ in fold(ledger.read(), state):
        yield stored, state


def state_at(ledger: SegmentReader, sequence: int | None = None) -> ExchangeState:
    """The state after the first batch that reaches the sequence; of the whole ledger where none is given."""
    reached = ExchangeState()
    for stored, state in states_of(ledger):
        reached = state
        if sequence is not None and stored.last_sequence >= sequence:
            break
    return reached


def state_hash(state: ExchangeState) -> str:
    return sha256(repr(state.describe()).encode()).hexdigest()


def write_snapshot_at(ledger: SegmentReader, folder: Path, sequence: int) -> Path:
    """A snapshot of the state at the sequence, as it would have been made then."""
    state = state_at(ledger, sequence)
    last_hash = ledger.hash_at(state.sequence)
    assert last_hash is not None
    with writing(folder):
        return write_snapshot(folder, Snapshot(state, last_hash))
