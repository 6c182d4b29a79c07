"""The ledger through its public interface, on real files."""

import os
import re
import struct
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.matching_engine.ledger import (
    LedgerLocked,
    LedgerNotFound,
    SegmentLedger,
    SegmentReader,
    StoredBatch,
)
from tests.ledger.batches import batch, batches_after, contents
from tests.support.eventually import eventually


def segment_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.segment"))


def test_a_new_ledger_is_empty_and_has_a_name(ledger: SegmentLedger) -> None:
    assert re.fullmatch("[0-9a-f]{16}", ledger.ledger_id)
    assert ledger.durable_sequence == 0
    assert ledger.last_hash == b""
    assert ledger.hash_at(0) == b""
    assert ledger.hash_at(1) is None
    assert contents(ledger) == []
    assert ledger.torn_tail is None
    with pytest.raises(LookupError, match="sequence 1 is not in the ledger"):
        ledger.batch_at(1)


def test_what_was_appended_is_there_after_reopening(folder: Path) -> None:
    first = SegmentLedger.open(folder)
    groups = [batches_after(0, [1]), batches_after(1, [3, 1, 7]), batches_after(12, [2])]
    for group in groups:
        first.append(group)
    first.close()
    again = SegmentLedger.open(folder)
    assert again.ledger_id == first.ledger_id
    assert again.durable_sequence == 14
    assert again.last_hash == sha256(groups[2][0].data).digest()
    assert contents(again) == [one for group in groups for one in group]
    assert again.torn_tail is None
    again.append(batches_after(14, [5]))
    assert again.durable_sequence == 19
    again.close()


def test_a_ledger_that_was_never_written_to_keeps_its_name(folder: Path) -> None:
    first = SegmentLedger.open(folder / "in" / "folders")
    first.close()
    again = SegmentLedger.open(folder / "in" / "folders")
    assert (again.ledger_id, again.durable_sequence, again.torn_tail) == (first.ledger_id, 0, None)
    again.close()


def test_the_bytes_on_disk_are_those_of_the_documented_format(folder: Path) -> None:
    ledger = SegmentLedger.open(folder)
    ledger.append([StoredBatch(1, 2, b"one")])
    ledger.append([StoredBatch(3, 3, b"two"), StoredBatch(4, 6, b"three")])
    ledger.close()

    def header(ledger_id: str, first_sequence: int) -> bytes:
        fields = b"ORDTAPE\0" + struct.pack("<I16sQ", 1, ledger_id.encode(), first_sequence)
        return fields + struct.pack("<I", crc32(fields))

    def record(durable: int, first: int, count: int, data: bytes) -> bytes:
        checked = struct.pack("<QQI", durable, first, count) + data
        return b"\xfaOT\xfb" + struct.pack("<II", len(data), crc32(checked)) + checked

    assert segment_names(folder) == ["00000000000000000001.segment"]
    assert (folder / "00000000000000000001.segment").read_bytes() == (
        header(ledger.ledger_id, 1) + record(0, 1, 2, b"one") + record(2, 3, 1, b"two") + record(2, 4, 3, b"three")
    )


def test_segments_are_named_by_their_first_sequence_and_stay_below_their_size(ledger: SegmentLedger, folder: Path) -> None:
    for sequence in range(20):
        ledger.append([batch(sequence + 1, size_bytes=80)])
    firsts = [int(name.removesuffix(".segment")) for name in segment_names(folder)]
    assert len(firsts) > 3
    for first in firsts:
        assert SegmentReader.open(folder).batch_at(first).first_sequence == first
        assert (folder / f"{first:020d}.segment").stat().st_size <= 400
    assert contents(ledger) == batches_after(0, [1] * 20, 80)


def test_a_group_larger_than_a_segment_gets_a_segment_of_its_own(ledger: SegmentLedger, folder: Path) -> None:
    ledger.append([batch(1)])
    ledger.append([batch(2, size_bytes=5000)])
    ledger.append([batch(3)])
    assert [int(name[:20]) for name in segment_names(folder)] == [1, 2, 3]
    assert contents(ledger) == [batch(1), batch(2, size_bytes=5000), batch(3)]


@pytest.mark.parametrize(
    ("first", "last"), [(4, 4), (6, 6), (1, 1), (5, 4)], ids=["repeated", "hole", "from the start", "no command"]
)
def test_batches_that_do_not_follow_are_refused_and_nothing_is_written(ledger: SegmentLedger, first: int, last: int) -> None:
    ledger.append(batches_after(0, [4]))
    with pytest.raises(ValueError, match="cannot follow sequence 4"):
        ledger.append([StoredBatch(first, last, b"x")])
    with pytest.raises(ValueError, match="cannot follow sequence 5"):
        ledger.append([batch(5), batch(5)])
    ledger.append([])
    assert ledger.durable_sequence == 4
    ledger.append([batch(5)])
    assert contents(ledger) == [batch(1, 4), batch(5)]


def test_reading_begins_with_the_batch_that_holds_the_next_sequence(ledger: SegmentLedger) -> None:
    whole = batches_after(0, [3, 1, 4, 1, 5, 9, 2, 6], 100)
    for one in whole:
        ledger.append([one])
    for after in range(35):
        expected = [one for one in whole if one.last_sequence > after]
        assert list(ledger.read(after)) == expected
        for up_to in (0, 3, 9, 30, 31, 99):
            assert list(ledger.read(after, up_to)) == [one for one in expected if one.first_sequence <= up_to and after < up_to]
    with pytest.raises(ValueError, match="-1 is negative"):
        ledger.read(-1)


def test_a_read_ends_at_what_was_durable_when_it_was_called(ledger: SegmentLedger) -> None:
    ledger.append([batch(1)])
    reading = ledger.read()
    ledger.append([batch(2)])
    assert list(reading) == [batch(1)]


def test_a_hash_exists_only_where_a_batch_ends(ledger: SegmentLedger) -> None:
    ledger.append(batches_after(0, [2, 3]))
    ends = {0: b"", 2: sha256(batch(1, 2).data).digest(), 5: sha256(batch(3, 3).data).digest()}
    assert {sequence: ledger.hash_at(sequence) for sequence in range(-1, 8)} == {
        sequence: ends.get(sequence) for sequence in range(-1, 8)
    }


@settings(max_examples=40, deadline=None)
@given(
    groups=st.lists(
        st.lists(st.tuples(st.integers(1, 5), st.sampled_from([0, 60, 700, 9_000, 40_000])), min_size=1, max_size=30),
        min_size=1,
        max_size=12,
    ),
    segment_bytes_max=st.sampled_from([100, 3_000, 100_000, 10_000_000]),
)
def test_every_batch_is_found_whatever_the_sizes_of_batches_groups_and_segments(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[tuple[int, int]]], segment_bytes_max: int
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    ledger = SegmentLedger.open(folder, segment_bytes_max=segment_bytes_max)
    whole: list[StoredBatch] = []
    for group in groups:
        made = []
        for commands, size in group:
            made.append(batch(1 + sum(one[0] for one in group[: len(made)]) + ledger.durable_sequence, commands, size))
        ledger.append(made)
        whole += made
    for opened in (ledger, SegmentReader.open(folder), SegmentReader.open(folder, verify_from_sequence=1)):
        assert contents(opened) == whole
        for one in whole:
            assert opened.batch_at(one.first_sequence) == opened.batch_at(one.last_sequence) == one
    ledger.close()


def test_threads_read_whole_batches_while_another_appends(ledger: SegmentLedger, folder: Path) -> None:
    finished = threading.Event()
    failures: list[BaseException] = []

    def read_all_the_time(open_reader: bool) -> None:
        try:
            while not finished.is_set():
                durable = ledger.durable_sequence
                reader = SegmentReader.open(folder) if open_reader else ledger
                found = [one.first_sequence for one in reader.read()]
                assert found == list(range(1, len(found) + 1))
                assert len(found) >= durable
                if durable:
                    assert reader.batch_at(durable) == batch(durable, size_bytes=70)
                    assert reader.hash_at(durable) is not None
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read_all_the_time, args=(kind,)) for kind in (False, True)]
    for thread in threads:
        thread.start()
    for sequence in range(1, 301):
        ledger.append([batch(sequence, size_bytes=70)])
    finished.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_reader_needs_no_lock_and_sees_the_ledger_as_it_was(ledger: SegmentLedger, folder: Path) -> None:
    ledger.append([batch(1)])
    reader = SegmentReader.open(folder)
    ledger.append([batch(2)])
    assert reader.ledger_id == ledger.ledger_id
    assert (reader.durable_sequence, reader.last_hash) == (1, sha256(batch(1).data).digest())
    assert contents(reader) == [batch(1)]


def test_there_is_nothing_to_read_where_there_is_no_ledger(folder: Path) -> None:
    with pytest.raises(LedgerNotFound, match=str(folder)):
        SegmentReader.open(folder)
    assert not folder.exists()
    folder.mkdir()
    with pytest.raises(LedgerNotFound, match="holds no ledger"):
        SegmentReader.open(folder)


OPEN_AND_WAIT = """
import sys
from pathlib import Path
from services.matching_engine.ledger import SegmentLedger
ledger = SegmentLedger.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def test_a_second_engine_is_refused_until_the_first_one_is_gone(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OPEN_AND_WAIT, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(LedgerLocked, match=re.escape(f"{folder} is in use by process {holder.pid}")) as refused:
            SegmentLedger.open(folder)
        assert refused.value.pid == holder.pid
        holder.kill()
    ledger = SegmentLedger.open(folder)
    with pytest.raises(LedgerLocked):
        SegmentLedger.open(folder)
    ledger.close()
    ledger.close()
    SegmentLedger.open(folder).close()


def test_a_group_is_one_write_and_one_sync(ledger: SegmentLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("pwrite", "write", "writev", "fsync", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))[1])
    ledger.append(batches_after(0, [1, 2, 3]))
    assert calls == ["pwrite", "fdatasync"]


def test_a_new_segment_and_its_name_are_synced_before_it_holds_a_record(
    ledger: SegmentLedger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append([batch(1, size_bytes=300)])
    calls: list[tuple[str, str]] = []
    for name in ("pwrite", "fsync", "fdatasync"):
        real = getattr(os, name)

        def spy(file: int, *args: object, name: str = name, real: object = real) -> object:
            calls.append((name, Path(os.readlink(f"/proc/self/fd/{file}")).name))
            return real(file, *args)  # type: ignore[operator]

        monkeypatch.setattr(os, name, spy)
    ledger.append([batch(2, size_bytes=300)])
    new = "00000000000000000002.segment"
    assert calls == [("pwrite", new), ("fsync", new), ("fsync", folder.name), ("pwrite", new), ("fdatasync", new)]


def test_writes_that_take_only_a_part_are_continued(ledger: SegmentLedger, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: real(file, bytes(data[:7]), offset))
    for sequence in range(1, 10):
        ledger.append([batch(sequence, size_bytes=100)])
    monkeypatch.undo()
    assert contents(SegmentReader.open(folder, verify_from_sequence=1)) == batches_after(0, [1] * 9, 100)


def test_a_batch_is_found_by_a_few_small_reads_in_a_large_segment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = SegmentLedger.open(folder)
    whole = batches_after(0, [1 + number % 4 for number in range(20_000)], 500)
    for start in range(0, len(whole), 1000):
        ledger.append(whole[start : start + 1000])
    real = os.pread
    reads: list[int] = []
    monkeypatch.setattr(os, "pread", lambda file, size, offset: (reads.append(size), real(file, size, offset))[1])
    for one in whole[:: len(whole) // 100]:
        reads.clear()
        assert ledger.batch_at(one.last_sequence) == one
        assert sum(reads) <= 100_000
    ledger.close()


def test_open_files_do_not_pile_up(ledger: SegmentLedger) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for sequence in range(1, 60):
        ledger.append([batch(sequence, size_bytes=100)])
        next(ledger.read())
        ledger.batch_at(sequence)
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
