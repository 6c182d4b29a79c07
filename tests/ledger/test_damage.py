"""Damage is refused with the sequence named, and left as it is; a torn tail is cut off and reported; the two are not confused."""

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest

from services.matching_engine.ledger import (
    LedgerDamaged,
    LedgerFormatUnsupported,
    SegmentLedger,
    SegmentReader,
    StoredBatch,
    TornTail,
)
from tests.ledger.batches import batch, batches_after, contents

HEADER_BYTES = 40
RECORD_HEADER_BYTES = 32


def written(folder: Path, *groups: list[StoredBatch], segment_bytes_max: int = 1 << 20) -> Path:
    """A closed ledger of these groups; returns its last file."""
    ledger = SegmentLedger.open(folder, segment_bytes_max=segment_bytes_max)
    for group in groups:
        ledger.append(group)
    ledger.close()
    return max(folder.glob("*.segment"))


def record_bytes(*batches: StoredBatch) -> int:
    return sum(RECORD_HEADER_BYTES + len(one.data) for one in batches)


def change(file: Path, at: int, change_byte: Callable[[int], int]) -> None:
    data = bytearray(file.read_bytes())
    data[at] = change_byte(data[at])
    file.write_bytes(data)


def flip_bit(file: Path, at: int, bit: int = 0) -> None:
    change(file, at, lambda byte: byte ^ (1 << bit))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.segment")}


def assert_damaged_at(folder: Path, sequence: int, file: str | None = None) -> None:
    """Refused by writer and reader alike, and not touched."""
    before = snapshot(folder)
    for opened in (
        lambda: SegmentLedger.open(folder),
        lambda: SegmentReader.open(folder, verify_from_sequence=1),
    ):
        with pytest.raises(LedgerDamaged, match=f"damaged at sequence {sequence}: ") as damaged:
            opened()
        assert damaged.value.sequence == sequence
        if file is not None:
            assert damaged.value.file.name == file
    assert snapshot(folder) == before


def assert_torn_after(folder: Path, sequence: int, bytes_cut: int, kept: list[StoredBatch], file: Path) -> None:
    """The reader stops there and changes nothing; the writer cuts it off, says so once, and goes on."""
    before = snapshot(folder)
    torn = TornTail(file, sequence, bytes_cut)
    reader = SegmentReader.open(folder, verify_from_sequence=1)
    assert (reader.torn_tail, contents(reader)) == (torn, kept)
    assert snapshot(folder) == before
    ledger = SegmentLedger.open(folder)
    assert (ledger.torn_tail, ledger.durable_sequence, contents(ledger)) == (torn, sequence, kept)
    ledger.append([batch(sequence + 1, 3)])
    ledger.close()
    again = SegmentReader.open(folder, verify_from_sequence=1)
    assert (again.torn_tail, contents(again)) == (None, [*kept, batch(sequence + 1, 3)])


def test_a_tail_torn_at_any_byte_of_the_last_record_is_cut_off_and_reported(tmp_path: Path) -> None:
    file = written(tmp_path / "whole", [batch(1)], [batch(2, 3)], [batch(5)])
    size = file.stat().st_size
    last = record_bytes(batch(5))
    for missing in range(1, last):
        folder = tmp_path / str(missing)
        shutil.copytree(tmp_path / "whole", folder)
        with (folder / file.name).open("r+b") as torn:
            torn.truncate(size - missing)
        assert_torn_after(folder, 4, last - missing, [batch(1), batch(2, 3)], folder / file.name)


def test_of_a_torn_group_the_whole_batches_are_kept(tmp_path: Path) -> None:
    group = batches_after(1, [1, 2, 3], 100)
    file = written(tmp_path, [batch(1)], group)
    with file.open("r+b") as torn:
        torn.truncate(file.stat().st_size - 1)
    assert_torn_after(tmp_path, 4, record_bytes(group[2]) - 1, [batch(1), *group[:2]], file)


def test_a_group_whose_first_pages_never_reached_the_disk_is_torn_though_its_end_did(tmp_path: Path) -> None:
    group = batches_after(1, [1, 2, 3], 100)
    file = written(tmp_path, [batch(1)], group)
    start = HEADER_BYTES + record_bytes(batch(1))
    for at in range(start, start + 60):
        change(file, at, lambda _: 0)
    assert_torn_after(tmp_path, 1, record_bytes(*group), [batch(1)], file)


@pytest.mark.parametrize(
    "tail", [b"\0" * 5000, b"\0", b"\xff" * 3_000_000, b"\xfaOT\xfb" * 50], ids=["zeros", "a zero", "3 MB of ones", "magics"]
)
def test_whatever_stands_after_the_last_record_is_torn(tmp_path: Path, tail: bytes) -> None:
    file = written(tmp_path, [batch(1)], [batch(2)])
    with file.open("ab") as torn:
        torn.write(tail)
    assert_torn_after(tmp_path, 2, len(tail), [batch(1), batch(2)], file)


def test_a_bit_flipped_anywhere_in_a_middle_record_is_damage(tmp_path: Path) -> None:
    file = written(tmp_path / "whole", [batch(1)], [batch(2, 3)], [batch(5)], [batch(6)])
    start = HEADER_BYTES + record_bytes(batch(1))
    for at in range(start, start + record_bytes(batch(2, 3))):
        folder = tmp_path / str(at)
        shutil.copytree(tmp_path / "whole", folder)
        flip_bit(folder / file.name, at, at % 8)
        assert_damaged_at(folder, 2, file.name)


def test_a_bit_flipped_anywhere_in_the_last_record_makes_a_torn_tail(tmp_path: Path) -> None:
    file = written(tmp_path / "whole", [batch(1)], [batch(2, 3)])
    start = HEADER_BYTES + record_bytes(batch(1))
    for at in range(start, file.stat().st_size):
        folder = tmp_path / str(at)
        shutil.copytree(tmp_path / "whole", folder)
        flip_bit(folder / file.name, at, at % 8)
        assert_torn_after(folder, 1, record_bytes(batch(2, 3)), [batch(1)], folder / file.name)


def test_damage_is_found_behind_a_long_stretch_of_lost_records(tmp_path: Path) -> None:
    groups = [[one] for one in batches_after(0, [1] * 400, 1000)]
    file = written(tmp_path, *groups)
    start = HEADER_BYTES + record_bytes(*(group[0] for group in groups[:10]))
    data = file.read_bytes()
    end = len(data) - record_bytes(groups[-1][0])
    file.write_bytes(data[:start] + bytes(end - start) + data[end:])
    assert_damaged_at(tmp_path, 11)


def test_a_bad_record_in_any_file_but_the_last_is_damage(tmp_path: Path) -> None:
    written(tmp_path, [batch(1)], [batch(2)], [batch(3)], segment_bytes_max=150)
    first, second = sorted(tmp_path.glob("*.segment"))
    flip_bit(first, first.stat().st_size - 1)
    assert_damaged_at(tmp_path, 2, first.name)
    assert second.name == "00000000000000000003.segment"


def test_a_file_that_is_cut_short_is_damage_unless_it_is_the_last(tmp_path: Path) -> None:
    written(tmp_path, [batch(1)], [batch(2)], [batch(3)], segment_bytes_max=150)
    first = min(tmp_path.glob("*.segment"))
    with first.open("r+b") as short:
        short.truncate(first.stat().st_size - record_bytes(batch(2)))
    assert_damaged_at(tmp_path, 2, first.name)


@pytest.mark.parametrize(("missing", "sequence"), [(1, 1), (3, 3)])
def test_a_missing_file_is_damage(tmp_path: Path, missing: int, sequence: int) -> None:
    written(tmp_path, *([one] for one in batches_after(0, [1] * 6)), segment_bytes_max=150)
    (tmp_path / f"{missing:020d}.segment").unlink()
    assert_damaged_at(tmp_path, sequence)
    with pytest.raises(LedgerDamaged):
        SegmentReader.open(tmp_path)


def test_files_that_overlap_are_damage(tmp_path: Path) -> None:
    written(tmp_path / "ledger", [batch(1)], [batch(2)], [batch(3)], [batch(4)], segment_bytes_max=150)
    whole = written(tmp_path / "other", [batch(1)], [batch(2)], [batch(3)])
    ledger_id = SegmentReader.open(tmp_path / "ledger").ledger_id
    data = bytearray(whole.read_bytes())
    data[12:28] = ledger_id.encode()
    data[36:40] = struct.pack("<I", crc32(data[:36]))
    (tmp_path / "ledger" / whole.name).write_bytes(data)
    assert_damaged_at(tmp_path / "ledger", 3)


def test_a_file_of_another_ledger_is_damage(tmp_path: Path) -> None:
    for name in ("ledger", "other"):
        written(tmp_path / name, [batch(1)], [batch(2)], [batch(3)], segment_bytes_max=150)
    shutil.copy(tmp_path / "other" / "00000000000000000003.segment", tmp_path / "ledger")
    assert_damaged_at(tmp_path / "ledger", 3)


def test_a_renamed_file_is_damage(tmp_path: Path) -> None:
    file = written(tmp_path, [batch(1)], [batch(2)], [batch(3)], segment_bytes_max=150)
    file.rename(tmp_path / "00000000000000000004.segment")
    assert_damaged_at(tmp_path, 3)


def test_a_bit_flipped_in_any_files_header_is_damage(tmp_path: Path) -> None:
    written(tmp_path / "whole", [batch(1)], [batch(2)], [batch(3)], segment_bytes_max=150)
    for first in (1, 3):
        for at in range(HEADER_BYTES):
            folder = tmp_path / f"{first}-{at}"
            shutil.copytree(tmp_path / "whole", folder)
            flip_bit(folder / f"{first:020d}.segment", at)
            assert_damaged_at(folder, first)


@pytest.mark.parametrize("content", [b"", b"ORDTAPE\0", bytes(40), bytes(100)], ids=["empty", "begun", "zeros", "more zeros"])
def test_a_last_file_that_was_never_finished_is_taken_away(tmp_path: Path, content: bytes) -> None:
    written(tmp_path, [batch(1)], [batch(2)])
    unfinished = tmp_path / "00000000000000000003.segment"
    unfinished.write_bytes(content)
    assert_torn_after(tmp_path, 2, len(content), [batch(1), batch(2)], unfinished)


def test_a_ledger_whose_only_file_was_never_finished_begins_anew(tmp_path: Path) -> None:
    file = tmp_path / "00000000000000000001.segment"
    file.write_bytes(b"ORDTAPE\0")
    ledger = SegmentLedger.open(tmp_path)
    assert ledger.torn_tail == TornTail(file, 0, 8)
    ledger.append([batch(1)])
    ledger.close()
    assert contents(SegmentReader.open(tmp_path)) == [batch(1)]


def test_a_last_file_with_a_header_alone_is_used(tmp_path: Path) -> None:
    written(tmp_path, [batch(1)], [batch(2)], [batch(3)], segment_bytes_max=150)
    file = tmp_path / "00000000000000000003.segment"
    with file.open("r+b") as cut:
        cut.truncate(HEADER_BYTES)
    ledger = SegmentLedger.open(tmp_path)
    assert (ledger.torn_tail, ledger.durable_sequence) == (None, 2)
    ledger.append([batch(3)])
    ledger.close()
    assert file.stat().st_size > HEADER_BYTES


@pytest.mark.parametrize("first", [1, 3])
def test_a_newer_format_is_refused_and_not_taken_for_damage(tmp_path: Path, first: int) -> None:
    written(tmp_path, [batch(1)], [batch(2)], [batch(3)], segment_bytes_max=150)
    file = tmp_path / f"{first:020d}.segment"
    data = bytearray(file.read_bytes())
    data[8:12] = struct.pack("<I", 2)
    data[36:40] = struct.pack("<I", crc32(data[:36]))
    file.write_bytes(data)
    with pytest.raises(LedgerFormatUnsupported, match="ledger format 2, this program reads format 1"):
        SegmentLedger.open(tmp_path)
    assert file.read_bytes() == data


def test_early_segments_are_checked_at_their_ends_alone_where_that_is_asked_for(tmp_path: Path) -> None:
    written(tmp_path, *([one] for one in batches_after(0, [1] * 9)), segment_bytes_max=200)
    first = min(tmp_path.glob("*.segment"))
    flip_bit(first, HEADER_BYTES + RECORD_HEADER_BYTES)
    with pytest.raises(LedgerDamaged):
        SegmentLedger.open(tmp_path)
    ledger = SegmentLedger.open(tmp_path, verify_from_sequence=7)
    assert ledger.durable_sequence == 9
    with pytest.raises(LedgerDamaged, match="damaged at sequence 1: "):
        list(ledger.read())
    with pytest.raises(LedgerDamaged, match="damaged at sequence 1: "):
        ledger.batch_at(1)
    assert list(ledger.read(3)) == batches_after(3, [1] * 6)
    ledger.close()


def test_damage_met_while_reading_names_the_sequence_after_what_was_read(tmp_path: Path) -> None:
    file = written(tmp_path, *([one] for one in batches_after(0, [1] * 9)))
    reader = SegmentReader.open(tmp_path)
    flip_bit(file, HEADER_BYTES + record_bytes(*batches_after(0, [1] * 4)) + RECORD_HEADER_BYTES)
    reading = reader.read()
    assert [next(reading) for _ in range(4)] == batches_after(0, [1] * 4)
    with pytest.raises(LedgerDamaged, match="damaged at sequence 5: "):
        next(reading)


def test_the_unproven_last_group_is_written_and_synced_anew_at_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = batches_after(1, [1, 2], 100)
    file = written(tmp_path, [batch(1)], group)
    pwrite, fsync = os.pwrite, os.fsync
    calls: list[object] = []
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: (calls.append((at, len(data))), pwrite(fd, data, at))[1])
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(Path(os.readlink(f"/proc/self/fd/{fd}"))), fsync(fd))[1])
    SegmentLedger.open(tmp_path).close()
    assert calls == [(HEADER_BYTES + record_bytes(batch(1)), record_bytes(*group)), file, tmp_path]
