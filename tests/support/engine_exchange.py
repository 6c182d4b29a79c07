"""The exchange that the engine's tests trade on, and the engine itself, in this process."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from services.matching_engine.bootstrap import Engine
from services.matching_engine.config import load

BTC_USD: Final[dict[str, Any]] = {
    "symbol": "BTC-USD",
    "base_asset": "BTC",
    "quote_asset": "USD",
    "base_asset_decimals": 8,
    "quote_asset_decimals": 10,
    "price_decimals": 2,
    "qty_decimals": 8,
    "price_step": "0.01",
    "qty_step": "0.0001",
    "price_min": "1",
    "price_max": "1000000",
    "qty_min": "0.0001",
    "qty_max": "10000",
    "notional_min": "0.01",
    "maker_fee_rate": "0.001",
    "taker_fee_rate": "0.002",
}
ETH_USD: Final = BTC_USD | {"symbol": "ETH-USD", "base_asset": "ETH"}
# Amounts so large that a notional of 10^18 can be named.
GOLD_USD: Final = BTC_USD | {"symbol": "GOLD-USD", "base_asset": "GOLD", "price_max": "9999999999", "qty_max": "9999999999"}
INSTRUMENTS: Final = (BTC_USD, ETH_USD, GOLD_USD)


def start_engine(data_dir: Path, **settings: Any) -> Engine:
    """An engine on ports of the system's choice; ``settings`` override."""
    chosen = {"listen": "127.0.0.1:0", "feeds": {"history": "tcp://127.0.0.1:0"}, "instruments": INSTRUMENTS}
    return Engine(load(None, data_dir=data_dir, **chosen | settings))


@contextmanager
def running_engine(data_dir: Path, **settings: Any) -> Iterator[Engine]:
    """An engine in this process, stopped in order at the end."""
    engine = start_engine(data_dir, **settings)
    try:
        yield engine
    finally:
        engine.drain(grace_seconds=5)
        engine.close()


def write_config(path: Path, instruments: tuple[dict[str, Any], ...] = INSTRUMENTS) -> Path:
    """The instruments as the config file of an engine that is a process of its own."""
    tables = ["\n".join(f"{name} = {json.dumps(value)}" for name, value in fields.items()) for fields in instruments]
    path.write_text("".join(f"[[instruments]]\n{table}\n\n" for table in tables))
    return path
