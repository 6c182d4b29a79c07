"""``python -m clients.story [NAME...]``: builds the clients in other languages and lets each prove itself; exit code 1 where one
did not. A language whose tools are not on this machine is skipped, but where CI is set that is a failure.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from clients.story import checks
from clients.story.clients import CLIENTS, Client, Command
from clients.story.programs import Failed

GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "messages"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(slots=True)
class Outcome:
    """A line of the table at the end; a dash is what was not done."""

    client: str
    tools: str
    build: str = "-"
    story: str = "-"
    golden: str = "-"
    failed: bool = False


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        prog="scripts/test-clients",
        description="Builds the clients in other languages, runs their stories on real services, compares their golden messages.",
    )
    names = [client.name for client in CLIENTS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these of: {', '.join(names)}")
    chosen = parser.parse_args().names
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"there is no client {', '.join(unknown)}; there are {', '.join(names)}")
    with _vectors() as vectors:
        outcomes = [_prove(client, vectors) for client in CLIENTS if not chosen or client.name in chosen]
    _print(outcomes)
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def _prove(client: Client, vectors: Path | None) -> Outcome:
    outcome = Outcome(client.name, "")
    missing = [tool for tool in client.tools if shutil.which(tool) is None]
    if missing:
        outcome.tools, outcome.failed = f"no {', '.join(missing)}", bool(os.environ.get("CI"))
        _say(client, f"{'FAILED' if outcome.failed else 'skipped'}: {outcome.tools} on the PATH")
        return outcome
    outcome.tools = ", ".join(_version(command) for command in client.tools.values())
    step = "build"
    try:
        _say(client, "building")
        begun = time.monotonic()
        checks.build(client)
        outcome.build = f"{time.monotonic() - begun:.1f}"
        step = "story"
        checks.tell(client, lambda line: _say(client, line))
        outcome.story = "ok"
        step = "golden"
        if vectors is not None:
            outcome.golden = f"{checks.rewrite(client, vectors)} equal"
    except Exception as failure:
        if not isinstance(failure, Failed):
            traceback.print_exc()
        _say(client, f"FAILED: {step}: {failure}")
        setattr(outcome, step, "FAILED")
        outcome.failed = True
    return outcome


@contextmanager
def _vectors() -> Iterator[Path | None]:
    """A folder with the golden messages as files; None where the project has none."""
    if not GOLDEN.is_dir():
        yield None
        return
    from tests.golden.vectors import unpack

    with tempfile.TemporaryDirectory(prefix="ordertape-vectors-") as folder:
        unpack(Path(folder))
        yield Path(folder)


def _version(command: Command) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)  # noqa: S603 - the table's commands
    plain = _COLOUR.sub("", done.stdout)
    return next(iter(plain.splitlines()), "?").strip()


def _print(outcomes: list[Outcome]) -> None:
    table = Table("client", "tools", "build s", "story", "golden", box=None, header_style=None)
    for outcome in outcomes:
        table.add_row(outcome.client, outcome.tools, outcome.build, outcome.story, outcome.golden)
    Console(width=140, highlight=False).print(table)


def _say(client: Client, line: str) -> None:
    print(f"{client.name:<10} | {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
