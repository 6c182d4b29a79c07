"""What an engine finds at its start: another engine, a damaged or torn ledger, an older copy, a clock that cannot be right."""

import os
import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ordertape.v1 import ledger_pb2
from services.matching_engine import clock
from services.matching_engine.bootstrap import Engine
from services.matching_engine.clock import ClockBehindLedger
from services.matching_engine.ledger import LedgerDamaged, LedgerLocked, SegmentReader
from tests.support.engine_audit import LedgerAudit
from tests.support.engine_client import BUY, NEW, SELL, EngineClient, limit, newest
from tests.support.engine_exchange import running_engine, start_engine
from tests.support.engine_process import EngineProcess, run_refused
from tests.support.eventually import eventually

MINUTE, HOUR, DAY = 60, 3600, 86400


def fill(data_dir: Path, orders: int = 20) -> list[bytes]:
    """A ledger with some orders, of an engine that was stopped in order: its batches."""
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", USD="10000", BTC="10")
        for number in range(orders):
            client.place(limit("a", BUY, "10", "1", client_order_id=f"k{number}"))
        return client.batches()


def segment_of(data_dir: Path) -> Path:
    (segment,) = (data_dir / "ledger").glob("*.segment")
    return segment


def test_a_second_engine_on_the_same_ledger_is_refused_and_the_first_goes_on(data_dir: Path) -> None:
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", USD="10000")
        code, said = run_refused(data_dir)
        assert code == 65
        assert f"in use by process {os.getpid()}" in said
        assert "Traceback" not in said
        with pytest.raises(LedgerLocked):
            start_engine(data_dir)
        assert newest(client.place(limit("a", BUY, "10", "1")).updates).status == NEW
        assert client.status().epoch == 1


def test_an_engine_that_was_killed_leaves_its_ledger_to_the_next(data_dir: Path) -> None:
    with EngineProcess(data_dir) as killed:
        killed.address()
        killed.kill()
        with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
            assert client.status().epoch == 2


def test_a_bit_flipped_in_the_middle_is_refused_with_the_sequence_and_nothing_is_changed(data_dir: Path) -> None:
    batches = [ledger_pb2.LedgerBatch.FromString(data) for data in fill(data_dir)]
    segment = segment_of(data_dir)
    content = bytearray(segment.read_bytes())
    damaged = batches[len(batches) // 2]
    content[content.index(damaged.previous_hash)] ^= 0b100
    segment.write_bytes(content)
    code, said = run_refused(data_dir)
    assert code == 65
    assert f"the ledger is damaged at sequence {damaged.first_sequence}" in said
    assert "Traceback" not in said
    with pytest.raises(LedgerDamaged):
        start_engine(data_dir)
    assert segment.read_bytes() == content


@pytest.mark.parametrize("torn", ["half a record", "zeros", "noise"])
def test_a_torn_tail_is_cut_off_and_reported(data_dir: Path, torn: str) -> None:
    batches = fill(data_dir)
    segment = segment_of(data_dir)
    whole = segment.read_bytes()
    tail = {"half a record": whole[40:200], "zeros": bytes(500), "noise": os.urandom(300)}[torn]
    if torn == "half a record":
        tail = whole[: len(whole) - len(batches[-1]) // 2][-100:]
        segment.write_bytes(whole[: len(whole) - len(batches[-1]) // 2])
        batches.pop()
    else:
        segment.write_bytes(whole + tail)
    with capture_logs() as logs, running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        (warning,) = [entry for entry in logs if "torn tail" in entry["event"]]
        assert warning["log_level"] == "warning"
        assert warning["file"] == str(segment)
        assert warning["after_sequence"] == ledger_pb2.LedgerBatch.FromString(batches[-1]).commands[-1].sequence
        assert client.batches()[: len(batches)] == batches
        LedgerAudit(client.batches()).check_money()
        lost = client.place(limit("a", BUY, "10", "1", client_order_id="k19"))
        assert lost.replayed == (torn != "half a record")


def test_a_ledger_copied_back_from_an_older_one_starts_and_says_that_the_index_knew_more(data_dir: Path, tmp_path: Path) -> None:
    fill(data_dir)
    shutil.copytree(data_dir / "ledger", tmp_path / "copy")
    fill(data_dir)
    shutil.rmtree(data_dir / "ledger")
    shutil.copytree(tmp_path / "copy", data_dir / "ledger")
    with capture_logs() as logs, running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        assert client.status().epoch == 2
        assert client.place(limit("a", BUY, "10", "1", client_order_id="k3")).replayed
    (warning,) = [entry for entry in logs if "index" in entry["event"]]
    assert warning["log_level"] == "warning"
    assert "the ledger ends at" in warning["why"]


class Clock:
    """In the place of the module ``time``: a wall clock that can be moved, beside the true monotonic one."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0
        self._time = clock.time

    def time_ns(self) -> int:
        return self._time.time_ns() + int(self.ahead_seconds * 1e9)

    def monotonic_ns(self) -> int:
        return self._time.monotonic_ns()


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Clock:
    replaced = Clock()
    monkeypatch.setattr(clock, "time", replaced)
    return replaced


def test_a_ledger_from_the_future_is_refused_unless_the_clock_is_accepted_and_times_still_rise(
    data_dir: Path, wall: Clock
) -> None:
    wall.ahead_seconds = 2 * HOUR
    fill(data_dir)
    wall.ahead_seconds = 0
    before = segment_of(data_dir).read_bytes()
    with pytest.raises(ClockBehindLedger, match="--accept-clock"):
        start_engine(data_dir)
    code, said = run_refused(data_dir)
    assert code == 71
    assert "ahead of the wall clock" in said
    assert "Traceback" not in said
    assert segment_of(data_dir).read_bytes() == before
    with running_engine(data_dir, accept_clock=True) as engine, EngineClient(engine.address) as client:
        assert newest(client.place(limit("a", BUY, "10", "1")).updates).status == NEW
        LedgerAudit(client.batches())


@pytest.mark.parametrize("ahead_seconds", [0.8 * MINUTE, -1, -7 * DAY, -3650 * DAY])
def test_any_downtime_and_a_clock_that_is_a_little_behind_are_fine(data_dir: Path, wall: Clock, ahead_seconds: float) -> None:
    wall.ahead_seconds = ahead_seconds
    fill(data_dir, 2)
    wall.ahead_seconds = 0
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        assert newest(client.place(limit("a", BUY, "10", "1")).updates).status == NEW
        LedgerAudit(client.batches())


@pytest.mark.parametrize("moved_seconds", [-HOUR, 10 * DAY])
def test_a_wall_clock_that_is_moved_while_the_engine_runs_is_alarmed_and_not_followed(
    engine: Engine, client: EngineClient, wall: Clock, moved_seconds: float
) -> None:
    before = newest(client.place(limit("a", BUY, "10", "1")).updates).timestamp.seconds
    with capture_logs() as logs:
        wall.ahead_seconds = moved_seconds
        eventually(lambda: logs)
        after = newest(client.place(limit("a", SELL, "20", "1")).updates).timestamp.seconds
    (alarm,) = logs
    assert alarm["log_level"] == "error"
    assert abs(alarm["departure_seconds"] - moved_seconds) < 1
    assert 0 <= after - before < MINUTE
    LedgerAudit(client.batches())


def test_all_that_was_durable_is_read_though_the_ledger_has_many_files(data_dir: Path) -> None:
    with running_engine(data_dir, ledger_segment_bytes_max=1 << 16) as engine, EngineClient(engine.address) as client:
        client.fund("a", USD="100000", BTC="10")
        for part in range(4):
            client.submit(*(limit("a", BUY, "10", "0.01", client_order_id=f"k{part}-{n}") for n in range(150)))
        batches = client.batches()
    assert len(list((data_dir / "ledger").glob("*.segment"))) > 3
    assert [stored.data for stored in SegmentReader.open(data_dir / "ledger").read()] == batches
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        assert client.batches()[: len(batches)] == batches
        assert client.place(limit("a", BUY, "10", "0.01", client_order_id="k0-0")).replayed
