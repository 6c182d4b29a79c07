"""docs/grpcurl.md has a line for every call, and each of them works as it stands there."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.client import Engine
from services.cli.dev import _give_money
from services.cli.options import ENGINE_DEFAULT, HISTORY_DEFAULT
from tests.golden.schema import files
from tests.support.call_lines import ENGINE, HISTORY, PAGE, CallLine, call_lines, documents_of, without_space
from tests.support.exchange_process import CALL_SECONDS, Exchange
from tests.support.grpcurl import BUILD_SECONDS, grpcurl

STOPPED_BY_TIMEOUT = 124


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    """As `scripts/dev --ephemeral` has it."""
    with Exchange(tmp_path) as exchange:
        with Engine(exchange.engine_address, CALL_SECONDS) as engine:
            _give_money(engine)
        yield exchange


def test_every_call_has_a_line_for_each_tool() -> None:
    rpcs = {
        f"{service.full_name}/{rpc.name}"
        for file in files()
        for service in file.services_by_name.values()
        for rpc in service.methods
    }
    for tool in ("grpcurl", "buf curl"):
        assert {line.method for line in call_lines() if line.tool == tool} == rpcs


def test_both_tools_are_told_the_same_and_the_services_are_where_they_are_by_default() -> None:
    assert (ENGINE, HISTORY) == (ENGINE_DEFAULT, HISTORY_DEFAULT)
    by_tool = [[(line.method, line.documents) for line in call_lines() if line.tool == tool] for tool in ("grpcurl", "buf curl")]
    assert by_tool[0] == by_tool[1]
    assert all((HISTORY if "OrderHistory" in line.method else ENGINE) in line.command for line in call_lines())


@pytest.mark.timeout(BUILD_SECONDS + 120)
def test_every_line_for_grpcurl_works_as_it_stands_there(exchange: Exchange) -> None:
    program = grpcurl()
    _run_all("grpcurl", exchange, program.parent)
    for command in re.findall(r"^grpcurl -plaintext 127.+$", PAGE.read_text(), re.MULTILINE):
        shown = command.replace(ENGINE, exchange.engine_address).replace(HISTORY, exchange.history_address)
        assert _run(shown, program.parent).stdout.count("ordertape.v1.") > 5, command


@pytest.mark.timeout(BUILD_SECONDS + 120)
def test_a_call_that_fails_says_why_in_grpcurls_output_and_exit_code(exchange: Exchange) -> None:
    program = grpcurl()
    line = next(line for line in call_lines() if line.tool == "grpcurl" and line.method.endswith("/CancelOrder"))
    done = _run(line.at(exchange.engine_address, exchange.history_address), program.parent)
    assert done.returncode == 64 + 5
    assert '"reason": "ORDER_NOT_FOUND"' in done.stderr


def test_every_line_for_buf_curl_works_as_it_stands_there(exchange: Exchange) -> None:
    buf = shutil.which("buf")
    assert buf is not None, "buf-bin is one of the development dependencies"
    _run_all("buf curl", exchange, Path(buf).parent)


def _run_all(tool: str, exchange: Exchange, folder: Path) -> None:
    for line in call_lines():
        if line.tool != tool:
            continue
        if "OrderHistory" in line.method:
            exchange.wait_until_equal()
        command = line.at(exchange.engine_address, exchange.history_address)
        done = _run(command, folder)
        expected = STOPPED_BY_TIMEOUT if command.startswith("timeout ") else 0
        assert done.returncode == expected, f"{command}\n{done.stdout}{done.stderr}"
        _check_shown(line, done.stdout)


def _run(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """The command in a shell that finds the tool in ``folder``."""
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(("bash", "-c", command), check=False, capture_output=True, text=True, timeout=60, env=environment)


def _check_shown(line: CallLine, output: str) -> None:
    assert documents_of(output.strip()), f"{line.command} says nothing"
    said = without_space(output)
    for shown in line.shown:
        assert shown in said, f"{line.command} does not say {shown}:\n{output}"
