"""Adds the golden vectors that the contract asks for and that are not there yet; those that are there stay what they are."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.golden import vectors


def main(arguments: Sequence[str]) -> int:
    """Add, check or unpack the vectors: the exit code."""
    given = _parser().parse_args(arguments)
    if given.unpack is not None:
        print(f"{vectors.unpack(given.unpack)} vectors are in {given.unpack}")
        return 0
    if given.ledger is not None:
        from tests.golden.ledger_making import make

        with tempfile.TemporaryDirectory(prefix="ordertape-golden-") as folder:
            make(given.ledger, Path(folder))
        return 0
    there = vectors.stored()
    if wrong := vectors.changed(there) or vectors.misread_all(there):
        print(wrong, file=sys.stderr)
        return 1
    added = vectors.missing(there)
    if not added:
        print(f"all {len(there)} golden vectors are there")
        return 0
    if given.check:
        print(f"{len(added)} golden vectors are missing, {added[0].stem} first: run scripts/golden", file=sys.stderr)
        return 1
    vectors.store(sorted([*there, *added], key=lambda vector: vector.message))
    print(*(f"added {vector.stem}" for vector in added), sep="\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/golden", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="change nothing; fail where a vector is missing, changed or misread")
    what.add_argument(
        "--unpack",
        type=Path,
        metavar="DIR",
        help="write each vector as MESSAGE--CASE.bin and .json, for programs that read files",
    )
    what.add_argument(
        "--ledger", metavar="NAME", help="let today's engine write a ledger, which is kept under this name for good"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
