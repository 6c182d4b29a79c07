"""(h): whether the services' memory stays what it is while orders come and go."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.filled import close_orders
from tests.bench.ingest import wait_until_applied
from tests.bench.processes import deposit_money, engine_server, history_server, position_of
from tests.bench.sizes import Sizes

_UNIT = "MiB"


def memory(sizes: Sizes, folder: Path) -> list[Figure]:
    """Memory of both services after few and after many closed orders."""
    measured: dict[str, list[float]] = {"engine": [], "history": []}
    with engine_server(folder / "memory-engine") as engine, history_server(folder / "memory-history", engine) as history:
        deposit_money(engine)
        closed = 0
        for count in sizes.closed_orders:
            close_orders(engine, count - closed)
            closed = count
            wait_until_applied(history.address, position_of(engine))
            measured["engine"].append(engine.resident_bytes() / 2**20)
            measured["history"].append(history.resident_bytes() / 2**20)
    return [figure for name, values in measured.items() for figure in _figures(name, sizes.closed_orders, values)]


def _figures(name: str, counts: Sequence[int], values: Sequence[float]) -> Iterator[Figure]:
    """Each value is compared with the one before it."""
    before: Figure | None = None
    for count, value in zip(counts, values, strict=True):
        figure = Figure("h", f"{name}'s memory after {count:,} closed orders", value, _UNIT)
        if before is not None:
            figure = replace(figure, baseline=before.what, ratio=value / before.value)
        yield figure
        before = figure
