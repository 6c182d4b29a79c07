"""How a service's process ends, with real processes and real signals."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from ordertape.v1.ledger_pb2 import GetLedgerStatusRequest
from tests.serving.running_servers import feed_client

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(kind: str) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(fate: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tests.serving.stoppable_service", kind, fate]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def end(process: "subprocess.Popen[str]") -> tuple[int, list[str], list[dict[str, Any]]]:
    output, errors = process.communicate(timeout=60)
    logs = [json.loads(each) for each in errors.splitlines() if each.startswith("{")]
    return process.returncode, output.split(), logs


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_calls_finish_then_runs_the_steps_in_order(start: Start, number: signal.Signals) -> None:
    process = start("signal")
    with feed_client(line(process)) as client:
        call = client.GetLedgerStatus.future(GetLedgerStatusRequest(at_sequence=1))
        assert line(process) == "called"
        process.send_signal(number)
        assert call.result().durable_sequence == 7
    code, said, logs = end(process)
    assert (code, said) == (0, ["draining", "first", "last"])
    assert [entry["event"] for entry in logs] == ["listening", "draining", "drained", "stopped"]
    assert logs[1]["signal"] == number.name


def test_a_second_signal_ends_the_grace(start: Start, kind: str) -> None:
    process = start("signal")
    with feed_client(line(process)) as client:
        call = client.GetLedgerStatus.future(GetLedgerStatusRequest())
        assert line(process) == "called"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "draining"
        process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError):
            call.result()
        assert (line(process), line(process)) == ("first", "last")
    if kind == "threaded":  # the handler still sleeps on its thread, which must not hold the process
        assert end(process)[0] == 0


def test_a_signal_during_the_steps_ends_the_process_there(start: Start) -> None:
    process = start("hang")
    line(process)
    process.send_signal(signal.SIGTERM)
    assert (line(process), line(process)) == ("draining", "hang")
    process.send_signal(signal.SIGINT)
    code, _, _ = end(process)
    assert code == 128 + signal.SIGINT


def test_a_step_that_fails_stops_no_other_and_shows_in_the_exit_code(start: Start) -> None:
    process = start("fail")
    line(process)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output.split()) == (1, ["draining", "fail", "last"])
    assert "this step failed" in errors


def test_fatal_ends_the_process_from_a_thread_at_once_and_says_why(start: Start) -> None:
    code, said, logs = end(start("fatal"))
    assert (code, len(said)) == (74, 1)
    assert (logs[-1]["event"], logs[-1]["level"]) == ("fatal", "critical")
    assert logs[-1]["reason"] == "the ledger's sync failed"


def test_an_exception_that_ends_a_thread_ends_the_process(start: Start) -> None:
    code, _, logs = end(start("thread"))
    assert code == 70
    assert logs[-1]["reason"] == "thread 'sequencer' died of an exception"
    assert "ZeroDivisionError" in logs[-1]["exception"]
