"""`--print-grpcurl` prints the calls of any command as lines that do the same, and makes none of them."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from services.cli.__main__ import app
from services.cli.client import Engine
from services.cli.dev import _give_money
from services.cli.exporting import export
from tests.cli.conftest import Run
from tests.support.eventually import eventually
from tests.support.exchange_process import CALL_SECONDS, Exchange
from tests.support.grpcurl import BUILD_SECONDS, grpcurl

NOBODY = ("--engine", "127.0.0.1:1"), ("--history", "127.0.0.1:1")
# What each command has to be told, and the calls that it makes.
CALLS = {
    "place BTC-USD buy 0.5 --price 60000 -u alice": ["MatchingEngine/PlaceOrder"],
    "replace first --price 60100 -u alice": ["MatchingEngine/ReplaceOrder"],
    "cancel 7 -u alice": ["MatchingEngine/CancelOrder"],
    "cancel-all -u alice --side sell": ["MatchingEngine/CancelOrders"],
    "book BTC-USD": ["MatchingEngine/GetOrderBook"],
    "instruments": ["MatchingEngine/ListInstruments"],
    "balances -u alice": ["Accounts/ListBalances"],
    "orders -u alice": ["OrderHistory/ListActiveOrders"],
    "history -u alice --status filled": ["OrderHistory/ListOrderHistory"],
    "fills -u alice": ["OrderHistory/ListFills"],
    "watch -u alice --after x.9": ["OrderHistory/WatchOrders"],
    "export -u alice --symbol BTC-USD": ["OrderHistory/ExportOrderHistory"],
    "deposit USD 5 -u alice": ["Operator/Deposit"],
    "withdraw USD 5 -u alice": ["Operator/Withdraw"],
    "halt BTC-USD --reason it's": ["Operator/SetTradingStatus"],
    "resume BTC-USD": ["Operator/SetTradingStatus"],
    "suspend alice": ["Operator/SetUserStatus"],
    "readmit alice": ["Operator/SetUserStatus"],
    "force-cancel 7": ["Operator/ForceCancelOrder"],
    "status": ["Health/Check", "LedgerFeed/GetLedgerStatus", "Health/Check", "OrderHistory/GetHistoryStatus"],
}
# They print what they have to ask before they know their last call.
ASKING = {"order", "set-instrument"}


@pytest.mark.parametrize("command", CALLS)
def test_a_command_prints_its_calls_and_makes_none(ordertape: Run, command: str) -> None:
    name, *arguments = (word.replace("it's", "it's so") for word in command.split())
    options = _options_of(name)
    where = [option for pair in NOBODY if pair[0] in options for option in pair]
    result = ordertape(name, *arguments, *where, "--print-grpcurl")
    assert (result.exit_code, result.stderr.replace("\n", "")[:8]) in ((0, ""), (0, "position")), result.output
    lines = [shlex.split(line) for line in result.stdout.splitlines()]
    assert [line[:3] for line in lines] == [["grpcurl", "-plaintext", "-d"]] * len(lines)
    assert [line[-1].removeprefix("ordertape.v1.").removeprefix("grpc.health.v1.") for line in lines] == CALLS[command]
    assert all(isinstance(json.loads(line[3]), dict) and line[4] == "127.0.0.1:1" for line in lines)


def test_every_command_that_calls_a_service_has_the_option() -> None:
    local = {"dev", "demo", "ledger", "rebuild", "verify", "schema", "conform"}
    having = {name for name in _commands() if "--print-grpcurl" in _options_of(name)}
    assert having == _commands() - local
    assert having == {command.split()[0] for command in CALLS} | ASKING
    assert "print_grpcurl" not in export.__annotations__, "the option is put around a command, not into it"


def test_wrong_usage_is_still_said(ordertape: Run) -> None:
    result = ordertape("watch", "-u", "alice", "-o", "json", "--print-grpcurl")
    assert result.exit_code == 2
    assert not result.stdout


def test_a_command_that_has_to_ask_first_says_where_nobody_answers(ordertape: Run) -> None:
    result = ordertape("order", "first", "-u", "alice", "--history", "127.0.0.1:1", "--print-grpcurl")
    assert result.exit_code == 78
    assert [line.split()[-1] for line in result.stdout.splitlines()] == ["ordertape.v1.OrderHistory/GetOrder"]


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with Exchange(tmp_path_factory.mktemp("exchange")) as exchange:
        with Engine(exchange.engine_address, CALL_SECONDS) as engine:
            _give_money(engine)
        yield exchange


@pytest.mark.timeout(BUILD_SECONDS + 120)
def test_the_printed_lines_do_what_the_command_does(ordertape: Run, exchange: Exchange) -> None:
    def printed(*arguments: str) -> list[object]:
        where = ("--engine", exchange.engine_address) if "--engine" in _options_of(arguments[0]) else ()
        where += ("--history", exchange.history_address) if "--history" in _options_of(arguments[0]) else ()
        shown = ordertape(*arguments, *where, "--print-grpcurl")
        assert shown.exit_code == 0, shown.output
        return [_run(line) for line in shown.stdout.splitlines()]

    def said(*arguments: str) -> object:
        where = ("--history", exchange.history_address)
        return json.loads(ordertape(*arguments, *where, "-o", "json").stdout)

    (placed,) = printed("place", "BTC-USD", "buy", "0.5", "--price", "60000", "-c", "it-s.mine", "-u", "alice")
    assert placed["updates"][0]["status"] == "ORDER_STATUS_NEW"  # type: ignore[index]
    exchange.wait_until_equal()
    assert said("orders", "-u", "alice")["orders"][0]["clientOrderId"] == "it-s.mine"  # type: ignore[index]
    (listed,) = printed("orders", "-u", "alice")
    assert listed["orders"] == placed["updates"]  # type: ignore[index]
    found, timeline = printed("order", "it-s.mine", "-u", "alice")
    assert (found["order"], timeline["updates"]) == (placed["updates"][0], placed["updates"])  # type: ignore[index]
    asked, changed = printed("set-instrument", "BTC-USD", "--price-band-rate", "0.1", "--request-id", "band")
    before = next(rules for rules in asked["instruments"] if rules["symbol"] == "BTC-USD")  # type: ignore[index]
    assert changed["instrument"] == {**before, "priceBandRate": "0.1"}  # type: ignore[index]
    printed("cancel", "it-s.mine", "-u", "alice")
    eventually(lambda: not said("orders", "-u", "alice")["orders"])  # type: ignore[index]


def _run(line: str) -> object:
    program: Path = grpcurl()
    environment = os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(("bash", "-c", line), check=False, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return json.loads(done.stdout)


def _commands() -> set[str]:
    return set(get_command(app).commands)  # type: ignore[attr-defined]


def _options_of(name: str) -> set[str]:
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    return {option for parameter in command.params for option in parameter.opts}
