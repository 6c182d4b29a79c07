"""engine.db: found at once, kept over restarts, thrown away where it cannot be right, never silently behind."""

import re
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.matching_engine.ledger import IndexEntries, LedgerIndex, LedgerIndexFailed
from tests.support.eventually import eventually

LEDGER_ID = "0123456789abcdef"
PLACE, CANCEL = 1, 2
NEVER = 3600.0  # seconds until a flush that nobody asks for


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "engine.db"


@pytest.fixture
def index(path: Path) -> Iterator[LedgerIndex]:
    opened = LedgerIndex.open(path, LEDGER_ID, 0, flush_seconds=NEVER)
    yield opened
    opened.close()


def stored(path: Path, query: str) -> object:
    connection = apsw.Connection(str(path))
    try:
        return connection.execute(query).get
    finally:
        connection.close()


def filled(path: Path, through_sequence: int = 10) -> None:
    """A closed index that knows one key and one ended order."""
    index = LedgerIndex.open(path, LEDGER_ID, 0)
    index.record(IndexEntries({("user", PLACE, "key"): 7}, {1: 8}, through_sequence))
    index.close()


def test_what_is_recorded_is_found_before_and_after_it_is_written(path: Path, index: LedgerIndex) -> None:
    index.record(IndexEntries({("user", PLACE, "a"): 3, ("user", CANCEL, "a"): 4}, {1: 3}, 5))
    for _ in range(2):
        assert index.indexed_sequence == 5
        assert index.first_answer("user", PLACE, "a") == 3
        assert index.first_answer("user", CANCEL, "a") == 4
        assert index.first_answer("other", PLACE, "a") is None
        assert index.first_answer("user", PLACE, "b") is None
        assert index.last_update(1) == 3
        assert index.last_update(2) is None
        index.flush()
    assert stored(path, "SELECT count(*) FROM first_answers") == 2
    assert stored(path, "SELECT indexed_sequence FROM progress") == 5


def test_many_keys_are_answered_in_their_order_wherever_they_are(index: LedgerIndex) -> None:
    index.record(IndexEntries({("user", PLACE, f"old-{number}"): number + 1 for number in range(50)}, {}, 50))
    index.flush()
    index.record(IndexEntries({("user", PLACE, f"new-{number}"): number + 51 for number in range(50)}, {}, 100))
    keys = [("user", PLACE, f"{age}-{number}") for number in range(51) for age in ("new", "old")]
    expected = [sequence for number in range(50) for sequence in (number + 51, number + 1)]
    assert index.first_answers(keys) == [*expected, None, None]
    assert index.first_answers([]) == []


def test_a_key_keeps_its_first_answer_and_an_order_its_last_update(index: LedgerIndex) -> None:
    index.record(IndexEntries({("user", PLACE, "a"): 1}, {1: 1}, 1))
    index.record(IndexEntries({("user", PLACE, "a"): 2}, {1: 2}, 2))
    for sequence in (3, 4):
        assert (index.first_answer("user", PLACE, "a"), index.last_update(1)) == (1, sequence - 1)
        index.flush()
        index.record(IndexEntries({("user", PLACE, "a"): sequence}, {1: sequence}, sequence))


def test_it_is_there_after_reopening(path: Path) -> None:
    filled(path)
    index = LedgerIndex.open(path, LEDGER_ID, 10)
    assert (index.discarded, index.indexed_sequence) == (None, 10)
    assert (index.first_answer("user", PLACE, "key"), index.last_update(1)) == (7, 8)
    index.close()


def test_an_index_behind_its_ledger_is_kept_to_be_completed(path: Path) -> None:
    filled(path)
    index = LedgerIndex.open(path, LEDGER_ID, 1000)
    assert (index.discarded, index.indexed_sequence) == (None, 10)
    index.close()


def test_what_is_indexed_already_is_refused(index: LedgerIndex) -> None:
    index.record(IndexEntries({}, {}, 5))
    for through in (4, 5):
        with pytest.raises(ValueError, match=f"sequence {through} is indexed already"):
            index.record(IndexEntries({}, {}, through))


def test_it_writes_by_itself_after_a_while(path: Path) -> None:
    index = LedgerIndex.open(path, LEDGER_ID, 0, flush_seconds=0.01)
    index.record(IndexEntries({}, {1: 1}, 1))
    eventually(lambda: stored(path, "SELECT count(*) FROM ended_orders") == 1)
    index.record(IndexEntries({}, {}, 2))
    eventually(lambda: stored(path, "SELECT indexed_sequence FROM progress") == 2)
    index.close()


def overwrite(path: Path, start: int, end: int) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:start] + b"\xa5" * (end - start) + data[end:])


@pytest.mark.parametrize(
    ("spoil", "ledger_id", "durable_sequence", "reason"),
    [
        (Path.touch, LEDGER_ID, 9, "it knows of sequence 10, the ledger ends at 9"),
        (Path.touch, "f" * 16, 10, f"it belongs to ledger {LEDGER_ID}"),
        (lambda path: overwrite(path, 0, 100), LEDGER_ID, 10, "it is damaged: .*not a database"),
        (lambda path: overwrite(path, 4096, 1 << 20), LEDGER_ID, 10, "it is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), LEDGER_ID, 10, "it is damaged"),
        (lambda path: path.write_bytes(b""), LEDGER_ID, 10, "it has schema version 0"),
        (lambda path: path.write_bytes(b"no database"), LEDGER_ID, 10, "it is damaged"),
        (lambda path: stored(path, "DROP TABLE progress"), LEDGER_ID, 10, "it is damaged: .*no such table"),
        (lambda path: stored(path, "PRAGMA user_version = 99"), LEDGER_ID, 10, "it has schema version 99, this program uses 1"),
    ],
    ids=["ahead", "other ledger", "header", "pages", "cut", "empty", "no database", "no table", "other schema"],
)
def test_one_that_cannot_be_right_is_begun_anew_and_says_why(
    path: Path, spoil: object, ledger_id: str, durable_sequence: int, reason: str
) -> None:
    filled(path)
    spoil(path)  # type: ignore[operator]
    index = LedgerIndex.open(path, ledger_id, durable_sequence)
    assert index.discarded is not None
    assert re.search(reason, index.discarded)
    assert index.indexed_sequence == 0
    assert (index.first_answer("user", PLACE, "key"), index.last_update(1)) == (None, None)
    index.record(IndexEntries({("user", PLACE, "key"): 7}, {}, 10))
    index.close()
    again = LedgerIndex.open(path, ledger_id, 10)
    assert (again.discarded, again.first_answer("user", PLACE, "key")) == (None, 7)
    again.close()


def test_one_that_was_deleted_is_begun_anew_whatever_was_left_beside_it(path: Path) -> None:
    filled(path)
    path.unlink()
    path.with_name("engine.db-wal").write_bytes(b"left over" * 1000)
    index = LedgerIndex.open(path, LEDGER_ID, 10)
    assert (index.discarded, index.indexed_sequence, index.first_answer("user", PLACE, "key")) == (None, 0, None)
    index.close()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerIndexFailed, match="unable to open"):
        LedgerIndex.open(tmp_path / "nowhere" / "engine.db", LEDGER_ID, 0)


def test_a_failed_write_is_raised_by_every_later_call(path: Path) -> None:
    index = LedgerIndex.open(path, LEDGER_ID, 0, flush_seconds=NEVER)
    stored(path, "DROP TABLE first_answers")
    index.record(IndexEntries({("user", PLACE, "a"): 1}, {}, 1))
    for call in (
        index.flush,
        lambda: index.record(IndexEntries({}, {}, 2)),
        lambda: index.first_answer("user", PLACE, "a"),
        lambda: index.last_update(1),
        index.close,
    ):
        with pytest.raises(LedgerIndexFailed, match="no such table"):
            call()


def test_damage_that_shows_while_it_runs_ends_it_and_the_next_start_begins_anew(path: Path) -> None:
    filled(path)
    index = LedgerIndex.open(path, LEDGER_ID, 10)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    for _ in range(2):
        with pytest.raises(LedgerIndexFailed, match="malformed"):
            index.first_answer("user", PLACE, "key")
    with pytest.raises(LedgerIndexFailed):
        index.close()
    again = LedgerIndex.open(path, LEDGER_ID, 10)
    assert (again.discarded, again.indexed_sequence) == (None, 0)
    again.close()


def test_one_too_large_to_be_looked_through_at_a_start_shows_its_damage_in_use(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path)
    page = stored(path, "SELECT rootpage FROM sqlite_master WHERE name = 'first_answers'")
    overwrite(path, 4096 * (page - 1), 4096 * page)
    monkeypatch.setattr("services.matching_engine.ledger.index._CHECKED_BYTES_MAX", 0)
    index = LedgerIndex.open(path, LEDGER_ID, 10)
    assert index.discarded is None
    with pytest.raises(LedgerIndexFailed, match="malformed"):
        index.first_answer("user", PLACE, "key")
    with pytest.raises(LedgerIndexFailed):
        index.close()
    again = LedgerIndex.open(path, LEDGER_ID, 10)
    assert again.indexed_sequence == 0
    again.close()


def test_recording_waits_for_a_writer_that_is_too_far_behind_so_memory_stays_bounded(path: Path) -> None:
    index = LedgerIndex.open(path, LEDGER_ID, 0, pending_entries_max=1000, flush_seconds=0.01)
    blocker = apsw.Connection(str(path))
    blocker.execute("BEGIN IMMEDIATE")
    recorded = 0

    def record() -> None:
        nonlocal recorded
        for sequence in range(1, 10_001):
            index.record(IndexEntries({("user", PLACE, f"key-{sequence}"): sequence}, {sequence: sequence}, sequence))
            recorded = sequence

    thread = threading.Thread(target=record)
    thread.start()
    eventually(lambda: recorded >= 500)
    thread.join(0.3)
    assert thread.is_alive()
    assert recorded <= 1000  # two portions of 1000 entries, of which each group has two
    blocker.execute("ROLLBACK")
    blocker.close()
    thread.join()
    assert index.first_answer("user", PLACE, "key-10000") == 10_000
    index.close()
    assert stored(path, "SELECT count(*) FROM first_answers") == 10_000


def test_memory_does_not_grow_with_the_number_of_keys(path: Path) -> None:
    index = LedgerIndex.open(path, LEDGER_ID, 0, pending_entries_max=1000)

    def record_and_measure(start: int) -> int:
        for sequence in range(start, start + 20_000, 100):
            keys = {("user", PLACE, f"key-{one}"): one for one in range(sequence, sequence + 100)}
            index.record(IndexEntries(keys, {one: one for one in keys.values()}, sequence + 99))
        index.flush()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    first = record_and_measure(1)
    assert record_and_measure(20_001) < first + 50_000
    tracemalloc.stop()
    index.close()


def test_nothing_is_ever_between_memory_and_file_while_the_writer_works_without_a_pause(path: Path) -> None:
    index = LedgerIndex.open(path, LEDGER_ID, 0, pending_entries_max=4, flush_seconds=0.0)
    for sequence in range(1, 1500):
        index.record(IndexEntries({("user", PLACE, f"key-{sequence}"): sequence}, {sequence: sequence}, sequence))
        recent = range(max(1, sequence - 12), sequence + 1)
        assert index.first_answers([("user", PLACE, f"key-{one}") for one in recent]) == list(recent)
        assert [index.last_update(one) for one in recent] == list(recent)
    index.close()


NAMES = st.text(alphabet="ABab09._:-", min_size=1, max_size=4)
KEYS = st.tuples(NAMES, st.integers(1, 7), NAMES)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    groups=st.lists(
        st.tuples(
            st.lists(KEYS, max_size=8),
            st.lists(st.integers(1, 2**63 - 1), max_size=4),
            st.sampled_from(["", "flush", "reopen"]),
        )
    ),
    asked=st.lists(KEYS, max_size=20),
)
def test_it_answers_like_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory,
    groups: list[tuple[list[tuple[str, int, str]], list[int], str]],
    asked: list[tuple[str, int, str]],
) -> None:
    path = tmp_path_factory.mktemp("index") / "engine.db"
    index = LedgerIndex.open(path, LEDGER_ID, 0, flush_seconds=NEVER)
    answers: dict[tuple[str, int, str], int] = {}
    ended: dict[int, int] = {}
    for sequence, (keys, orders, then) in enumerate(groups, start=1):
        index.record(IndexEntries(dict.fromkeys(keys, sequence), dict.fromkeys(orders, sequence), sequence))
        for key in keys:
            answers.setdefault(key, sequence)
        ended.update(dict.fromkeys(orders, sequence))
        if then == "flush":
            index.flush()
        elif then == "reopen":
            index.close()
            index = LedgerIndex.open(path, LEDGER_ID, sequence, flush_seconds=NEVER)
        assert index.indexed_sequence == sequence
    asked = asked + list(answers)
    assert index.first_answers(asked) == [answers.get(key) for key in asked]
    for order_id in (*ended, 0):
        assert index.last_update(order_id) == ended.get(order_id)
    index.close()
