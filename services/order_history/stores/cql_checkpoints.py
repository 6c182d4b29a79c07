"""How far the history has come in a CQL store, and which servers have all of that. Each process has a row for its share of the
users; one whose share is another than before begins from the rows of all that had a part of it.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from uuid import UUID

from services.order_history.stores import Checkpoint, StoreDamaged
from services.order_history.stores.cql_session import CqlSession
from services.order_history.user_share import UserShare

_COLUMNS: Final = "consumer, ledger_id, epoch, sequence, safe_sequence, hash, first_shard, last_shard"


class _Row(NamedTuple):
    consumer: str
    ledger_id: str
    epoch: int
    sequence: int
    safe_sequence: int
    hash: bytes
    first_shard: int
    last_shard: int

    def covers(self, shard: int) -> bool:
        return self.first_shard <= shard <= self.last_shard


class CqlCheckpoints:
    """The share's checkpoint. ``current`` is how far the farthest of those is that had a part of the share; all rows of the share
    are stored, and safe from being forgotten, up to ``safe_sequence`` (at most that).

    ``known_servers`` are those, by host_id, that have forgotten nothing of the share in the generation that stands there; none
    where the share begins from the rows of others. ``safe_seconds``: after how long an acknowledged write is surely on its
    servers' disks; ``clock``: monotonic seconds; ``quiet_since``: since when no server was lost (see Losses).
    """

    def __init__(
        self,
        session: CqlSession,
        share: UserShare,
        safe_seconds: float,
        clock: Callable[[], float],
        quiet_since: Callable[[], float],
    ) -> None:
        self._session = session
        self._share = share
        self._safe_seconds = safe_seconds
        self._clock = clock
        self._quiet_since = quiet_since
        self._insert = session.prepare(f"INSERT INTO checkpoints ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?")
        self._insert_server = session.prepare(
            # A server's generations only rise, so each is its own time.
            "INSERT INTO servers (consumer, host_id, generation) VALUES (?, ?, ?) USING TIMESTAMP ?"
        )
        self._acknowledged: deque[tuple[float, int]] = deque()
        self._newest: tuple[Checkpoint, int] | None = None
        self.known_servers: dict[str, int] = {}
        self.current, self.safe_sequence, self._own_sequence = self._read()

    def reach(self, checkpoint: Checkpoint, timestamp: int) -> None:
        """All rows of the share up to ``checkpoint`` are acknowledged; ``timestamp`` is that of its last command (microseconds).
        Raises StoreUnavailable: then nothing has moved.
        """
        now, quiet_since = self._clock(), self._quiet_since()
        safe_sequence = self.safe_sequence
        for acknowledged_at, sequence in self._acknowledged:
            if now - max(acknowledged_at, quiet_since) < self._safe_seconds:
                break
            safe_sequence = sequence
        self._write(checkpoint, safe_sequence, timestamp)
        while self._acknowledged and self._acknowledged[0][1] <= safe_sequence:
            self._acknowledged.popleft()
        self._acknowledged.append((now, checkpoint.sequence))
        self.safe_sequence = safe_sequence
        self._own_sequence = checkpoint.sequence
        self._newest = checkpoint, timestamp
        if checkpoint.sequence >= self.current.sequence:
            self.current = checkpoint

    def reach_again(self, first_sequence: int, checkpoint: Checkpoint, timestamp: int) -> None:
        """As ``reach``, of what was rewritten from ``first_sequence`` on: counts where it takes the share's own row further, at
        most to where others were.
        """
        if first_sequence <= self._own_sequence + 1 and self._own_sequence < checkpoint.sequence <= self.current.sequence:
            self.reach(checkpoint, timestamp)

    def write_again(self) -> None:
        """Write the row once more, which a server may have forgotten like all that was not safe. Raises StoreUnavailable."""
        if self._newest is not None:
            self._write(self._newest[0], self.safe_sequence, self._newest[1])

    def know(self, servers: Mapping[str, int]) -> None:
        """These servers have forgotten nothing of the share in these generations. Raises StoreUnavailable."""
        fresh = {host_id: number for host_id, number in servers.items() if self.known_servers.get(host_id) != number}
        self._session.write_all(
            self._insert_server.bind((str(self._share), UUID(host_id), number, number)) for host_id, number in fresh.items()
        )
        self.known_servers |= fresh

    def _write(self, checkpoint: Checkpoint, safe_sequence: int, timestamp: int) -> None:
        ledger_id, epoch, sequence, ledger_hash = checkpoint
        row = _Row(str(self._share), ledger_id, epoch, sequence, safe_sequence, ledger_hash, *self._share)
        self._session.write_all([self._insert.bind((*row, timestamp))])

    def _read(self) -> tuple[Checkpoint, int, int]:
        rows = [_Row._make(row) for row in self._session.execute(f"SELECT {_COLUMNS} FROM checkpoints")]
        if len({row.ledger_id for row in rows}) > 1:
            raise StoreDamaged(
                f"the keyspace has checkpoints of several ledgers: {', '.join(sorted({r.ledger_id for r in rows}))}"
            )
        best = [
            max((row for row in rows if row.covers(shard)), key=lambda row: (row.sequence, row.safe_sequence), default=None)
            for shard in range(self._share.first, self._share.last + 1)
        ]
        farthest = max((row for row in best if row), key=lambda row: row.sequence, default=None)
        if farthest is None:
            return Checkpoint("", 0, 0, b""), 0, 0
        if all(row and row.consumer == str(self._share) for row in best):
            servers = self._session.execute("SELECT host_id, generation FROM servers WHERE consumer = %s", (str(self._share),))
            self.known_servers = {str(host_id): generation for host_id, generation in servers}
        safe_sequence = min(row.safe_sequence if row else 0 for row in best)
        own_sequence = max([safe_sequence, *(row.sequence for row in rows if row.consumer == str(self._share))])
        return Checkpoint(farthest.ledger_id, farthest.epoch, farthest.sequence, farthest.hash), safe_sequence, own_sequence
