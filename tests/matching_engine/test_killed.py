"""An engine that is killed, stopped or robbed of its disk in the middle of its work."""

import resource
import signal
from pathlib import Path

import pytest

from tests.support.engine_client import NEW, SELL, EngineClient, limit, newest
from tests.support.engine_exchange import running_engine
from tests.support.engine_load import Load, assert_answered_exactly_once
from tests.support.engine_process import EngineProcess, verify_ledger
from tests.support.eventually import eventually

FAILING_SYNC = """
import errno, os, pathlib
sync = os.fdatasync
def failing(file):
    if pathlib.Path({trigger!r}).exists():
        raise OSError(errno.EIO, "the disk is gone")
    sync(file)
os.fdatasync = failing
"""


def test_kill_9_in_the_middle_of_load_loses_nothing_that_was_answered_and_doubles_nothing(data_dir: Path) -> None:
    with EngineProcess(data_dir) as engine:
        with Load(engine.address()) as load:
            for _ in range(2):
                enough = load.answered + 300
                eventually(lambda enough=enough: load.answered > enough, 30)
                engine.kill()
                engine.start()
                load.address = engine.address()
            enough = load.answered + 100
            eventually(lambda: load.answered > enough, 30)
        with engine.client() as client:
            audit = assert_answered_exactly_once(load, client)
        assert audit.epoch == 3
        assert load.unanswered == set()
        engine.kill()
    code, said = verify_ledger(data_dir)
    assert code == 0, said


def test_sigterm_under_load_answers_what_is_in_flight_refuses_the_rest_and_ends_with_0(data_dir: Path) -> None:
    with EngineProcess(data_dir) as engine:
        with Load(engine.address()) as load:
            eventually(lambda: load.answered > 200, 30)
            engine.terminate()
            assert engine.wait() == 0
            engine.start()
            load.address = engine.address()
            enough = load.answered + 50
            eventually(lambda: load.answered > enough, 30)
        with engine.client() as client:
            assert_answered_exactly_once(load, client)
        assert "Traceback" not in engine.log
        engine.terminate()
        assert engine.wait() == 0


def test_a_full_disk_ends_the_engine_with_nothing_answered_that_is_not_there(data_dir: Path) -> None:
    with EngineProcess(data_dir) as engine:
        with Load(engine.address(), retry=False) as load:
            eventually(lambda: load.answered > 200, 30)
            # From here on the ledger's file takes some hundred bytes more, and then a part of a write.
            size = max(file.stat().st_size for file in (data_dir / "ledger").glob("*.segment"))
            resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, (size + 10_000, resource.RLIM_INFINITY))
            assert engine.wait() == 70
        assert load.unanswered
        assert "could not be made durable" in engine.log
        assert_restart_has_all_that_was_answered(data_dir, load)


def test_a_failed_sync_ends_the_engine_at_once_with_nothing_answered(data_dir: Path, tmp_path: Path) -> None:
    trigger = tmp_path / "the-disk-is-gone"
    with EngineProcess(data_dir, before=FAILING_SYNC.format(trigger=str(trigger))) as engine:
        with Load(engine.address(), retry=False) as load:
            eventually(lambda: load.answered > 100, 30)
            trigger.touch()
            assert engine.wait() == 70
        assert load.unanswered
        assert "the disk is gone" in engine.log
        assert_restart_has_all_that_was_answered(data_dir, load)


def assert_restart_has_all_that_was_answered(data_dir: Path, load: Load) -> None:
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        audit = assert_answered_exactly_once(load, client)
        assert set(load.answers) <= set(audit.by_key)
        client.fund("later", BTC="1")
        assert newest(client.place(limit("later", SELL, "500", "1")).updates).status == NEW


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_an_idle_engine_in_order(data_dir: Path, signal_name: str) -> None:
    with EngineProcess(data_dir) as engine:
        engine.address()
        engine.process.send_signal(getattr(signal, signal_name))
        assert engine.wait() == 0
