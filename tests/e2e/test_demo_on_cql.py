"""`ordertape demo --store ADDRESS`: the same command on a CQL store, from an empty server to its proof."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.demo.recording import cache_folder, cached_wheel
from services.cli.failures import Failure
from services.order_history.stores.cql_settings import parse_cql_address
from tests.support.cql_proof import prove_fold_in_keyspace
from tests.support.cql_server import CqlServer
from tests.support.exchange_proof import WrittenLedger, open_orders
from tests.support.store_kinds import drop_keyspace

pytestmark = pytest.mark.cql


def demo(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = (sys.executable, "-m", "services.cli", "demo", *arguments)
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=200, env={**os.environ, **environment})


def test_two_minutes_of_the_recording_on_an_empty_server_come_out_as_the_venue_made_them(
    cql_server: CqlServer, tmp_path: Path, worker_id: str
) -> None:
    try:
        cached_wheel(cache_folder())
    except Failure as failure:
        pytest.skip(f"the recording cannot be fetched here: {failure}")
    address = f"scylla://{cql_server.contact_points}/demo_{worker_id}?timeout_seconds=30"
    settings = parse_cql_address(address)
    drop_keyspace(settings)
    try:
        done = demo("--minutes", "2", "-o", "json", "--data-dir", str(tmp_path), "--store", address)
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(done.stdout)
        assert [check for check in report["checks"] if not check["ok"]] == []
        assert (report["ok"], report["store"]) == (True, "scylla")
        ledger = WrittenLedger(tmp_path / "engine")
        prove_fold_in_keyspace(settings, ledger.ledger_id, ledger.batches, open_orders(ledger.updates))
    finally:
        drop_keyspace(settings)


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    address = "scylla://alice:sesame@127.0.0.1:1/nowhere?timeout_seconds=1"
    for given, environment in ((("--store", address), {}), ((), {"ORDERTAPE_HISTORY_STORE": address})):
        done = demo("--minutes", "0.1", "--data-dir", str(tmp_path), *given, **environment)
        assert done.returncode == 4
        assert "scylla://alice@127.0.0.1:1/nowhere cannot be reached" in done.stderr
        assert "sesame" not in done.stdout + done.stderr


@pytest.mark.parametrize("address", ["scylla://alice:sesame@127.0.0.1:1/no-such-name", "redis://alice:sesame@127.0.0.1/0"])
def test_an_address_that_is_wrong_is_wrong_usage_and_keeps_the_password_to_itself(tmp_path: Path, address: str) -> None:
    done = demo("--minutes", "0.1", "--data-dir", str(tmp_path), "--store", address)
    assert done.returncode == 2
    assert "store" in done.stderr
    assert "sesame" not in done.stdout + done.stderr
