"""Where the venues' recordings are: beside the project, or where ORDERTAPE_RECORDED_DATA says. They may not be handed on, so the
project has none of its own; tests that want one are skipped where it is not.
"""

import csv
import lzma
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("ORDERTAPE_RECORDED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def recorded(name: str) -> Path:
    """A file or folder of the recordings; skips the test that asks where it is not there."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"the recording {name} is not in {FOLDER}; ORDERTAPE_RECORDED_DATA says where recordings are")
    return path


def rows(name: str) -> Iterator[list[str]]:
    """The lines of a recorded .csv.xz file."""
    with lzma.open(recorded(name), "rt") as file:
        yield from csv.reader(file)
