"""(n): what a closed order takes on the disk: in the ledger, in the engine's index, and in a history's store of either kind."""

from dataclasses import replace
from pathlib import Path

from services.order_history.order_processor import OrderProcessor
from services.order_history.stores import HistoryStore
from services.order_history.stores.cql import CqlHistoryStore
from services.order_history.stores.sqlite import SqliteHistoryStore
from tests.bench.cql_bench import CqlBench
from tests.bench.figures import Figure
from tests.bench.filled import filled_engine
from tests.bench.ledgers import Ledger
from tests.bench.sizes import Sizes

_KEYSPACE = "bench_footprint"
_UNIT = "bytes an order"


def footprint(sizes: Sizes, folder: Path, cql: CqlBench) -> list[Figure]:
    """Disk space of many closed orders."""
    cql.run_with("periodic")
    with filled_engine(folder, sizes.ledger_orders) as engine:
        ledger_folder = Path(engine.ready["ledger"])
    ledger = Ledger(ledger_folder)
    messages = [len(update.data) for chunk in ledger.chunks(OrderProcessor()) for update in chunk.updates]
    data = folder / "footprint"
    _fill(SqliteHistoryStore(data), ledger)
    _fill(CqlHistoryStore(cql.emptied(_KEYSPACE)), ledger)
    baseline = Figure("n", "ledger", _bytes_of(ledger_folder) / sizes.ledger_orders, _UNIT)
    sizes_of = {
        f"its updates as protobuf, {len(messages) / sizes.ledger_orders:.1f} an order": sum(messages),
        "engine.db": sum(each.stat().st_size for each in ledger_folder.parent.glob("engine.db*")),
        "history.db": _bytes_of(data),
        "CQL keyspace, one replica, as the server compresses it (LZ4)": cql.bytes_of(_KEYSPACE),
    }
    return [baseline, *(_compared(what, size / sizes.ledger_orders, baseline) for what, size in sizes_of.items())]


def _fill(store: HistoryStore, ledger: Ledger) -> None:
    for chunk in ledger.chunks(OrderProcessor()):
        store.apply(chunk)
    store.close()


def _compared(what: str, value: float, baseline: Figure) -> Figure:
    return replace(baseline, what=what, value=value, baseline=baseline.what, ratio=value / baseline.value)


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
