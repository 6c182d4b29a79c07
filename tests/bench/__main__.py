"""``python -m tests.bench``: runs the parts, prints their figures."""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from services.serving.logs import configure_logging
from tests.bench.calls import place_order, submit_orders
from tests.bench.core import matching_core
from tests.bench.figures import Figure, table_of
from tests.bench.ingest import history_ingest
from tests.bench.memory import memory
from tests.bench.neighbours import Neighbours
from tests.bench.recovery import recovery
from tests.bench.session import order_session
from tests.bench.sizes import FULL, SHORT, Sizes
from tests.bench.snapshots import snapshots
from tests.bench.watch import watch_orders

Part = Callable[[Sizes, Path], list[Figure]]

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
WIDTH = 140
OTHERS_SHARE_MAX = 0.1


def main() -> int:
    """Measure what was asked for."""
    given = _parser().parse_args()
    configure_logging("WARNING")
    sizes = SHORT if given.short else FULL
    figures: list[Figure] = []
    others: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="ordertape-bench-", dir=given.folder) as folder:
        for name in given.only:
            neighbours = Neighbours()
            with Console(stderr=True).status(f"({name}) {PARTS[name].__doc__}"):
                figures += PARTS[name](sizes, Path(folder))
            others[name] = neighbours.share()
    console = Console(width=WIDTH)
    console.print(table_of(figures))
    if loud := [f"({name}) {share:.0%}" for name, share in others.items() if share > OTHERS_SHARE_MAX]:
        console.print(f"Not to be relied on: other processes had this share of the processors meanwhile: {', '.join(loud)}")
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measures ordertape; docs/performance.md says how to read it."
    )
    parser.add_argument("--short", action="store_true", help="some seconds, to see that it runs: no figures to quote")
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="A,B", help="these parts alone, for example a,b")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the services keep their files meanwhile (a real disk)")
    return parser


def _parts(text: str) -> list[str]:
    """The echo (a) is the baseline of (b) and (c) and is measured with them."""
    named = set(text.split(","))
    if "a" in named:
        named = named - {"a"} | {"b", "c"}
    if unknown := named - PARTS.keys():
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(sorted(unknown))}")
    return sorted(named)


if __name__ == "__main__":
    sys.exit(main())
