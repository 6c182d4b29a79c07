"""Folders and open ledgers for tests of the ledger."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.matching_engine.ledger import SegmentLedger


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(folder: Path) -> Iterator[SegmentLedger]:
    """A new ledger with segments so small that a few batches fill one."""
    opened = SegmentLedger.open(folder, segment_bytes_max=400)
    yield opened
    opened.close()
