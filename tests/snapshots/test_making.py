"""Snapshots are made by a process of their own, and whatever becomes of it, nothing but a quick start is lost."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.matching_engine.layout import LEDGER_FOLDER
from services.matching_engine.ledger import SegmentReader
from services.matching_engine.snapshots import (
    SnapshotKeeper,
    SnapshotLocked,
    list_snapshots,
    load_snapshot,
    make_snapshot,
    newest_snapshot,
)
from services.matching_engine.snapshots.folder import writing
from tests.snapshots.states import state_at, write_snapshot_at
from tests.support.engine_client import BUY, EngineClient, limit
from tests.support.engine_exchange import running_engine
from tests.support.engine_process import verify_ledger
from tests.support.eventually import eventually

MAIN = "import sys\nfrom services.matching_engine.__main__ import main\nsys.exit(main(sys.argv[1:]))"
# The disk takes the first pieces and then no more: it hangs, or is full.
HANGING_DISK = "import os, time\nos.fsync = lambda file: time.sleep(60)\n"
FULL_DISK = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"


def snapshot_command(data_dir: Path, before: str = "") -> list[str]:
    return [sys.executable, "-c", before + MAIN, "snapshot", "--data-dir", str(data_dir)]


def run(command: list[str]) -> tuple[int, str]:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


@pytest.fixture
def ledger(data_dir: Path) -> SegmentReader:
    return SegmentReader.open(data_dir / LEDGER_FOLDER)


def test_a_snapshot_is_made_from_the_last_one_and_the_two_newest_are_kept(
    data_dir: Path, snapshots: Path, ledger: SegmentReader
) -> None:
    for share in (0.2, 0.4, 0.6):
        write_snapshot_at(ledger, snapshots, int(ledger.durable_sequence * share))
    last_before = list_snapshots(snapshots)[0]
    code, said = run(snapshot_command(data_dir))
    assert code == 0, said
    assert f'"from_sequence": {last_before}' in said
    assert list_snapshots(snapshots) == [ledger.durable_sequence, last_before]
    made = load_snapshot(snapshots, ledger.durable_sequence, ledger)
    assert made.state.describe() == state_at(ledger).describe()
    assert made.last_hash == ledger.last_hash
    code, said = run(snapshot_command(data_dir))
    assert (code, "has all of the ledger" in said) == (0, True)
    assert len(list_snapshots(snapshots)) == 2


def test_a_snapshot_is_made_beside_a_running_engine_every_so_many_commands(data_dir: Path, snapshots: Path) -> None:
    with (
        running_engine(data_dir, snapshot_every_commands=300) as engine,
        EngineClient(engine.address) as client,
    ):
        client.fund("z", USD="100000")
        seen: set[int] = set()
        for part in range(3):
            client.submit(*(limit("z", BUY, "3", "0.1", client_order_id=f"z{part}-{number}") for number in range(160)))
            eventually(lambda seen=seen: set(list_snapshots(snapshots)) - seen, 30)
            seen = seen | set(list_snapshots(snapshots))
        eventually(lambda: len(list_snapshots(snapshots)) == 2, 30)  # what is no longer wanted goes after the new one is there
        code, said = verify_ledger(data_dir)
        assert code == 0, said
        assert "snapshots are what the ledger says up to there" in said


@contextmanager
def hanging(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is in the middle of writing a snapshot."""
    process = subprocess.Popen(snapshot_command(data_dir, HANGING_DISK), stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: list((data_dir / "snapshots").glob("*.part")) or process.poll() is not None, 30)
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_process_that_is_killed_in_the_middle_of_writing_leaves_nothing_that_is_taken_for_a_snapshot(
    data_dir: Path, snapshots: Path, ledger: SegmentReader
) -> None:
    older = write_snapshot_at(ledger, snapshots, ledger.durable_sequence // 2)
    with hanging(data_dir) as process:
        with pytest.raises(SnapshotLocked):
            make_snapshot(data_dir / LEDGER_FOLDER, snapshots)
        code, said = run(snapshot_command(data_dir))
        assert (code, "another process is making a snapshot" in said) == (75, True)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(snapshots.glob("*.part"))
    assert list_snapshots(snapshots) == [int(older.stem)]
    found = newest_snapshot(snapshots, ledger)
    assert found is not None
    assert found.state.sequence == int(older.stem)
    assert make_snapshot(data_dir / LEDGER_FOLDER, snapshots) is not None
    assert not list(snapshots.glob("*.part"))
    assert len(list_snapshots(snapshots)) == 2


def test_a_disk_that_is_full_leaves_no_snapshot_and_an_exit_code(data_dir: Path, snapshots: Path) -> None:
    code, said = run(snapshot_command(data_dir, FULL_DISK))
    assert code == 71
    assert "no snapshot was made" in said
    assert list(snapshots.iterdir()) == []


def test_a_ledger_that_is_damaged_gives_no_snapshot(data_dir: Path, snapshots: Path) -> None:
    (segment,) = (data_dir / LEDGER_FOLDER).glob("*.segment")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 8
    segment.write_bytes(content)
    code, said = run(snapshot_command(data_dir))
    assert (code, "damaged at sequence" in said) == (65, True)
    assert list_snapshots(snapshots) == []


def test_a_data_folder_without_a_ledger_is_refused_in_words(tmp_path: Path) -> None:
    code, said = run(snapshot_command(tmp_path))
    assert (code, "holds no ledger" in said) == (65, True)
    assert list(tmp_path.iterdir()) == []


def test_while_another_process_is_making_one_the_folder_is_its_own(data_dir: Path, snapshots: Path) -> None:
    with writing(snapshots), pytest.raises(SnapshotLocked), writing(snapshots):
        pass
    with writing(snapshots):
        pass


@contextmanager
def kept_by(program: str, ledger: SegmentReader) -> Iterator[list[str]]:
    """A keeper that runs ``program``: what it called fatal."""
    fatal: list[str] = []
    keeper = SnapshotKeeper([sys.executable, "-c", program], ledger, 0, 10, fatal.append, retry_seconds=0.1)
    keeper.start()
    try:
        yield fatal
    finally:
        keeper.stop()


def test_a_damaged_ledger_that_the_process_finds_is_fatal_for_the_engine(ledger: SegmentReader) -> None:
    with kept_by("import sys; sys.exit(65)", ledger) as fatal:
        eventually(lambda: fatal, 20)
    assert "the ledger on disk is damaged" in fatal[0]


def test_a_process_that_fails_is_reported_and_tried_again(ledger: SegmentReader, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    program = f"import sys, pathlib; pathlib.Path({str(runs)!r}).open('a').write('x'); sys.exit(71)"
    with capture_logs() as logs, kept_by(program, ledger) as fatal:
        eventually(lambda: runs.exists() and len(runs.read_text()) >= 2, 20)
    assert fatal == []
    assert [(entry["log_level"], entry["exit_code"]) for entry in logs][:1] == [("error", 71)]


def test_an_engine_that_ends_does_not_wait_for_a_snapshot(ledger: SegmentReader, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    program = f"import time, pathlib; pathlib.Path({str(begun)!r}).touch(); time.sleep(100)"
    with kept_by(program, ledger) as fatal:
        eventually(begun.exists, 20)
    assert fatal == []
