"""``python -m tests.torture``: rounds of torture, a line for each, exit code 1 where one failed."""

import argparse
import json
import random
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.torture.rounds import ROUNDS, Round, Skipped


def main() -> int:
    """Run what was asked for."""
    given = _parser().parse_args()
    seed = given.seed if given.seed is not None else secrets.randbelow(10**9)
    print(f"torture: {given.rounds} rounds of {', '.join(given.only)}; seed {seed}", flush=True)
    failures = 0
    for number in range(1, given.rounds + 1):
        for name in given.only:
            failures += not _run(f"{number}/{given.rounds} {name}", ROUNDS[name], f"{seed}-{number}-{name}", given.minutes)
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
    parser.add_argument("--only", type=_kinds, default=list(ROUNDS), metavar="KIND,...", help=f"some of: {', '.join(ROUNDS)}")
    parser.add_argument("--minutes", type=float, help="replay only so many minutes in the demo rounds (default: all 30)")
    return parser


def _kinds(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - ROUNDS.keys():
        raise argparse.ArgumentTypeError(f"there is no kind {', '.join(sorted(unknown))}")
    return names


if __name__ == "__main__":
    sys.exit(main())
