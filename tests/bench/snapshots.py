"""(i): the engine's start from a snapshot, on ledgers of different length, and order entry while a snapshot is made."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from ordertape.v1 import ledger_pb2
from ordertape.v1 import matching_engine_pb2 as engine
from services.cli.processes import EXCHANGE_CONFIG
from services.domain.commands import Command, StartEngine
from services.domain.events import ExchangeRules
from services.domain.exchange import RULES_VERSION, decide
from services.domain.state import ExchangeState
from services.matching_engine.config import load
from services.matching_engine.layout import INDEX_FILE, LEDGER_FOLDER, SNAPSHOTS_FOLDER
from services.matching_engine.ledger import LedgerIndex, SegmentLedger, StoredBatch
from services.matching_engine.memory import index_entries
from services.matching_engine.snapshots import Snapshot
from services.matching_engine.snapshots.folder import write_snapshot, writing
from services.wire.instrument_codec import encode_exchange_rules, encode_rules
from services.wire.ledger_codec import encode_batch
from services.wire.requests import LedgerRequest
from services.wire.stored_requests import command_of
from tests.bench.figures import Figure, Round, compared, figure_of
from tests.bench.grpc_load import GrpcLoad
from tests.bench.orders import MONEY, USERS, closing, resting
from tests.bench.processes import PLACE_ORDER, Server, engine_server
from tests.bench.sizes import Sizes

_GROUP_BATCHES = 1000
_CALLS_AT_ONCE = 16
_CALLS_PER_TURN = 400
_RULES = ExchangeRules(trades_per_order_max=5000)


def snapshots(sizes: Sizes, folder: Path) -> list[Figure]:
    """An engine's start from a snapshot, and order entry beside the making of one."""
    figures = []
    none_by_itself = patch.dict(os.environ, ORDERTAPE_ENGINE_SNAPSHOT_EVERY_COMMANDS="0")
    for commands in sizes.snapshot_commands:
        data = folder / f"ledger-of-{commands}"
        write_ledger(data, sizes.snapshot_open_orders, commands)
        seconds = median(_start(data) for _ in range(sizes.starts))
        what = f"engine's start, {sizes.snapshot_open_orders:,} open orders, {commands:,} commands"
        figures.append(Figure("i", what, seconds, "s"))
    with none_by_itself, engine_server(folder / f"ledger-of-{sizes.snapshot_commands[0]}") as server:
        return figures + _order_entry(sizes, server)


def write_ledger(data: Path, open_orders: int, commands: int) -> None:
    """The data folder of an engine that has taken at least so many commands, has so many orders open, and has just made a
    snapshot. Written by the core alone, since over gRPC it takes many times as long.
    """
    data.mkdir(parents=True)
    ledger = SegmentLedger.open(data / LEDGER_FOLDER)
    index = LedgerIndex.open(data / INDEX_FILE, ledger.ledger_id, 0)
    state, last_hash, group = ExchangeState(), b"", []
    now = time.time_ns() // 1000 - commands * 1000  # so that no time of the ledger is ahead of the clock
    for request in _requests(ledger.ledger_id, open_orders):
        now = max(now + 100, state.time + 1)
        events = decide(state, _command(request), now)
        batch = encode_batch(state, events, request, now, last_hash)
        state.apply(events, now)
        last_hash = sha256(batch.data).digest()
        group.append(batch)
        done = state.sequence >= commands and len(state.orders) >= open_orders
        if done or len(group) == _GROUP_BATCHES:
            ledger.append([StoredBatch(one.first_sequence, one.last_sequence, one.data) for one in group])
            for one in group:
                index.record(index_entries(one.message))
            group = []
        if done:
            break
    with writing(data / SNAPSHOTS_FOLDER):
        write_snapshot(data / SNAPSHOTS_FOLDER, Snapshot(state, last_hash))
    index.close()
    ledger.close()


def _requests(ledger_id: str, open_orders: int) -> Iterator[LedgerRequest]:
    """The beginning of an exchange, the orders that rest, and then without end orders that come and go."""
    start = ledger_pb2.StartEngine(ledger_id=ledger_id, epoch=1, rules_version=RULES_VERSION, program_version="bench")
    start.rules.CopyFrom(encode_exchange_rules(_RULES))
    yield LedgerRequest("start_engine", start)
    for instrument in load(EXCHANGE_CONFIG).instruments:
        apply = ledger_pb2.ApplyConfig()
        encode_rules(instrument.rules(), apply.instrument)
        yield LedgerRequest("apply_config", apply)
    for number, user_id in zip(count(), USERS, strict=False):
        for asset, amount in MONEY.items():
            deposit = engine.DepositRequest(user_id=user_id, asset=asset, amount=amount, request_id=f"{number}-{asset}")
            yield LedgerRequest("deposit", deposit)
    for place in islice(resting(), open_orders):
        yield LedgerRequest("place_order", place)
    for item in closing():
        cancels = item.HasField("cancel")
        yield LedgerRequest("cancel_order", item.cancel) if cancels else LedgerRequest("place_order", item.place)


def _command(request: LedgerRequest) -> Command:
    if request.name == "start_engine":
        start: Any = request.message
        return StartEngine(start.ledger_id, start.epoch, start.rules_version, start.program_version, _RULES)
    named: dict[str, Any] = {request.name: request.message}
    return command_of(ledger_pb2.LedgerBatch(**named))


def _start(data: Path) -> float:
    began = time.perf_counter()
    with engine_server(data):
        return time.perf_counter() - began


def _order_entry(sizes: Sizes, server: Server) -> list[Figure]:
    """While each snapshot is made, its process works and is stopped in turns, so that whatever else the machine does falls on
    the calls beside it and on those without it.
    """
    data = Path(server.ready["ledger"]).parent
    command = [sys.executable, "-m", "services.matching_engine", "snapshot", "--data-dir", str(data), "--log-level", "ERROR"]
    requests = (place.SerializeToString() for place in resting())
    beside, alone = [], []
    with GrpcLoad(server.address, PLACE_ORDER) as gauge:
        _round(server, gauge, requests)
        for _ in range(sizes.starts):
            maker = subprocess.Popen(command)
            while maker.poll() is None:
                beside.append(_round(server, gauge, requests))
                maker.send_signal(signal.SIGSTOP)
                alone.append(_round(server, gauge, requests))
                maker.send_signal(signal.SIGCONT)
            assert maker.returncode == 0
    baseline = figure_of("i", f"PlaceOrder, {_CALLS_AT_ONCE} at once", "orders/s", alone)
    figure = figure_of("i", "the same while a snapshot is made", "orders/s", beside)
    return [baseline, compared(figure, beside, baseline, alone)]


def _round(server: Server, gauge: GrpcLoad, requests: Iterator[bytes]) -> Round:
    used = server.cpu_seconds()
    calls = gauge.call_all(list(islice(requests, _CALLS_PER_TURN)), _CALLS_AT_ONCE)
    return Round(_CALLS_PER_TURN, calls.seconds, server.cpu_seconds() - used, calls.latencies)
