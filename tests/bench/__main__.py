"""``python -m tests.bench``: runs the parts, prints their figures."""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from services.serving.logs import configure_logging
from tests.bench.calls import place_order, submit_orders
from tests.bench.core import matching_core
from tests.bench.cql_bench import CqlBench
from tests.bench.cql_ingest import cql_ingest
from tests.bench.cql_profile import profile_cql_ingest
from tests.bench.figures import Figure, table_of
from tests.bench.footprint import footprint
from tests.bench.ingest import history_ingest
from tests.bench.memory import memory
from tests.bench.neighbours import Neighbours
from tests.bench.reads import reads
from tests.bench.recovery import recovery
from tests.bench.session import order_session
from tests.bench.shares import shares
from tests.bench.sizes import FULL, LARGE_ORDERS, SHORT, Sizes
from tests.bench.snapshots import snapshots
from tests.bench.watch import watch_orders
from tests.support.cql_jars import CqlServerMissing

Part = Callable[[Sizes, Path], list[Figure]]
CqlPart = Callable[[Sizes, Path, CqlBench], list[Figure]]

PARTS: dict[str, Part] = {
    "b": place_order,
    "c": submit_orders,
    "d": matching_core,
    "e": history_ingest,
    "f": watch_orders,
    "g": recovery,
    "h": memory,
    "i": snapshots,
    "j": order_session,
}
CQL_PARTS: dict[str, CqlPart] = {
    "k": cql_ingest,
    "l": reads,
    "m": shares,
    "n": footprint,
}
WIDTH = 140
OTHERS_SHARE_MAX = 0.1


def main() -> int:
    """Measure what was asked for."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the services too
    given = _parser().parse_args()
    configure_logging("WARNING")
    sizes = SHORT if given.short else FULL
    if given.large:
        sizes = replace(sizes, long_orders=LARGE_ORDERS)
    figures: list[Figure] = []
    others: dict[str, float] = {}
    profile = ""
    with _workshop(given.folder) as (folder, cql):
        for name in given.only:
            neighbours = Neighbours()
            try:
                figures += _measured(name, sizes, folder, cql)
                if name == "k" and given.profile:
                    profile = profile_cql_ingest(sizes, folder, cql)
            except CqlServerMissing as missing:
                if os.environ.get("CI"):
                    raise
                print(f"NO CQL SERVER, SO ({name}) IS NOT MEASURED HERE: {missing}", file=sys.stderr)
            others[name] = neighbours.share()
    console = Console(width=WIDTH)
    console.print(table_of(figures))
    if loud := [f"({name}) {share:.0%}" for name, share in others.items() if share > OTHERS_SHARE_MAX]:
        console.print(f"Not to be relied on: other processes had this share of the processors meanwhile: {', '.join(loud)}")
    print(profile, end="")
    if given.json is not None:
        said = {
            "machine": platform.platform(),
            "processors": os.cpu_count(),
            "short": given.short,
            "others_share": others,
            "figures": [asdict(figure) for figure in figures],
        }
        given.json.write_text(json.dumps(said, indent=2) + "\n")
    return 0


@contextmanager
def _workshop(parent: Path | None) -> Iterator[tuple[Path, CqlBench]]:
    """A folder for all files of the run, and the CQL server that has its own in there."""
    with tempfile.TemporaryDirectory(prefix="ordertape-bench-", dir=parent) as name:
        folder = Path(name)
        with CqlBench(folder / "cql") as cql:
            yield folder, cql


def _measured(name: str, sizes: Sizes, folder: Path, cql: CqlBench) -> list[Figure]:
    what = (CQL_PARTS if name in CQL_PARTS else PARTS)[name].__doc__
    with Console(stderr=True).status(f"({name}) {what}"):
        return CQL_PARTS[name](sizes, folder, cql) if name in CQL_PARTS else PARTS[name](sizes, folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measures ordertape; docs/performance.md says how to read it."
    )
    parser.add_argument("--short", action="store_true", help="some seconds, to see that it runs: no figures to quote")
    parser.add_argument(
        "--only", type=_parts, default=[*PARTS, *CQL_PARTS], metavar="A,B", help="these parts alone, for example a,b"
    )
    parser.add_argument("--large", action="store_true", help=f"(l) with a user of {LARGE_ORDERS:,} orders; takes many minutes")
    parser.add_argument("--profile", action="store_true", help="with (k): where the time of a CQL store's ingest goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the services keep their files meanwhile (a real disk)")
    return parser


def _parts(text: str) -> list[str]:
    """The echo (a) is the baseline of (b) and (c) and is measured with them."""
    named = set(text.split(","))
    if "a" in named:
        named = named - {"a"} | {"b", "c"}
    if unknown := named - PARTS.keys() - CQL_PARTS.keys():
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(sorted(unknown))}")
    return sorted(named)


if __name__ == "__main__":
    sys.exit(main())
