"""``python -m tests.bench``: runs the parts, prints their figures."""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from tests.bench.calls import place_order, submit_orders
from tests.bench.core import matching_core
from tests.bench.figures import Figure, table_of
from tests.bench.ingest import history_ingest
from tests.bench.recovery import recovery
from tests.bench.sizes import FULL, SHORT, Sizes

Part = Callable[[Sizes, Path], list[Figure]]

PARTS: dict[str, Part] = {
    "b": place_order,
    "c": submit_orders,
    "d": matching_core,
    "e": history_ingest,
    "g": recovery,
}


def main() -> int:
    """Measure what was asked for."""
    given = _parser().parse_args()
    console = Console(stderr=True)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="ordertape-bench-", dir=given.folder) as folder:
        for name in given.only:
            with console.status(f"({name}) {PARTS[name].__doc__}"):
                figures += PARTS[name](SHORT if given.short else FULL, Path(folder))
    Console(width=140).print(table_of(figures))
    if given.json is not None:
        said = {"machine": platform.platform(), "short": given.short, "figures": [asdict(figure) for figure in figures]}
        given.json.write_text(json.dumps(said, indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures ordertape; docs/performance.md says how to read it.")
    parser.add_argument("--short", action="store_true", help="a minute, to see that it runs: no figures to quote")
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
