"""`ordertape schema`, `rebuild` and `verify` start the history's module, tell it what they were told, and end as it ends."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_exchange import FakeExchange
from tests.support.ledger_builder import LedgerBuilder
from tests.support.operation import COMMAND, Running, StoreAt, operate

USERS = ("alice", "bob")


@pytest.fixture
def engine() -> Iterator[FakeExchange]:
    ledger = LedgerBuilder()
    ledger.open_market(USERS, ("BTC-USD", "ETH-USD"))
    ledger.live_on(100, USERS)
    with FakeExchange(ledger) as engine:
        yield engine


def test_a_store_is_filled_and_verified(engine: FakeExchange, tmp_path: Path) -> None:
    folder = str(tmp_path / "new")
    where = ("--data-dir", folder, "--engine", engine.address)
    filled = operate("rebuild", *where, "--chunk-commands-max", "50", command=COMMAND)
    assert filled.code == 0
    assert f"ORDERTAPE_HISTORY_STORE=sqlite ORDERTAPE_HISTORY_DATA_DIR={folder}" in filled.out
    assert operate("verify", *where, command=COMMAND).out.endswith("everything is equal\n")
    assert '"equal": true' in operate("verify", *where, "-o", "json", command=COMMAND).out


def test_the_folder_of_both_services_is_understood(engine: FakeExchange, tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    where = ("--data-dir", str(tmp_path), "--engine", engine.address)
    assert operate("rebuild", *where, command=COMMAND).code == 0
    assert (tmp_path / "history" / "history.db").exists()
    assert operate("verify", *where, command=COMMAND).code == 0


def test_what_differs_is_exit_code_1(engine: FakeExchange, tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path / "new"), "--engine", engine.address)
    assert operate("rebuild", *where, command=COMMAND).code == 0
    engine.balances["bob", "BTC"] = (7, 1)
    done = operate("verify", *where, command=COMMAND)
    assert done.code == 1
    assert "BTC of bob" in done.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)])
def test_a_signal_reaches_what_it_started(engine: FakeExchange, tmp_path: Path, number: int, code: int) -> None:
    store = StoreAt("sqlite", tmp_path / "new")
    options = ("--data-dir", str(store.folder), "--engine", engine.address)
    with Running("rebuild", *options, "--follow", command=COMMAND) as running:
        running.wait_until_stored(store, engine.durable_sequence)
        done = running.signalled(number)
    assert done.code == code
    assert f"stopped at sequence {engine.durable_sequence} of {engine.durable_sequence}" in done.err


def test_a_password_is_in_no_command_line(tmp_path: Path) -> None:
    address = "scylla://bob:topsecret@127.0.0.1:1/ks"
    with Running("rebuild", "--store", address, "--patience", "30", command=COMMAND) as running:
        assert running.process.stderr is not None
        assert "scylla://bob@127.0.0.1:1/ks cannot be reached" in running.process.stderr.readline()
        listed = subprocess.run(
            ("ps", "-ww", "-o", "args=", "--ppid", str(running.process.pid)), check=True, capture_output=True, text=True
        )
        assert "services.order_history rebuild" in listed.stdout
        assert "topsecret" not in listed.stdout
        assert running.signalled(signal.SIGTERM).code == 143


def test_a_schema_is_applied_and_shown() -> None:
    assert "the history brings its file up to date by itself" in operate("schema", "apply", command=COMMAND).out
    assert "CREATE TABLE schema_version" in operate("schema", "show", command=COMMAND).out
    assert "CREATE TABLE IF NOT EXISTS schema_version" in operate("schema", "show", "scylla://nowhere/ks", command=COMMAND).out
    refused = operate("schema", "apply", "scylla://bob:topsecret@127.0.0.1:1/ks", command=COMMAND)
    assert refused.code == 71
    assert "topsecret" not in refused.out + refused.err


def test_a_password_in_the_environment_is_not_in_the_help(tmp_path: Path) -> None:
    for name in ("schema", "rebuild", "verify"):
        done = operate(name, "--help", command=COMMAND, store="scylla://bob:topsecret@127.0.0.1:1/ks")
        assert done.code == 0
        assert "topsecret" not in done.out


@pytest.mark.parametrize("name", ["rebuild", "verify"])
def test_the_rest_of_the_options_is_explained(name: str) -> None:
    done = operate(name, "--", "--help", command=(sys.executable, "-m", "services.cli"))
    assert done.code == 0
    assert "--patience SECONDS" in done.out
    assert "Exit codes: 0" in done.out
