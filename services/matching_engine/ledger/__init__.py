"""The durable ledger of the engine: append-only segment files, and engine.db, an index of them that can be thrown away."""

from services.matching_engine.ledger.errors import (
    LedgerDamaged,
    LedgerError,
    LedgerFormatUnsupported,
    LedgerIndexFailed,
    LedgerLocked,
    LedgerNotFound,
    LedgerWriteFailed,
)
from services.matching_engine.ledger.index import IndexEntries, LedgerIndex
from services.matching_engine.ledger.interface import Ledger, LedgerReader, StoredBatch
from services.matching_engine.ledger.segment_ledger import SEGMENT_BYTES_MAX, SegmentLedger
from services.matching_engine.ledger.segment_reader import SegmentReader
from services.matching_engine.ledger.survey import TornTail

__all__ = [
    "SEGMENT_BYTES_MAX",
    "IndexEntries",
    "Ledger",
    "LedgerDamaged",
    "LedgerError",
    "LedgerFormatUnsupported",
    "LedgerIndex",
    "LedgerIndexFailed",
    "LedgerLocked",
    "LedgerNotFound",
    "LedgerReader",
    "LedgerWriteFailed",
    "SegmentLedger",
    "SegmentReader",
    "StoredBatch",
    "TornTail",
]
