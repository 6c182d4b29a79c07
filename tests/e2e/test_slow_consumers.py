"""Whoever does not keep up is nobody else's trouble: the engine never waits for its history, the history never for a watcher, and
each of them has everything in the end.
"""

import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from services.wire.position import encode_position
from tests.support.eventually import eventually
from tests.support.exact_watch import watching
from tests.support.exchange_process import Exchange
from tests.support.exchange_proof import prove, prove_running
from tests.support.order_flow import USERS, Load, Step, flow_of
from tests.support.watcher import Watcher

MANY_SMALL_MESSAGES = flow_of(seed=9, messages=1_500, items_max=3)
QUEUE_MAX, STALL_SECONDS = 300, 2.0


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Exchange]:
    """An exchange whose history soon gives up on a watcher."""
    settings = {"watch_queue_updates_max": QUEUE_MAX, "watch_stall_seconds": STALL_SECONDS}
    with Exchange(tmp_path, history_settings=settings) as exchange:
        exchange.wait_until_equal()
        yield exchange


def test_a_frozen_history_does_not_slow_the_engine_and_has_everything_after_the_thaw(exchange: Exchange) -> None:
    exchange.wait_until_equal()
    with Load(exchange.engine_address, MANY_SMALL_MESSAGES) as load:
        load.wait_for(0.2)
        exchange.history.freeze()
        frozen_from = len(load.sent)
        load.finish()
        seconds = [sent.seconds for sent in load.sent]
        before, while_frozen = statistics.median(seconds[:frozen_from]), statistics.median(seconds[frozen_from:])
        exchange.history.thaw()
        assert while_frozen < 3 * before + 0.002, "the engine waited for its history"
        prove(exchange, load)


def test_watchers_that_do_not_read_are_cut_off_and_cost_the_others_nothing(impatient: Exchange, flow: list[Step]) -> None:
    address, begin = impatient.history_address, encode_position(impatient.ledger_id, 0)
    with (
        ExitStack() as dead_ones,
        watching(address, USERS, begin) as quick_ones,
        Load(impatient.engine_address, flow) as load,
    ):
        dead = [dead_ones.enter_context(Watcher(address, USERS[n % 4], begin, window_bytes=1024)) for n in range(12)]
        for watcher in dead:
            watcher.reading.clear()
        load.finish()
        ledger = prove_running(impatient, quick_ones)
        time.sleep(STALL_SECONDS + 1)  # what has to pass is time itself: nothing tells when the last of them is cut off
        for watcher in dead:
            watcher.reading.set()
            eventually(lambda watcher=watcher: watcher.error, 30)
            assert watcher.error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert watcher.error_info.reason == "READER_TOO_SLOW"
            assert watcher.error_info.metadata["position"] == watcher.position
            with Watcher(address, watcher.user_id, watcher.position) as resumed:
                expected = ledger.updates_of(watcher.user_id)
                missing = len(expected) - len(watcher.updates)
                eventually(lambda resumed=resumed, missing=missing: len(resumed.updates) >= missing, 30)
                assert watcher.updates + resumed.updates == expected
        prove(impatient, load)


def test_the_watch_command_that_was_frozen_under_load_prints_each_update_once(
    impatient: Exchange, flow: list[Step], tmp_path: Path
) -> None:
    begin = encode_position(impatient.ledger_id, 0)
    command = (
        sys.executable, "-m", "services.cli", "watch", "--user", "alice", "-o", "jsonl", "--after", begin,
        "--history", impatient.history_address,
    )  # fmt: skip
    printed = tmp_path / "printed"
    with (
        printed.open("w") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL) as watch,
        Load(impatient.engine_address, flow) as load,
    ):
        load.wait_for(0.2)
        watch.send_signal(signal.SIGSTOP)
        load.finish()
        count = len(prove_running(impatient).updates_of("alice"))
        watch.send_signal(signal.SIGCONT)
        eventually(lambda: printed.read_text().count("\n") >= count, 60)
        watch.terminate()
        assert watch.wait(20) == 0
        prove(impatient, load)
    numbers = [int(json.loads(line)["userUpdateNumber"]) for line in printed.read_text().splitlines()]
    assert numbers == list(range(1, count + 1))
