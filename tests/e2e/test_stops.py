"""SIGTERM under load: what is under way is answered, both end well and in order, and the next start goes on from there."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.exact_watch import ExactWatch
from tests.support.exchange_process import INSTRUMENTS, Exchange
from tests.support.exchange_proof import assert_equal_lines, prove
from tests.support.history_dump import dump_of_any_run
from tests.support.order_flow import Load, Step


@pytest.mark.parametrize("order", [("engine", "history"), ("history", "engine")])
def test_stopped_under_load_and_started_again_it_ends_as_if_nothing_had_happened(
    exchange: Exchange, watches: list[ExactWatch], flow: list[Step], undisturbed: list[str], order: tuple[str, str]
) -> None:
    services = [getattr(exchange, name) for name in order]
    with Load(exchange.engine_address, flow) as load:
        for moment in (0.3, 0.7):
            load.wait_for(moment)
            for service in services:
                service.process.terminate()
            assert [service.wait_for_end() for service in services] == [0, 0]
            exchange.start()
        load.finish()
        prove(exchange, load, watches)
    for service in services:
        assert sum('"event": "stopped"' in line for line in service.log) == 3, "each of its processes ended in order"
    assert_equal_lines(dump_of_any_run(exchange.history_folder), undisturbed)


def test_the_dev_command_ends_both_in_order_and_its_folder_is_good_for_the_next_start(tmp_path: Path, flow: list[Step]) -> None:
    exchange = Exchange(tmp_path)
    command = (
        sys.executable, "-m", "services.cli", "dev", "--data-dir", str(tmp_path), "--config", str(INSTRUMENTS),
        "--engine", exchange.engine_address, "--history", exchange.history_address,
        "--feed", exchange.feed_address.removeprefix("tcp://"),
    )  # fmt: skip
    log = tmp_path / "dev.log"
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as dev:
        exchange.wait_until_equal()
        with Load(exchange.engine_address, flow) as load:
            load.wait_for(0.5)
            dev.send_signal(signal.SIGTERM)
            assert dev.wait(40) == 0, log.read_text()
            lines = log.read_text().splitlines()
            engine_stopped = next(number for number, line in enumerate(lines) if line.startswith("engine") and "stopped" in line)
            history_stops = next(number for number, line in enumerate(lines) if line.startswith("history") and "draining" in line)
            assert engine_stopped < history_stops
            with exchange:
                load.finish()
                prove(exchange, load)
