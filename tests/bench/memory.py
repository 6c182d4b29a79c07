"""(h): whether the services' memory stays what it is while orders come and go."""

from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.filled import close_orders
from tests.bench.ingest import wait_until_applied
from tests.bench.services import Server, deposit_money, engine_server, history_server, position_of
from tests.bench.sizes import Sizes

_UNIT = "MiB"


def memory(sizes: Sizes, folder: Path) -> list[Figure]:
    """Memory of both services after few and after many closed orders."""
    few, many = sizes.closed_orders
    with engine_server(folder / "memory-engine") as engine, history_server(folder / "memory-history", engine) as history:
        servers = {"engine": engine, "history": history}
        deposit_money(engine)
        close_orders(engine, few)
        before = _settled(servers)
        close_orders(engine, many - few)
        after = _settled(servers)
    figures = []
    for name in servers:
        baseline = Figure("h", f"{name}'s memory after {few:,} closed orders", before[name], _UNIT)
        what = f"{name}'s memory after {many:,} closed orders"
        ratio = after[name] / before[name]
        figures += [baseline, Figure("h", what, after[name], _UNIT, baseline=baseline.what, ratio=ratio)]
    return figures


def _settled(servers: dict[str, Server]) -> dict[str, float]:
    """Resident MiB of each once the history has applied all that the engine has."""
    wait_until_applied(servers["history"].address, position_of(servers["engine"]))
    return {name: server.resident_bytes() / 2**20 for name, server in servers.items()}
