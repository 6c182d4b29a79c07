"""``python -m services.matching_engine snapshot``: makes a snapshot from the last one and the batches since, beside a running
engine. It reads the ledger's files alone, so order entry neither waits for it nor knows of it.
"""

import argparse
import gc
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from services.domain.state import ExchangeState
from services.matching_engine.exit_codes import BAD_LEDGER, BUSY, OS_ERROR
from services.matching_engine.layout import LEDGER_FOLDER, SNAPSHOTS_FOLDER
from services.matching_engine.ledger import LedgerError, SegmentReader
from services.matching_engine.recovery import fold
from services.matching_engine.snapshots.folder import (
    Snapshot,
    SnapshotLocked,
    newest_snapshot,
    remove_others,
    write_snapshot,
    writing,
)
from services.serving.logs import configure_logging
from services.wire.ledger_codec import LedgerUnreadable

# Whoever sends orders comes first.
_NICENESS: Final = 10

_log = structlog.get_logger()


def make_snapshot(ledger_folder: Path, folder: Path) -> Path | None:
    """Makes the snapshot of all that is durable; None where the newest one is that already. It is kept, and the one that it was
    made from; all others go.

    Raises LedgerError, LedgerUnreadable, SnapshotLocked, OSError.
    """
    began = time.monotonic()
    ledger = SegmentReader.open(ledger_folder)
    with writing(folder):
        state, last_hash = newest_snapshot(folder, ledger) or Snapshot(ExchangeState(), b"")
        from_sequence = state.sequence
        for _ in fold(ledger.read(from_sequence), state, previous_hash=last_hash):
            pass
        if state.sequence == from_sequence:
            return None
        path = write_snapshot(folder, Snapshot(state, ledger.last_hash))
        remove_others(folder, state.sequence, from_sequence)
    _log.info("made a snapshot", file=str(path), from_sequence=from_sequence, open_orders=len(state.orders),
              bytes=path.stat().st_size, seconds=round(time.monotonic() - began, 1))  # fmt: skip
    return path


def main(arguments: Sequence[str]) -> int:
    """Make one snapshot; the exit code is 65 for a ledger that is damaged, 71 where it cannot be written, 75 where another
    process is just making one.
    """
    given = _parser().parse_args(arguments)
    configure_logging(given.log_level)
    os.nice(_NICENESS)
    gc.disable()  # nothing here has cycles, and the process is about to end
    try:
        made = make_snapshot(given.data_dir / LEDGER_FOLDER, given.data_dir / SNAPSHOTS_FOLDER)
    except (LedgerError, LedgerUnreadable) as error:
        return _failed(error, BAD_LEDGER)
    except SnapshotLocked as error:
        return _failed(error, BUSY)
    except OSError as error:
        return _failed(error, OS_ERROR)
    if made is None:
        _log.info("the newest snapshot has all of the ledger")
    return 0


def _failed(error: Exception, code: int) -> int:
    print(f"no snapshot was made: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.matching_engine snapshot",
        description="Makes a snapshot of the engine's state, beside a running engine; the next start reads only what came later.",
    )
    parser.add_argument("--data-dir", type=Path, required=True, metavar="DIR", help="the engine's data folder")
    parser.add_argument("--log-level", default="INFO", metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return parser
