"""`ordertape dev` starts both services for real, with users that have money, and stops them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.cli.processes import EXCHANGE_CONFIG, Listen, LocalExchange
from tests.cli.conftest import Run
from tests.support.eventually import eventually

FREE = ("--engine", "127.0.0.1:0", "--history", "127.0.0.1:0", "--feed", "127.0.0.1:0")


@dataclass
class Dev:
    """A running `ordertape dev` and what its banner said."""

    process: subprocess.Popen[str]
    banner: str

    def said(self, pattern: str) -> str:
        found = re.search(pattern, self.banner)
        assert found, f"{pattern} is not in {self.banner}"
        return found[1]

    @property
    def engine(self) -> str:
        return self.said(r"export ORDERTAPE_ENGINE=(\S+)")

    @property
    def history(self) -> str:
        return self.said(r"export ORDERTAPE_HISTORY=(\S+)")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """End it; returns the exit code and what it printed to stderr."""
        self.process.send_signal(how)
        _, stderr = self.process.communicate(timeout=40)
        return self.process.returncode, stderr


@contextmanager
def running(*arguments: str) -> Iterator[Dev]:
    command = (sys.executable, "-m", "services.cli", "dev", *FREE, *arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "ordertape watch" in line:
                break
        try:
            yield Dev(process, "".join(lines))
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=40)


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ORDERTAPE_ENGINE", "ORDERTAPE_HISTORY", "ORDERTAPE_USER", "ORDERTAPE_DATA", "ORDERTAPE_HISTORY_STORE"):
        monkeypatch.delenv(name, raising=False)


def balance(ordertape: Run, dev: Dev, asset: str) -> str:
    result = ordertape("balances", "--user", "alice", "--engine", dev.engine, "-o", "jsonl")
    return str(next(line["available"] for line in map(json.loads, result.stdout.splitlines()) if line["asset"] == asset))


def test_an_orders_life_through_dev_with_every_command_of_a_first_session(ordertape: Run, tmp_path: Path) -> None:
    with running("--data-dir", str(tmp_path)) as dev:
        alice = ("--user", "alice")
        to_engine, to_history = ("--engine", dev.engine), ("--history", dev.history)
        placed = ordertape("place", "BTC-USD", "buy", "0.5", "--price", "60000", "-c", "mine", "-o", "json", *alice, *to_engine)
        assert placed.exit_code == 0, placed.stderr
        position = json.loads(placed.stdout)["position"]
        at_least = ("--at-least", position)

        opened = json.loads(ordertape("orders", "-o", "json", *alice, *to_history, *at_least).stdout)
        assert [order["clientOrderId"] for order in opened["orders"]] == ["mine"]
        book = json.loads(ordertape("book", "BTC-USD", "-o", "jsonl", *to_engine).stdout)
        assert book == {"side": "SIDE_BUY", "price": "60000", "qty": "0.5", "orderCount": 1}

        sold = ordertape("place", "BTC-USD", "sell", "0.2", "--user", "bob", "-o", "json", *to_engine)
        assert json.loads(sold.stdout)["updates"][-1]["status"] == "ORDER_STATUS_FILLED"
        cancelled = ordertape("cancel", "mine", *alice, *to_engine, "-o", "json")
        at_least = ("--at-least", json.loads(cancelled.stdout)["position"])

        life = json.loads(ordertape("order", "mine", "-o", "json", *alice, *to_history, *at_least).stdout)
        assert life["order"]["status"] == "ORDER_STATUS_CANCELLED"
        assert [step["execType"] for step in life["updates"]] == ["EXEC_TYPE_NEW", "EXEC_TYPE_TRADE", "EXEC_TYPE_CANCELLED"]
        then = json.loads(ordertape("order", "mine", "--as-of", position, "-o", "json", *alice, *to_history).stdout)
        assert then["order"]["status"] == "ORDER_STATUS_NEW"
        assert len(then["updates"]) == 1
        shown = ordertape("order", life["order"]["orderId"], *alice, *to_history)
        assert "CANCELLED" in shown.stdout

        filled = [json.loads(line) for line in ordertape("fills", "-o", "jsonl", *alice, *to_history).stdout.splitlines()]
        assert [(line["fill"]["price"], line["fill"]["qty"]) for line in filled] == [("60000", "0.2")]
        ended = ordertape("history", "--status", "cancelled", "-o", "jsonl", *alice, *to_history).stdout.splitlines()
        assert [json.loads(line)["clientOrderId"] for line in ended] == ["mine"]
        healthy = ordertape("status", "-o", "json", *to_engine, *to_history)
        assert healthy.exit_code == 0, healthy.stdout
        assert json.loads(healthy.stdout)["history"]["lagCommands"] == "0"

        code, stderr = dev.stop()
        assert code == 0, stderr
    verified = subprocess.run(
        (sys.executable, "-m", "services.cli", "ledger", "--data-dir", str(tmp_path), "--verify"),
        capture_output=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr
    assert b"gave the same commands again" in verified.stdout


def test_files_stay_and_the_money_is_given_once(ordertape: Run, tmp_path: Path) -> None:
    for _ in range(2):
        with running("--data-dir", str(tmp_path)) as dev:
            assert balance(ordertape, dev, "USD") == "1000000"
            code, stderr = dev.stop(signal.SIGINT)
            assert code == 0, stderr
            assert "stopped" in stderr


def test_an_ephemeral_exchange_leaves_no_files_behind() -> None:
    with running("--ephemeral") as dev:
        folder = Path(dev.said(r"ledger\s+\w+ in (\S+)/engine \(removed at the end\)"))
        assert folder.is_dir()
        code, stderr = dev.stop()
        assert code == 0, stderr
    assert not folder.exists()


def test_a_service_that_dies_takes_the_other_with_it_and_the_exit_code_tells() -> None:
    with running("--ephemeral") as dev:
        children = Path(f"/proc/{dev.process.pid}/task/{dev.process.pid}/children").read_text().split()
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in children}
        (history,) = (pid for pid, command in commands.items() if "services.order_history" in command)
        os.kill(int(history), signal.SIGKILL)
        _, stderr = dev.process.communicate(timeout=40)
        assert dev.process.returncode == 4
        assert "the history ended by itself with exit code -9" in stderr
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def test_a_second_exchange_on_the_same_folder_is_refused_with_the_services_own_words(tmp_path: Path) -> None:
    with running("--data-dir", str(tmp_path)):
        command = (sys.executable, "-m", "services.cli", "dev", *FREE, "--data-dir", str(tmp_path))
        second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert second.returncode == 4
    assert "the engine ended by itself" in second.stderr


def test_ephemeral_and_a_folder_exclude_each_other(ordertape: Run, tmp_path: Path) -> None:
    assert ordertape("dev", "--ephemeral", "--data-dir", str(tmp_path)).exit_code == 2


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (None, "SQLite in {folder}/history"),
        ("scylla://10.0.0.1:9042,10.0.0.2/orders?tls=true", "scylla://10.0.0.1:9042,10.0.0.2/orders?tls=true"),
        ("scylla://alice:ses@me@10.0.0.1/orders", "scylla://alice@10.0.0.1/orders"),
    ],
)
def test_the_banner_names_the_store_and_never_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None, shown: str
) -> None:
    exchange = LocalExchange(tmp_path, Listen(), EXCHANGE_CONFIG, lambda _name, _line: None, address)
    assert exchange.store == shown.format(folder=tmp_path)
    if address is not None:
        monkeypatch.setenv("ORDERTAPE_HISTORY_STORE", address)
        assert LocalExchange(tmp_path, Listen(), EXCHANGE_CONFIG, lambda _name, _line: None).store == shown
