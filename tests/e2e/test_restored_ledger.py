"""A ledger that was put back from an older copy, after which the engine goes on and writes other things: the history has what the
ledger no longer has, so it halts and says at which sequence, rather than serve either story.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from ordertape.v1 import order_history_pb2 as history_pb2
from tests.support.eventually import eventually
from tests.support.exchange_process import Exchange
from tests.support.order_flow import Load, Step, flow_of

OTHER_ORDERS = flow_of(seed=77, messages=200)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    """With snapshots that may be newer than the ledger that is put back."""
    with Exchange(tmp_path / "exchange", engine_settings={"snapshot_every_commands": 500}) as exchange:
        yield exchange


def run(exchange: Exchange, steps: list[Step]) -> int:
    """Send the steps; the sequence that the history has after them."""
    with Load(exchange.engine_address, steps) as load:
        load.finish()
    return exchange.wait_until_equal()


def copy_ledger(exchange: Exchange, copy: Path) -> None:
    """A backup of the engine's folder, taken while the engine is down."""
    exchange.engine.terminate()
    shutil.copytree(exchange.engine_folder, copy)
    exchange.engine.start()


def put_back(exchange: Exchange, copy: Path, *, all_of_it: bool) -> None:
    """The backup takes the ledger's place; with ``all_of_it`` the index's and the snapshots' as well."""
    exchange.engine.terminate()
    part = exchange.engine_folder if all_of_it else exchange.engine_folder / "ledger"
    shutil.rmtree(part)
    shutil.copytree(copy if all_of_it else copy / "ledger", part)
    exchange.engine.start()


def halt_reason(exchange: Exchange, at_sequence: int) -> str:
    """Why the history halted: everything that it says of itself has to agree on that."""
    reason = eventually(lambda: exchange.history_status().halt_reason, 60)
    status = exchange.history_status()
    assert status.state == history_pb2.HISTORY_STATE_HALTED
    assert f"sequence {at_sequence}:" in reason
    assert status.applied_sequence == at_sequence
    eventually(lambda: exchange.history_health() == "NOT_SERVING")
    with exchange.history_client() as history, pytest.raises(grpc.RpcError) as refused:
        history.orders.ListOrderHistory(history_pb2.ListOrderHistoryRequest(user_id="alice"), timeout=10)
    assert refused.value.code() is grpc.StatusCode.DATA_LOSS
    assert reason in refused.value.details()
    told = exchange.command("status", "-o", "json")
    assert told.returncode == 78
    assert json.loads(told.stdout)["engine"]["health"] == "SERVING"
    assert json.loads(told.stdout)["history"]["health"] == "NOT_SERVING"
    assert json.loads(told.stdout)["history"]["haltReason"] == reason
    assert reason in exchange.command("status").stdout
    assert exchange.history.logged("halted")
    return reason


def test_a_ledger_from_an_older_copy_halts_a_running_history(exchange: Exchange, flow: list[Step], tmp_path: Path) -> None:
    run(exchange, flow[:60])
    copy_ledger(exchange, tmp_path / "copy")
    at_sequence = run(exchange, flow[60:])
    put_back(exchange, tmp_path / "copy", all_of_it=True)
    reason = halt_reason(exchange, at_sequence)
    assert f"the engine's ledger ends at {exchange.durable_sequence()}" in reason
    assert "put back from an older copy" in reason
    with Load(exchange.engine_address, OTHER_ORDERS) as load:
        load.finish()
    assert halt_reason(exchange, at_sequence) == reason, "the engine goes on, the history does not"


@pytest.mark.parametrize("all_of_it", [True, False])
def test_a_ledger_that_has_parted_from_a_history_halts_it_at_its_start(
    exchange: Exchange, flow: list[Step], tmp_path: Path, all_of_it: bool
) -> None:
    run(exchange, flow[:60])
    copy_ledger(exchange, tmp_path / "copy")
    at_sequence = run(exchange, flow[60:120])
    assert exchange.history.terminate() == 0
    put_back(exchange, tmp_path / "copy", all_of_it=all_of_it)
    with Load(exchange.engine_address, OTHER_ORDERS) as load:
        load.finish()
    assert exchange.durable_sequence() > at_sequence
    exchange.history.launch()
    exchange.history.wait_until_ready()
    assert "they have parted" in halt_reason(exchange, at_sequence)
    exchange.history.kill()
    exchange.history.launch()
    exchange.history.wait_until_ready()
    assert "they have parted" in halt_reason(exchange, at_sequence), "a restart does not make it right"


def test_a_ledger_of_another_exchange_halts_the_history(exchange: Exchange, flow: list[Step]) -> None:
    at_sequence = run(exchange, flow[:40])
    exchange.engine.terminate()
    shutil.rmtree(exchange.engine_folder)
    exchange.engine.start()
    assert "this history follows" in halt_reason(exchange, at_sequence)
