"""Snapshots of the engine's state, so that a start costs the same whether the ledger is an hour or a year long."""

from services.matching_engine.snapshots.folder import (
    Snapshot,
    SnapshotLocked,
    SnapshotUnusable,
    list_snapshots,
    load_snapshot,
    newest_snapshot,
    snapshot_path,
)
from services.matching_engine.snapshots.keeper import SnapshotKeeper
from services.matching_engine.snapshots.making import make_snapshot

__all__ = [
    "Snapshot",
    "SnapshotKeeper",
    "SnapshotLocked",
    "SnapshotUnusable",
    "list_snapshots",
    "load_snapshot",
    "make_snapshot",
    "newest_snapshot",
    "snapshot_path",
]
