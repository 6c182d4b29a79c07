"""Gets the recorded order flow: half an hour of Bitstamp's BTC/USD, every order event and trade with both order ids, as the
package ob-analytics carries it. It is fetched at the moment of use and read inside its wheel; its licence (GPL) and its venue's
terms do not let us ship it.
"""

import csv
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from services.cli.failures import FETCH_FAILED, Failure

REQUIREMENT = "ob-analytics==0.1.0"
WHEEL = "ob_analytics-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "0326a93aaee4ea08356d8dea59868d68592623a2434bbe4d9be379fa855c9c62"
_FOLDER = "ob_analytics/_sample_data"


class OrderRow(NamedTuple):
    """A line of the venue's order events: the columns that we read."""

    venue_id: str
    local_ms: int
    price: str
    volume: str  # what remains
    action: str  # created, changed, deleted
    direction: str  # bid, ask


class TradeRow(NamedTuple):
    """A line of the venue's trades: the columns that we read."""

    buy_id: str
    sell_id: str
    taker_side: str  # buy, sell
    price: str
    amount: str


@dataclass(frozen=True, slots=True)
class Recording:
    """The venue's rows: the book that stood at the beginning, every order event after that, every trade, and the orders that were
    left at the end with what remained of them.
    """

    initial: list[OrderRow]
    live: list[OrderRow]
    left: list[OrderRow]
    trades: list[TradeRow]


def fetch() -> Recording:
    """The recording, from the cache or else from the package index. Raises Failure."""
    return read_wheel(cached_wheel(cache_folder()))


def cache_folder() -> Path:
    """ORDERTAPE_CACHE, or the user's cache folder for ordertape."""
    named = os.environ.get("ORDERTAPE_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ordertape"


def cached_wheel(folder: Path) -> Path:
    """The wheel in ``folder``, downloaded where it is not there yet and always checked. Raises Failure."""
    wheel = folder / WHEEL
    if not wheel.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Downloaded beside its place and then moved there, so that a broken download is never taken for the wheel.
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            command = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps")
            result = subprocess.run(  # noqa: S603 - our own interpreter and constants
                (*command, "--dest", fresh, REQUIREMENT), check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            if result.returncode:
                lines = result.stderr.decode(errors="replace").splitlines()
                raise Failure(FETCH_FAILED, f"pip could not download {REQUIREMENT}, which the demo replays", lines[-3:])
            _check(Path(fresh) / WHEEL)
            os.replace(Path(fresh) / WHEEL, wheel)
    _check(wheel)
    return wheel


def read_wheel(wheel: Path) -> Recording:
    """The recording inside the wheel; nothing is unpacked."""
    with zipfile.ZipFile(wheel) as archive:
        return read_files(*(archive.read(f"{_FOLDER}/{name}") for name in ("orders.csv.gz", "trades.csv", "meta.json")))


def read_files(orders_csv_gz: bytes, trades_csv: bytes, meta_json: bytes) -> Recording:
    """The recording in these three files."""
    meta = json.loads(meta_json)
    table = csv.reader(io.StringIO(gzip.decompress(orders_csv_gz).decode("ascii")))
    next(table)
    rows = [
        OrderRow(order_id, int(local_ms), price, volume, action, direction)
        for order_id, local_ms, _, price, volume, action, direction in table
    ]
    live_from, live_until = meta["synthetic_created"], len(rows) - meta["synthetic_deleted"]
    trades = [
        TradeRow(row["buy_order_id"], row["sell_order_id"], row["side"], row["price"], row["amount"])
        for row in csv.DictReader(io.StringIO(trades_csv.decode("ascii")))
    ]
    return Recording(rows[:live_from], rows[live_from:live_until], rows[live_until:], trades)


def _check(wheel: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise Failure(
            FETCH_FAILED,
            f"{wheel} is not the {REQUIREMENT} that this demo knows",
            [f"its SHA-256 is {digest}, not {WHEEL_SHA256}: delete it and try again"],
        )
