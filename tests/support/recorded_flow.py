"""The recorded order flow of `ordertape demo` for tests: from the data beside the project, or from the wheel that an earlier demo
left in its cache. Tests never download it.
"""

from functools import cache

import pytest

from services.cli.demo.flow import Flow, flow_of
from services.cli.demo.recording import WHEEL, Recording, cache_folder, read_files, read_wheel
from tests.support.recorded_data import FOLDER

BESIDE = FOLDER / "bitstamp-btcusd-2026-05-02"


@cache
def recording() -> Recording:
    """The venue's rows; skips the test that asks where they are not at hand."""
    if BESIDE.is_dir():
        orders, trades, meta = ((BESIDE / name).read_bytes() for name in ("orders.csv.gz", "trades.csv", "meta.json"))
        return read_files(orders, trades, meta)
    wheel = cache_folder() / WHEEL
    if not wheel.exists():
        pytest.skip(f"the recording is neither in {BESIDE} nor in {wheel}; `ordertape demo` fetches the latter")
    return read_wheel(wheel)


def recorded_flow(minutes: float | None) -> Flow:
    """The flow of the recording's first ``minutes``, or of all of it."""
    return flow_of(recording(), minutes)
