"""``python -m tests.torture``: rounds of torture, a line for each, exit code 1 where one failed."""

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.support.cql_jars import CqlServerMissing
from tests.torture.rounds import ROUNDS, Round, Skipped
from tests.torture.store_rounds import STORE_ROUNDS

# By the history's store: SQLite, one CQL server, three of them.
KINDS = {"sqlite": ROUNDS, **STORE_ROUNDS}


def main() -> int:
    """Run what was asked for."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the services too
    parser = _parser()
    given = parser.parse_args()
    kinds = KINDS[given.store]
    names = given.only or list(kinds)
    if unknown := set(names) - kinds.keys():
        parser.error(f"there is no kind {', '.join(sorted(unknown))} on {given.store}: there are {', '.join(kinds)}")
    seed = given.seed if given.seed is not None else secrets.randbelow(10**9)
    print(f"torture: {given.rounds} rounds of {', '.join(names)} on {given.store}; seed {seed}", flush=True)
    failures = 0
    for number in range(1, given.rounds + 1):
        for name in names:
            failures += not _run(f"{number}/{given.rounds} {name}", kinds[name], f"{seed}-{number}-{name}", given.minutes)
    print(f"torture: {failures} failed; seed {seed}")
    return 1 if failures else 0


def _run(title: str, play: Round, seed: str, minutes: float | None) -> bool:
    """One run; true where all was as it must be. A failed one leaves its files and says where."""
    folder = Path(tempfile.mkdtemp(prefix="ordertape-torture-"))
    begun = time.monotonic()
    try:
        did = play(folder, random.Random(seed), minutes)
    except Skipped as skipped:
        print(f"SKIPPED {title}: {skipped}", flush=True)
        return True
    except CqlServerMissing as missing:
        # Where nobody would read that it was not tested, it fails.
        print(f"{'FAILED ' if os.environ.get('CI') else 'SKIPPED'} {title}: {missing}", flush=True)
        return not os.environ.get("CI")
    except KeyboardInterrupt:
        raise
    except BaseException:
        traceback.print_exc()
        print(f"FAILED  {title} after {time.monotonic() - begun:.1f} s; its files and logs are in {folder}", flush=True)
        return False
    shutil.rmtree(folder, ignore_errors=True)  # a process that was making a snapshot may still be on its way out of it
    print(f"ok      {title} {time.monotonic() - begun:.1f} s {json.dumps(did)}", flush=True)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/torture",
        description="Kills, freezes, cuts and fills what it can while orders come, and proves that nothing was lost or doubled.",
    )
    parser.add_argument("rounds", nargs="?", type=int, default=3, help="how often to run each kind (default 3)")
    parser.add_argument("--seed", type=int, help="choose the same flows and faults again (their timing is the machine's)")
    parser.add_argument(
        "--store", choices=KINDS, default="sqlite", help="the history's store, whose servers are tortured too: SQLite (default), "
        "a CQL server, or a ring of three",
    )  # fmt: skip
    kinds = "; ".join(f"on {store}: {', '.join(rounds)}" for store, rounds in KINDS.items())
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="KIND,...", help=f"some of those {kinds}")
    parser.add_argument("--minutes", type=float, help="replay only so many minutes in the demo rounds (default: all 30)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
