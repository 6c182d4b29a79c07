"""How much is measured: some seconds for a look whether it runs, some minutes for figures."""

from dataclasses import dataclass

from tests.support.cql_server import CommitlogSync


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts of each part; one more round than ``rounds`` is run, to warm up."""

    rounds: int
    orders_per_round: int
    batches_per_round: int
    core_operations: int
    ledger_orders: int
    ingest_rounds: int
    starts: int
    watch_updates: int
    live_updates: int
    orders_seen: int
    closed_orders: tuple[int, ...]
    snapshot_open_orders: int
    snapshot_commands: tuple[int, ...]
    cql_orders: int
    cql_rounds: int
    cql_syncs: tuple[CommitlogSync, ...]
    long_orders: int
    long_fills: int
    reads_per_round: int
    read_rounds: int
    share_orders: int
    share_rounds: int
    share_processes: tuple[int, ...]


FULL = Sizes(
    rounds=11,
    orders_per_round=2_000,
    batches_per_round=80,
    core_operations=60_000,
    ledger_orders=90_000,
    ingest_rounds=3,
    starts=3,
    watch_updates=60_000,
    live_updates=60_000,
    orders_seen=1_000,
    closed_orders=(50_000, 200_000, 350_000),
    snapshot_open_orders=100_000,
    snapshot_commands=(200_000, 2_000_000),
    cql_orders=9_000,
    cql_rounds=3,
    cql_syncs=("batch", "periodic"),
    long_orders=200_000,
    long_fills=100_000,
    reads_per_round=40,
    read_rounds=5,
    share_orders=12_000,
    share_rounds=2,
    share_processes=(1, 2, 4),
)
SHORT = Sizes(
    rounds=2,
    orders_per_round=500,
    batches_per_round=10,
    core_operations=5_000,
    ledger_orders=3_000,
    ingest_rounds=1,
    starts=1,
    watch_updates=3_000,
    live_updates=3_000,
    orders_seen=50,
    closed_orders=(1_000, 4_000, 7_000),
    snapshot_open_orders=2_000,
    snapshot_commands=(4_000, 40_000),
    cql_orders=900,
    cql_rounds=1,
    cql_syncs=("periodic",),
    long_orders=21_000,
    long_fills=11_000,
    reads_per_round=5,
    read_rounds=1,
    share_orders=900,
    share_rounds=1,
    share_processes=(1, 2),
)
LARGE_ORDERS = 1_000_000
"""How many orders the user of the long lists has instead where the largest size is asked for; filling takes many minutes."""
