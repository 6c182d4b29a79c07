"""A disk that fills up, a sync that fails, a process that is killed: what was acknowledged is there, no more is claimed."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.matching_engine.ledger import LedgerWriteFailed, SegmentLedger, SegmentReader
from tests.ledger.batches import batch, batches_after, contents

# Appends groups of three batches, says after each how far it is acknowledged, and at the first failure shows that nothing more
# is taken and nothing more is read. Room for some groups only: a limit on the size of files, or a small disk.
APPEND_UNTIL_IT_FAILS = """
import resource, sys
from pathlib import Path
from services.matching_engine.ledger import LedgerWriteFailed, SegmentLedger
from tests.ledger.batches import batches_after, contents
folder, file_bytes_max, segment_bytes_max = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
if file_bytes_max:
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))
ledger = SegmentLedger.open(folder, segment_bytes_max=segment_bytes_max)
try:
    while True:
        ledger.append(batches_after(ledger.durable_sequence, [1, 2, 1], 400))
        print(ledger.durable_sequence, flush=True)
except LedgerWriteFailed as failure:
    print(failure, file=sys.stderr)
acknowledged = ledger.durable_sequence
for path in folder.parent.glob("filler"):
    path.unlink()
for _ in range(2):
    try:
        ledger.append(batches_after(acknowledged, [1]))
    except LedgerWriteFailed:
        continue
    raise AssertionError("an append after a failed one went through")
assert ledger.durable_sequence == acknowledged == contents(ledger)[-1].last_sequence
"""
GROUP = 4


def run(script: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def whole_groups(count: int) -> list[object]:
    return [one for group in range(count) for one in batches_after(group * GROUP, [1, 2, 1], 400)]


def test_a_write_that_the_disk_takes_in_part_ends_the_ledger_with_nothing_acknowledged_that_is_not_there(
    folder: Path,
) -> None:
    ended = run(APPEND_UNTIL_IT_FAILS, folder, 20_000, 1 << 20)
    assert ended.returncode == 0, ended.stderr
    acknowledged = int(ended.stdout.split()[-1])
    assert f"sequences from {acknowledged + 1} on could not be made durable: [Errno {errno.EFBIG}]" in ended.stderr
    assert max(folder.glob("*.segment")).stat().st_size == 20_000
    ledger = SegmentLedger.open(folder)
    assert ledger.torn_tail is not None
    assert acknowledged <= ledger.durable_sequence < acknowledged + GROUP
    assert contents(ledger)[: acknowledged // GROUP * 3] == whole_groups(acknowledged // GROUP)
    ledger.append([batch(ledger.durable_sequence + 1)])
    ledger.close()


SMALL_DISK = """
set -e
mkdir -p "$1"
mount -t tmpfs -o size=192k tmpfs "$1"
disk=$1; shift
dd if=/dev/zero of="$disk/filler" bs=4096 count=1 2> /dev/null
"$@"
cp -r "$disk/ledger" "$disk.copy"
"""


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "t", "/mnt"], check=False, capture_output=True).returncode,
    reason="a small disk of one's own needs user namespaces",
)
@pytest.mark.parametrize("segment_bytes_max", [1 << 20, 4096], ids=["in a record", "in a new segment"])
def test_a_full_disk_ends_the_ledger_and_room_that_comes_back_changes_nothing(tmp_path: Path, segment_bytes_max: int) -> None:
    disk = tmp_path / "disk"
    ended = run(
        APPEND_UNTIL_IT_FAILS,
        disk / "ledger",
        0,
        segment_bytes_max,
        prefix=("unshare", "-rm", "sh", "-c", SMALL_DISK, "small-disk", str(disk)),
    )
    assert ended.returncode == 0, ended.stderr
    assert f"[Errno {errno.ENOSPC}]" in ended.stderr
    acknowledged = int(ended.stdout.split()[-1])
    ledger = SegmentLedger.open(tmp_path / "disk.copy")
    assert acknowledged <= ledger.durable_sequence < acknowledged + GROUP
    assert contents(ledger)[: acknowledged // GROUP * 3] == whole_groups(acknowledged // GROUP)
    ledger.close()


@pytest.mark.parametrize("call", ["fdatasync", "pwrite"])
def test_after_a_failed_sync_or_write_nothing_is_tried_again(
    ledger: SegmentLedger, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    ledger.append([batch(1)])
    calls: list[str] = []

    def fail(*arguments: object) -> int:
        calls.append(call)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(LedgerWriteFailed, match=r"sequences from 2 on could not be made durable: .*Input/output error"):
        ledger.append([batch(2)])
    monkeypatch.undo()
    monkeypatch.setattr(os, "pwrite", fail)
    for _ in range(2):
        with pytest.raises(LedgerWriteFailed) as again:
            ledger.append([batch(2)])
        assert again.value.sequence == 2
    assert len(calls) == 1
    assert (ledger.durable_sequence, contents(ledger)) == (1, [batch(1)])
    assert ledger.hash_at(2) is None


APPEND_FOR_EVER = """
import sys
from pathlib import Path
from services.matching_engine.ledger import SegmentLedger
from tests.ledger.batches import batches_after
ledger = SegmentLedger.open(Path(sys.argv[1]), segment_bytes_max=20_000)
while True:
    ledger.append(batches_after(ledger.durable_sequence, [1, 2, 1], 400))
    print(ledger.durable_sequence, flush=True)
"""


def test_a_killed_process_leaves_all_that_it_acknowledged(folder: Path) -> None:
    for groups in (1, 7, 40, 3):
        with subprocess.Popen([sys.executable, "-c", APPEND_FOR_EVER, str(folder)], stdout=subprocess.PIPE, text=True) as engine:
            assert engine.stdout is not None
            for _ in range(groups):
                assert engine.stdout.readline()
            engine.send_signal(signal.SIGKILL)
            said = engine.stdout.read().split()
            acknowledged = int(said[-1]) if said else 0
        reader = SegmentReader.open(folder, verify_from_sequence=1)
        assert reader.durable_sequence >= max(acknowledged, groups * GROUP)
        found = contents(reader)
        assert found == whole_groups(len(found) // 3 + 1)[: len(found)]
