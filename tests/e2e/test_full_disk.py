"""A disk that fills up in the middle of a flow, under the engine and under the history: nothing is acknowledged that is not
there, nothing is skipped, and with space again everything goes on.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ordertape.v1 import order_history_pb2 as history_pb2
from services.wire.position import encode_position
from tests.support.eventually import eventually
from tests.support.exact_watch import watching
from tests.support.exchange_process import Exchange
from tests.support.exchange_proof import assert_equal_lines, prove
from tests.support.history_dump import dump_of_any_run
from tests.support.kills import kill_engine
from tests.support.order_flow import USERS, Load, Step
from tests.support.small_disk import MIB, SmallDisk, small_disk

ENGINE_BYTES, HISTORY_BYTES = 1 * MIB, 3 * MIB
ENOUGH_BYTES = 256 * MIB


@pytest.fixture
def engine_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "engine disk", ENGINE_BYTES) as disk:
        yield disk


@pytest.fixture
def history_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "history disk", HISTORY_BYTES) as disk:
        yield disk


def test_a_full_disk_ends_the_engine_and_with_space_again_all_that_was_acknowledged_is_there(
    engine_disk: SmallDisk, tmp_path: Path, flow: list[Step], undisturbed: list[str]
) -> None:
    with Exchange(tmp_path, engine_folder=engine_disk.folder / "engine") as exchange:
        exchange.wait_until_equal()
        fill_the_disk(exchange, engine_disk, flow)
    assert_equal_lines(dump_of_any_run(exchange.history_folder), undisturbed)


def fill_the_disk(exchange: Exchange, engine_disk: SmallDisk, flow: list[Step]) -> None:
    with Load(exchange.engine_address, flow) as load:
        assert exchange.engine.wait_for_end() == 70
        assert exchange.engine.logged("No space left on device") or exchange.engine.logged("full")
        assert 0 < load.answered < 1
        status = exchange.history_status()
        assert status.halt_reason == ""
        with exchange.history_client() as history:
            request = history_pb2.ListOrderHistoryRequest(user_id=USERS[0], page_size=1)
            assert history.call(history.orders.ListOrderHistory, request).orders, "the history goes on answering"
        exchange.engine.launch()
        eventually(lambda: not exchange.engine.is_running, 60)
        assert exchange.engine.process.returncode != 0, "without space it ends again"
        engine_disk.grow(ENOUGH_BYTES)
        exchange.engine.start()
        load.finish()
        prove(exchange, load)


@pytest.mark.parametrize("restart", [False, True])
def test_a_full_disk_under_the_history_makes_it_wait_and_say_so(
    history_disk: SmallDisk, tmp_path: Path, flow: list[Step], undisturbed: list[str], restart: bool
) -> None:
    folder, settings = history_disk.folder / "history", {"feed_frames_max": 8}
    with Exchange(tmp_path, history_folder=folder, history_settings=settings) as exchange:
        exchange.wait_until_equal()
        begin = encode_position(exchange.ledger_id, 0)
        with watching(exchange.history_address, USERS, begin) as watches, Load(exchange.engine_address, flow) as load:
            load.finish()
            eventually(lambda: exchange.history.logged("store down"), 30)
            eventually(lambda: exchange.history_health() == "NOT_SERVING")
            status = exchange.history_status()
            assert 0 < status.applied_sequence < status.durable_sequence <= exchange.durable_sequence()
            assert status.lag_commands == status.durable_sequence - status.applied_sequence
            assert status.halt_reason == ""
            assert exchange.command("status").returncode == 78
            # Its receive queue is full by now. With libzmq's own heartbeats that would be the end of the process.
            kill_engine(exchange)
            if restart:
                exchange.history.kill()
            history_disk.grow(ENOUGH_BYTES)
            if restart:
                exchange.history.start()
            prove(exchange, load, watches)
    assert_equal_lines(dump_of_any_run(exchange.history_folder), undisturbed)


def test_a_history_that_cannot_even_start_on_a_full_disk_says_so(history_disk: SmallDisk, tmp_path: Path) -> None:
    folder = history_disk.folder / "history"
    with Exchange(tmp_path, history_folder=folder) as exchange:
        exchange.wait_until_equal()
        exchange.history.kill()
        for file in folder.iterdir():
            file.unlink()
        (history_disk.folder / "ballast").write_bytes(bytes(history_disk.free_bytes))
        exchange.history.launch()
        assert exchange.history.wait_for_end() != 0
        assert exchange.history.logged("full") or exchange.history.logged("No space left on device"), exchange.history.log
