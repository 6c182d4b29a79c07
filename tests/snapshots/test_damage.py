"""A snapshot that is not exactly what was written, or not of this ledger, is noticed, reported and never used."""

import io
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
from structlog.testing import capture_logs

from ordertape.v1 import snapshot_pb2
from services.domain.exchange import RULES_VERSION
from services.matching_engine.layout import LEDGER_FOLDER
from services.matching_engine.ledger import SegmentReader
from services.matching_engine.snapshots import SnapshotUnusable, list_snapshots, load_snapshot, newest_snapshot, snapshot_path
from services.matching_engine.snapshots.disk_format import decode_pieces, encode_pieces
from services.wire.ledger_codec import LedgerUnreadable
from tests.snapshots.states import state_at, write_snapshot_at
from tests.support.engine_client import EngineClient
from tests.support.engine_exchange import running_engine, start_engine
from tests.support.engine_forgery import forge_batch
from tests.support.engine_process import verify_ledger

Piece = snapshot_pb2.SnapshotPiece
HEADER_BYTES, PIECE_HEADER_BYTES = 16, 8


@pytest.fixture
def ledger(data_dir: Path) -> SegmentReader:
    return SegmentReader.open(data_dir / LEDGER_FOLDER)


@pytest.fixture
def older(ledger: SegmentReader, snapshots: Path) -> Path:
    return write_snapshot_at(ledger, snapshots, ledger.durable_sequence // 2)


@pytest.fixture
def newer(ledger: SegmentReader, snapshots: Path, older: Path) -> Path:
    """Made after the older one."""
    return write_snapshot_at(ledger, snapshots, ledger.durable_sequence - 30)


def sequence_of(snapshot: Path) -> int:
    return int(snapshot.stem)


def pieces_of(snapshot: Path) -> list[Piece]:
    data = snapshot.read_bytes()
    return [Piece.FromString(piece) for piece in decode_pieces(io.BytesIO(data), len(data))]


def rewrite(snapshot: Path, pieces: list[Piece]) -> None:
    """As whoever has the program could write it: with checksums that are right."""
    snapshot.write_bytes(b"".join(encode_pieces(piece.SerializeToString() for piece in pieces)))


def change_head(**values: object) -> Callable[[Path], None]:
    def change(snapshot: Path) -> None:
        pieces = pieces_of(snapshot)
        for name, value in values.items():
            setattr(pieces[0].head, name, value)
        rewrite(snapshot, pieces)

    return change


def change_pieces(change: Callable[[list[Piece]], object]) -> Callable[[Path], None]:
    def apply(snapshot: Path) -> None:
        pieces = pieces_of(snapshot)
        change(pieces)
        rewrite(snapshot, pieces)

    return apply


def cut(keep: Callable[[int], int]) -> Callable[[Path], None]:
    return lambda snapshot: snapshot.write_bytes(snapshot.read_bytes()[: keep(snapshot.stat().st_size)])


def cut_last_piece(snapshot: Path) -> None:
    last = pieces_of(snapshot)[-1].ByteSize() + PIECE_HEADER_BYTES
    snapshot.write_bytes(snapshot.read_bytes()[:-last])


def swap_two_pieces(snapshot: Path) -> None:
    data = snapshot.read_bytes()
    ends = [HEADER_BYTES]
    for piece in pieces_of(snapshot):
        ends.append(ends[-1] + PIECE_HEADER_BYTES + piece.ByteSize())
    first, second = data[ends[1] : ends[2]], data[ends[2] : ends[3]]
    snapshot.write_bytes(data[: ends[1]] + second + first + data[ends[3] :])


def newer_format(snapshot: Path) -> None:
    start = struct.pack("<8sI", b"ORDSNAP\0", 2)
    snapshot.write_bytes(start + struct.pack("<I", crc32(start)) + snapshot.read_bytes()[HEADER_BYTES:])


def another_state(pieces: list[Piece]) -> None:
    pieces[1].users.users[0].balances[0].available = "1"


HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (cut(lambda _: 0), "header"),
    "cut in the header": (cut(lambda _: 7), "header"),
    "cut after the header": (cut(lambda _: HEADER_BYTES), "no head"),
    "cut in the middle": (cut(lambda size: size // 2), "at byte"),
    "one byte short": (cut(lambda size: size - 1), "at byte"),
    "its last piece missing": (cut_last_piece, "counts"),
    "something after it": (lambda path: path.write_bytes(path.read_bytes() + b"\0" * 9), "at byte"),
    "one byte after it": (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "at byte"),
    "two pieces swapped": (swap_two_pieces, "at byte"),
    "all zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "header"),
    "another file": (lambda path: path.write_bytes(b"no snapshot at all, but text" * 9), "header"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "directory"),
    "a newer format": (newer_format, "has snapshot format 2, this program reads format 1"),
    "newer rules": (change_head(rules_version=RULES_VERSION + 1), f"knows them up to {RULES_VERSION}"),
    "of another ledger": (change_head(ledger_id="f" * 16), "is of ledger ffffffffffffffff"),
    "another batch's hash": (change_head(hash=b"\1" * 32), "the ledger has another batch at sequence"),
    "a sequence that is not its name's": (change_head(sequence=4), "not what its name says"),
    "more users than it has": (change_head(user_count=77), "counts 77"),
    "two heads": (change_pieces(lambda pieces: pieces.append(pieces[0])), "has no place there"),
    "an unknown piece": (change_pieces(lambda pieces: pieces.append(Piece())), "is not known"),
    "no head": (change_pieces(lambda pieces: pieces.pop(0)), "no head"),
    "money of an asset that nobody knows": (
        change_pieces(lambda pieces: setattr(pieces[1].users.users[0].balances[0], "asset", "XRP")), "says what cannot be",
    ),
    "an order of a symbol that nobody knows": (
        change_pieces(lambda pieces: setattr(pieces[2].orders.orders[0], "symbol", "XRP-USD")), "says what cannot be",
    ),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARM)
def test_what_is_not_right_is_reported_and_the_snapshot_before_it_is_used_or_the_whole_ledger(
    ledger: SegmentReader, snapshots: Path, older: Path, newer: Path, harm: str
) -> None:
    do, why = HARM[harm]
    do(newer)
    with capture_logs() as logs:
        used = newest_snapshot(snapshots, ledger)
    assert used is not None
    assert used.state.describe() == state_at(ledger, sequence_of(older)).describe()
    (report,) = logs
    assert (report["log_level"], report["file"]) == ("error", str(newer))
    assert why in report["why"]
    older.unlink()
    assert newest_snapshot(snapshots, ledger) is None


def test_any_flipped_bit_is_noticed(ledger: SegmentReader, snapshots: Path) -> None:
    path = write_snapshot_at(ledger, snapshots, 30)
    whole = path.read_bytes()
    chance = random.Random(5)
    for place in range(len(whole)):
        for bit in range(8) if place < 40 else (chance.randrange(8),):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(SnapshotUnusable):
                load_snapshot(snapshots, sequence_of(path), ledger)
    path.write_bytes(whole)
    assert load_snapshot(snapshots, sequence_of(path), ledger).state.sequence == sequence_of(path)


def test_an_engine_starts_right_whatever_became_of_its_snapshots(
    data_dir: Path, snapshots: Path, older: Path, newer: Path
) -> None:
    expected = state_at(SegmentReader.open(data_dir / LEDGER_FOLDER))
    newer.write_bytes(newer.read_bytes()[:-1])
    for began_with in (sequence_of(older), 0):
        with capture_logs() as logs, running_engine(data_dir, instruments=()) as engine:
            assert engine.state.describe()["orders"] == expected.describe()["orders"]
            assert engine.state.describe()["accounts"] == expected.describe()["accounts"]
        assert [entry["snapshot_sequence"] for entry in logs if entry["event"] == "recovered"] == [began_with]
        assert {entry["file"] for entry in logs if entry["log_level"] == "error"} >= {str(newer)}
        older.write_bytes(b"")
    code, said = verify_ledger(data_dir)
    assert code == 65
    assert f"snapshot {older} cannot be used" in said
    assert "Traceback" not in said


def test_a_snapshot_of_more_than_the_ledger_has_is_not_used_and_neither_is_it_once_the_ledger_has_grown_past_it(
    data_dir: Path, snapshots: Path, tmp_path: Path
) -> None:
    """A ledger put back from an older copy."""
    shutil.copytree(data_dir / LEDGER_FOLDER, tmp_path / "copy")
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("later", USD="7")
        written = write_snapshot_at(
            SegmentReader.open(data_dir / LEDGER_FOLDER), data_dir / "snapshots", client.durable_sequence()
        )
    shutil.rmtree(data_dir / LEDGER_FOLDER)
    shutil.copytree(tmp_path / "copy", data_dir / LEDGER_FOLDER)
    for why in ("the ledger ends at", "the ledger has another batch at sequence"):
        with (
            capture_logs() as logs,
            running_engine(data_dir) as engine,
            EngineClient(engine.address) as client,
        ):
            (report,) = [entry for entry in logs if entry.get("file") == str(written)]
            assert why in report["why"]
            assert client.balances("later") == {} or "another batch" in why
            client.fund("later", USD="8")
            client.fund("later", BTC="8")
            assert client.durable_sequence() >= sequence_of(written)


def test_the_verification_finds_a_snapshot_that_is_whole_and_yet_another_state(data_dir: Path, older: Path, newer: Path) -> None:
    code, said = verify_ledger(data_dir)
    assert code == 0, said
    assert "2 snapshots are what the ledger says up to there" in said
    change_pieces(another_state)(newer)
    code, said = verify_ledger(data_dir)
    assert code == 65
    assert f"snapshot {newer} cannot be used: it is not what the ledger says up to there" in said
    newer.unlink()
    shutil.copy(older, snapshot_path(older.parent, 10**9))
    code, said = verify_ledger(data_dir)
    assert code == 65
    assert "not what its name says" in said


def test_a_ledger_written_under_newer_rules_is_refused_in_words(data_dir: Path, snapshots: Path) -> None:
    def newer_rules(batch: object) -> None:
        batch.start_engine.rules_version = RULES_VERSION + 1
        batch.commands[0].engine_started.rules_version = RULES_VERSION + 1

    forge_batch(data_dir, 1, newer_rules)
    said = f"from sequence 1 on the ledger was written under rules version {RULES_VERSION + 1}, .* up to {RULES_VERSION}: use"
    with pytest.raises(LedgerUnreadable, match=said):
        start_engine(data_dir)
    assert list_snapshots(snapshots) == []
    code, text = verify_ledger(data_dir)
    assert (code, "rules version" in text, "Traceback" in text) == (65, True, False)
