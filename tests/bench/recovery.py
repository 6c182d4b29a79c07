"""(g): how long an engine takes to serve again, for every million commands in its ledger."""

import time
from pathlib import Path
from statistics import median

from ordertape.v1 import ledger_pb2
from services.matching_engine.layout import INDEX_FILE, LEDGER_FOLDER
from services.matching_engine.ledger import SegmentReader
from tests.bench.figures import Figure
from tests.bench.filled import filled_engine
from tests.bench.processes import engine_server
from tests.bench.sizes import Sizes

_UNIT = "s per million commands"


def recovery(sizes: Sizes, folder: Path) -> list[Figure]:
    """An engine's start on a ledger."""
    with filled_engine(folder, sizes.ledger_orders) as server:
        data = Path(server.ready["ledger"]).parent
    reads, starts, rebuilds = [], [], []
    for _ in range(sizes.starts):
        seconds, commands = _read(data / LEDGER_FOLDER)
        empty = _start(folder / "empty-engine")
        reads.append(seconds / commands)
        starts.append((_start(data) - empty) / commands)
        (data / INDEX_FILE).unlink()
        rebuilds.append((_start(data) - empty) / commands)
    baseline = Figure("g", "ledger read and parsed", median(reads) * 1e6, _UNIT)
    return [baseline, _compared("engine's start", starts, reads), _compared("engine's start without engine.db", rebuilds, reads)]


def _compared(what: str, seconds: list[float], baseline: list[float]) -> Figure:
    ratio = median(ours / bare for bare, ours in zip(baseline, seconds, strict=True))
    return Figure("g", what, median(seconds) * 1e6, _UNIT, baseline="ledger read and parsed", ratio=ratio)


def _read(ledger: Path) -> tuple[float, int]:
    began = time.perf_counter()
    reader = SegmentReader.open(ledger, verify_from_sequence=1)
    for stored in reader.read():
        ledger_pb2.LedgerBatch.FromString(stored.data)
    return time.perf_counter() - began, reader.durable_sequence


def _start(data: Path) -> float:
    began = time.perf_counter()
    with engine_server(data):
        return time.perf_counter() - began
