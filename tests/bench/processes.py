"""Starts what is measured as processes of their own, and asks the kernel what they cost."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc

from ordertape.v1 import ledger_pb2, ledger_pb2_grpc
from ordertape.v1 import matching_engine_pb2 as engine
from services.cli.processes import EXCHANGE_CONFIG, ServiceProcess
from services.wire.position import encode_position
from tests.bench.grpc_load import GrpcLoad
from tests.bench.orders import MONEY, USERS

_ANYWHERE: Final = "127.0.0.1:0"
PLACE_ORDER: Final = "/ordertape.v1.MatchingEngine/PlaceOrder"
SUBMIT_ORDERS: Final = "/ordertape.v1.MatchingEngine/SubmitOrders"
ORDER_SESSION: Final = "/ordertape.v1.MatchingEngine/OrderSession"
_DEPOSIT: Final = "/ordertape.v1.Operator/Deposit"
WATCH_ORDERS: Final = "/ordertape.v1.OrderHistory/WatchOrders"


class Server(NamedTuple):
    """A running service: where it serves, and its process."""

    address: str
    pid: int
    ready: dict[str, Any]

    def cpu_seconds(self) -> float:
        """Processor time that the process has used so far: clock_getcpuclockid(3), which Python has for threads only."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def resident_bytes(self) -> int:
        """Memory of the process that is in RAM."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


@contextmanager
def engine_server(folder: Path) -> Iterator[Server]:
    """An engine on the ledger in ``folder``, with a feed for a history."""
    arguments = ["--data-dir", str(folder), "--config", str(EXCHANGE_CONFIG), "--listen", _ANYWHERE]
    with _running("engine", "services.matching_engine", [*arguments, "--feed", f"history=tcp://{_ANYWHERE}"], folder) as server:
        yield server


@contextmanager
def history_server(folder: Path, engine_at: Server, **settings: Any) -> Iterator[Server]:
    """A history of the engine's, with its store in ``folder`` unless ``settings`` name another."""
    where = ["--engine-address", engine_at.address, "--engine-feed", engine_at.ready["feeds"]["history"]]
    arguments = ["--data-dir", str(folder), "--listen", _ANYWHERE, *where]
    if settings:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "history.toml"
        config.write_text("".join(f"{name} = {_toml(value)}\n" for name, value in settings.items()))
        arguments += ["--config", str(config)]
    with _running("history", "services.order_history", arguments, folder) as server:
        yield server


@contextmanager
def bare_server(kind: str, folder: Path) -> Iterator[Server]:
    """The baseline of ``kind`` (bare_server.py names them) with the answers that were recorded in ``folder``."""
    with _running(kind, "tests.bench.bare_server", [kind, str(folder)], folder) as server:
        yield server


def deposit_money(server: Server) -> None:
    """Give every user all the money there is to have."""
    deposits = [
        engine.DepositRequest(user_id=user_id, asset=asset, amount=amount, request_id=f"bench-{asset}").SerializeToString()
        for user_id in USERS
        for asset, amount in MONEY.items()
    ]
    with GrpcLoad(server.address, _DEPOSIT) as load:
        load.call_all(deposits, 16)


def position_of(engine_at: Server) -> str:
    """The engine's durable position."""
    with grpc.insecure_channel(engine_at.address) as channel:
        status = ledger_pb2_grpc.LedgerFeedStub(channel).GetLedgerStatus(ledger_pb2.GetLedgerStatusRequest())
    return encode_position(status.ledger_id, status.durable_sequence)


@contextmanager
def _running(name: str, module: str, arguments: list[str], folder: Path) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    process = ServiceProcess(name, module, arguments, folder / f"{name}.ready.json", lambda _name, _line: None)
    try:
        ready = process.wait_until_ready()
        yield Server(ready["address"], process.process.pid, ready)
    finally:
        process.stop()


def _toml(value: Any) -> str:
    """A setting as TOML has it: text and numbers as JSON, a table in one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)} = {json.dumps(each)}' for key, each in value.items())}}}"
    return json.dumps(value)
