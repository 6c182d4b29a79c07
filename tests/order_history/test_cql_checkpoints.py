"""The checkpoints of several processes on one CQL store, by a clock that only the test moves: what is called stored is stored,
and what is called safe was acknowledged long enough ago, whoever had which users, was killed, and whatever a server forgot then.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest

from services.order_history.stores import Checkpoint, StoreDamaged, StoreUnavailable
from services.order_history.stores.cql_checkpoints import CqlCheckpoints
from services.order_history.stores.cql_connections import Server
from services.order_history.stores.cql_losses import Losses
from services.order_history.user_share import ALL_USERS, SHARDS, UserShare

SAFE_SECONDS = 10.0
LEDGER_ID = "00112233aabbccdd"
SERVER = "8d2ab372-35b8-4d2c-a7a7-3c1d2dd2a5f7"
LOW, HIGH = UserShare(0, 127), UserShare(128, 255)


class Written(NamedTuple):
    """A version of a row."""

    at: float
    timestamp: int
    values: tuple[Any, ...]


class Statement:
    """One of the two writes that there are."""

    def __init__(self, table: str, values: tuple[Any, ...] = ()) -> None:
        self.table = table
        self.values = values

    def bind(self, values: tuple[Any, ...]) -> "Statement":
        """With values."""
        return Statement(self.table, values)


class Tables:
    """The tables of checkpoints and of servers in memory, in the place of a session. The one server that has them can forget,
    which takes a start; and be ``down``.
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        self.down = False
        self.started = 1
        self._versions: dict[tuple[str, str], list[Written]] = {}

    def clock(self) -> float:
        """Monotonic seconds."""
        return self.now

    def prepare(self, cql: str) -> Statement:
        """See CqlSession."""
        return Statement("servers" if "servers" in cql else "checkpoints")

    def write_all(self, statements: Iterable[Statement]) -> None:
        """See CqlSession."""
        if self.down:
            raise StoreUnavailable("down")
        for statement in statements:
            *values, timestamp = statement.values
            versions = self._versions.setdefault((statement.table, values[0]), [])
            versions.append(Written(self.now, timestamp, tuple(values)))

    def execute(self, cql: str, values: tuple[str] | None = None) -> list[tuple[Any, ...]]:
        """See CqlSession: the version with the highest timestamp counts."""
        table = "servers" if "servers" in cql else "checkpoints"
        rows = [max(v, key=lambda written: written.timestamp).values for (of, _), v in self._versions.items() if of == table]
        return rows if values is None else [row[1:] for row in rows if row[0] == values[0]]

    def forget(self, chance: random.Random) -> None:
        """Start anew without some of what was acknowledged less than SAFE_SECONDS ago."""
        self.started += 1
        for key, versions in list(self._versions.items()):
            young = next((i for i, version in enumerate(versions) if version.at > self.now - SAFE_SECONDS), len(versions))
            cut = chance.randint(young, len(versions))
            if cut:
                self._versions[key] = versions[:cut]
            else:
                del self._versions[key]

    def open(self, share: UserShare, quiet_since: Callable[[], float] = lambda: 0.0) -> CqlCheckpoints:
        """As a process with that share does."""
        return CqlCheckpoints(self, share, SAFE_SECONDS, self.clock, quiet_since)  # type: ignore[arg-type]


def at(sequence: int) -> Checkpoint:
    return Checkpoint(LEDGER_ID, 1, sequence, str(sequence).encode())


@pytest.fixture
def table() -> Tables:
    return Tables()


def test_what_was_acknowledged_is_safe_only_after_the_time_that_a_disk_needs(table: Tables) -> None:
    checkpoints = table.open(ALL_USERS)
    for sequence, after_seconds, safe_sequence in ((10, 0.0, 0), (20, 6.0, 0), (30, 3.9, 0), (40, 0.2, 10), (50, 20.0, 40)):
        table.now += after_seconds
        checkpoints.reach(at(sequence), sequence)
        assert checkpoints.safe_sequence == safe_sequence
        again = table.open(ALL_USERS)
        assert (again.current, again.safe_sequence) == (at(sequence), safe_sequence)


def test_a_start_takes_nothing_for_safe_that_the_process_before_it_did_not(table: Tables) -> None:
    table.open(ALL_USERS).reach(at(10), 10)
    table.now += 1_000
    checkpoints = table.open(ALL_USERS)
    checkpoints.reach(at(20), 20)
    assert checkpoints.safe_sequence == 0


def test_nothing_moves_while_the_store_is_down(table: Tables) -> None:
    checkpoints = table.open(ALL_USERS)
    checkpoints.reach(at(10), 10)
    table.now += SAFE_SECONDS
    table.down = True
    with pytest.raises(StoreUnavailable):
        checkpoints.reach(at(20), 20)
    assert (checkpoints.current, checkpoints.safe_sequence) == (at(10), 0)
    table.down = False
    checkpoints.reach(at(20), 20)
    assert (checkpoints.current, checkpoints.safe_sequence) == (at(20), 10)


def reached(table: Tables, share: UserShare, safe_sequence: int, sequence: int) -> None:
    checkpoints = table.open(share)
    checkpoints.reach(at(safe_sequence), safe_sequence)
    table.now += SAFE_SECONDS
    checkpoints.reach(at(sequence), sequence)


def test_a_part_begins_where_the_whole_was(table: Tables) -> None:
    reached(table, ALL_USERS, 10, 20)
    part = table.open(HIGH)
    assert (part.current, part.safe_sequence) == (at(20), 10)


def test_the_whole_begins_at_the_farthest_part_and_writes_again_from_where_all_are_safe(table: Tables) -> None:
    reached(table, LOW, 10, 20)
    reached(table, HIGH, 40, 50)
    whole = table.open(ALL_USERS)
    assert (whole.current, whole.safe_sequence) == (at(50), 10)


def test_an_old_row_of_the_same_share_does_not_hide_what_others_did_since(table: Tables) -> None:
    reached(table, ALL_USERS, 1, 2)
    reached(table, LOW, 10, 20)
    reached(table, HIGH, 15, 30)
    whole = table.open(ALL_USERS)
    assert (whole.current, whole.safe_sequence) == (at(30), 10)


def test_of_users_that_nobody_had_nothing_is_stored(table: Tables) -> None:
    reached(table, LOW, 10, 20)
    some = table.open(UserShare(100, 200))
    assert (some.current, some.safe_sequence) == (at(20), 0)
    none = table.open(HIGH)
    assert (none.current, none.safe_sequence) == (Checkpoint("", 0, 0, b""), 0)


def test_a_rewrite_moves_the_row_only_without_a_hole_and_never_back(table: Tables) -> None:
    reached(table, LOW, 10, 20)
    reached(table, HIGH, 15, 30)
    whole = table.open(ALL_USERS)
    whole.reach_again(16, at(30), 30)
    assert table.open(ALL_USERS).safe_sequence == 10
    whole.reach_again(11, at(25), 25)
    whole.reach_again(11, at(22), 22)
    assert {row[3] for row in table.execute("") if row[0] == str(ALL_USERS)} == {25}
    assert whole.current == at(30)


def test_checkpoints_of_two_ledgers_are_refused(table: Tables) -> None:
    table.open(LOW).reach(at(10), 10)
    table.open(HIGH).reach(Checkpoint("f" * 16, 1, 5, b"other"), 5)
    with pytest.raises(StoreDamaged, match="several ledgers"):
        table.open(ALL_USERS)


def test_only_the_share_itself_knows_which_servers_have_all_of_it(table: Tables) -> None:
    reached(table, ALL_USERS, 10, 20)
    table.open(ALL_USERS).know({SERVER: 1})
    assert table.open(ALL_USERS).known_servers == {SERVER: 1}
    assert table.open(HIGH).known_servers == {}
    reached(table, LOW, 20, 30)
    assert table.open(ALL_USERS).known_servers == {}


class Shards:
    """What is stored of some shards: when each of the ledger's sequences was acknowledged first, since writing it again cannot
    take it from the disk.
    """

    def __init__(self) -> None:
        self.acknowledged: dict[int, dict[int, float]] = {shard: {} for shard in range(0, SHARDS, 16)}

    def of(self, share: UserShare) -> list[dict[int, float]]:
        """Those of the share."""
        return [rows for shard, rows in self.acknowledged.items() if share.first <= shard <= share.last]

    def write(self, share: UserShare, first: int, last: int, now: float) -> None:
        """The rows of these sequences."""
        for rows in self.of(share):
            for sequence in range(first, last + 1):
                rows.setdefault(sequence, now)

    def forget(self, now: float, chance: random.Random) -> None:
        """Lose some of what was acknowledged less than SAFE_SECONDS ago."""
        for rows in self.acknowledged.values():
            for sequence in [s for s, when in rows.items() if when > now - SAFE_SECONDS and chance.random() < 0.5]:
                del rows[sequence]


def random_shares(chance: random.Random) -> list[UserShare]:
    cuts = sorted(16 * cut for cut in chance.sample(range(1, SHARDS // 16), chance.randint(0, 3)))
    return [UserShare(first, after - 1) for first, after in zip([0, *cuts], [*cuts, SHARDS], strict=True)]


def live(table: Tables, shards: Shards, share: UserShare, ledger_end: int, chance: random.Random) -> None:
    """One process from its start to its kill, which may come at any moment."""
    losses = Losses(table.clock)
    losses.connected(Server("127.0.0.1", SERVER, table.started))
    checkpoints = table.open(share, lambda: losses.quiet_since)
    safe, current = checkpoints.safe_sequence, checkpoints.current.sequence
    for rows in shards.of(share):
        assert all(rows[sequence] <= table.now - SAFE_SECONDS for sequence in range(1, safe + 1))
    losses.begin({SERVER}, checkpoints.known_servers, is_whole=safe == current)
    checkpoints.know(losses.whole_servers())
    sequence = current if losses.are_settled else safe
    while True:
        if sequence >= current:
            assert all(rows.keys() >= set(range(1, sequence + 1)) for rows in shards.of(share)), "this may be read"
            if not losses.are_settled:
                checkpoints.write_again()
                losses.settle(losses.newest_open)
                checkpoints.know(losses.whole_servers())
            if sequence >= ledger_end:
                return
        first, sequence = sequence + 1, min(sequence + chance.randint(1, 9), current if sequence < current else ledger_end)
        shards.write(share, first, sequence, table.now)
        if chance.random() < 0.03:
            return
        if sequence <= current:
            checkpoints.reach_again(first, at(sequence), sequence)
        else:
            checkpoints.reach(at(sequence), sequence)
        table.now += chance.choice((0.0, 0.5, 4.0))
        if chance.random() < 0.03:
            return


@pytest.mark.parametrize("seed", range(60))
def test_whoever_has_which_users_and_is_killed_nothing_is_missing_that_is_not_written_again(table: Tables, seed: int) -> None:
    chance = random.Random(seed)
    shards, ledger_end = Shards(), 0
    for _ in range(12):
        ledger_end += chance.randint(0, 60)
        for share in random_shares(chance):
            if chance.random() < 0.8:
                live(table, shards, share, ledger_end, chance)
        if chance.random() < 0.5:
            shards.forget(table.now, chance)
            table.forget(chance)
        table.now += chance.choice((0.0, 5.0, 100.0))
