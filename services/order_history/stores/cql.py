"""The history in ScyllaDB, or Apache Cassandra: beyond one machine. There are no transactions, so each write is one that can be
repeated: whole rows that follow from the ledger alone, with the ledger's times as their versions. A chunk's rows are all
acknowledged before the checkpoint moves.

A server with a periodic commit log can forget what it acknowledged in its last seconds. So the checkpoint also holds a safe
sequence, and whatever comes after it is written again when a server was lost, and at a start unless all servers run since before.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

from services.order_history.order_processor import Chunk, EndedOrder, StoredUpdate
from services.order_history.stores import Checkpoint, Rewrite, StoredRow, ensure_next
from services.order_history.stores.cql_checkpoints import CqlCheckpoints
from services.order_history.stores.cql_losses import Losses
from services.order_history.stores.cql_reads import CqlReads
from services.order_history.stores.cql_rows import (
    ACTIVE_ORDERS,
    BUCKETS,
    NEWEST_PARTS,
    SIZES,
    SYMBOL,
    SYMBOL_BUCKETS,
    WRITTEN,
    PartitionSizes,
    Table,
    groups_of,
    stored_row,
)
from services.order_history.stores.cql_schema import check_schema
from services.order_history.stores.cql_session import CqlSession
from services.order_history.stores.cql_settings import CqlSettings
from services.order_history.stores.cql_writes import CqlWrites
from services.order_history.user_share import ALL_USERS, UserShare
from services.wire.fields import microseconds_of

# So many places of ended orders are asked for at once, at most; all are in one partition.
_ENDED_ASKED_MAX: Final = 100


class CqlActiveOrders:
    """ActiveOrdersRepository in the table active_orders, for the users of ``share``."""

    def __init__(self, session: CqlSession, writes: CqlWrites, sizes: PartitionSizes, share: UserShare) -> None:
        self._session = session
        self._writes = writes
        self._sizes = sizes
        self._share = share
        self._all = session.prepare(
            "SELECT sequence, batch_end, order_id, user_id, symbol, exec_type, timestamp, message FROM active_orders"
        )
        self._ended = session.prepare("SELECT order_id FROM order_history WHERE user_id = ? AND bucket = ? AND created_at IN ?")

    def upsert(self, orders: Iterable[StoredUpdate]) -> None:
        """See ActiveOrdersRepository."""
        self._session.write_all(self._writes.upserts(orders))

    def delete(self, orders: Iterable[EndedOrder]) -> None:
        """See ActiveOrdersRepository."""
        self._session.write_all(self._writes.deletes(orders))

    def read_all(self) -> Iterator[StoredUpdate]:
        """See ActiveOrdersRepository. A row can come back after its delete was forgotten: its row in order_history tells, and it
        is deleted once more.
        """
        rows = (StoredUpdate._make(row) for row in self._session.scan(self._all))
        mine = sorted((u for u in rows if self._share.owns(u.user_id)), key=lambda u: u.order_id)
        ended = self._ended_of(mine)
        self._session.write_all(self._writes.deletes_of_returned(update for update in mine if update.order_id in ended))
        return (update for update in mine if update.order_id not in ended)

    def _ended_of(self, updates: Iterable[StoredUpdate]) -> set[int]:
        created: dict[tuple[str, int], list[int]] = {}
        for update in updates:
            order = update.message
            bucket = (order.order_number - 1) // self._sizes.bucket
            created.setdefault((order.user_id, bucket), []).append(microseconds_of(order.created_at))
        questions = [
            self._ended.bind((*partition, times[begin : begin + _ENDED_ASKED_MAX]))
            for partition, times in created.items()
            for begin in range(0, len(times), _ENDED_ASKED_MAX)
        ]
        return {order_id for (order_id,) in self._session.read_all(questions)}


class CqlOrderHistory(CqlReads):
    """OrderHistoryRepository in the other tables."""

    def __init__(
        self,
        session: CqlSession,
        writes: CqlWrites,
        sizes: PartitionSizes,
        applied: Callable[[], int],
        losses: Losses,
        patience_seconds: float,
    ) -> None:
        super().__init__(session, sizes, applied, losses, patience_seconds)
        self._writes = writes

    def insert(self, chunk: Chunk) -> None:
        """See OrderHistoryRepository."""
        self._session.write_all(self._writes.inserts(groups_of(chunk, self._sizes)))


class CqlHistoryStore:
    """The HistoryStore in the keyspace of ``settings``, for the users of ``share``; other processes have the rest.

    ``sizes`` and ``clock`` (monotonic seconds) are for tests. Raises StoreRefused where the keyspace has not this program's
    schema or the servers do not let us in, StoreUnavailable where they cannot be reached, StoreDamaged where the keyspace has
    checkpoints of several ledgers.
    """

    kind: Final = "scylla"

    def __init__(
        self,
        settings: CqlSettings,
        share: UserShare = ALL_USERS,
        *,
        sizes: PartitionSizes = SIZES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sizes = sizes
        self._losses = Losses(clock)
        self._session = CqlSession(settings, self._losses)
        try:
            check_schema(self._session, settings)
            self._writes = CqlWrites(self._session)
            self._checkpoints = CqlCheckpoints(
                self._session, share, settings.safe_seconds, clock, lambda: self._losses.quiet_since
            )
            self.active_orders: Final = CqlActiveOrders(self._session, self._writes, sizes, share)
            self.order_history: Final = CqlOrderHistory(
                self._session,
                self._writes,
                sizes,
                lambda: self._checkpoints.current.sequence,
                self._losses,
                settings.timeout_seconds,
            )
            self._begin()
        except BaseException:
            self._session.close()
            raise

    def checkpoint(self) -> Checkpoint:
        """See HistoryStore."""
        return self._checkpoints.current

    def apply(self, chunk: Chunk) -> bool:
        """See HistoryStore."""
        if not ensure_next(self.checkpoint(), chunk):
            return False
        self._write_rows(chunk)
        self._checkpoints.reach(_end_of(chunk), chunk.timestamp)
        return True

    def due_rewrite(self) -> Rewrite | None:
        """See HistoryStore."""
        if not (loss := self._losses.newest_open):
            return None
        at = self.checkpoint()
        rewrite = Rewrite(self._checkpoints.safe_sequence, at.sequence, at.hash, loss)
        if rewrite.after_sequence < rewrite.until_sequence:
            return rewrite
        self.settle(rewrite)
        return None

    def rewrite(self, chunk: Chunk) -> None:
        """See HistoryStore. At a start this also writes what those before us had not stored of our share."""
        self._write_rows(chunk)
        self._checkpoints.reach_again(chunk.first_sequence, _end_of(chunk), chunk.timestamp)

    def settle(self, rewrite: Rewrite) -> None:
        """See HistoryStore."""
        self._checkpoints.write_again()
        self._losses.settle(rewrite.loss)
        self._checkpoints.know(self._losses.whole_servers())

    def rows_of(self, chunk: Chunk) -> Iterator[StoredRow]:
        """See HistoryStore."""
        return (stored_row(table, values) for table, rows in groups_of(chunk, self._sizes) for values in rows)

    def stored_rows(self) -> Iterator[StoredRow]:
        """See HistoryStore."""
        for table in WRITTEN:
            if table is not ACTIVE_ORDERS:
                yield from self._stored_rows_of(table)

    def close(self) -> None:
        """See HistoryStore."""
        self._session.close()

    def _begin(self) -> None:
        """What a server forgot that was restarted before we came cannot be known: begin as after its loss."""
        checkpoints = self._checkpoints
        is_whole = checkpoints.safe_sequence == checkpoints.current.sequence
        self._losses.begin(self._session.members(), checkpoints.known_servers, is_whole=is_whole)
        checkpoints.know(self._losses.whole_servers())

    def _write_rows(self, chunk: Chunk) -> None:
        self._session.write_all(
            chain(
                self._writes.inserts(groups_of(chunk, self._sizes)),
                self._writes.upserts(chunk.open.values()),
                self._writes.deletes(chunk.ended),
            )
        )

    def _stored_rows_of(self, table: Table) -> Iterator[StoredRow]:
        distinct = "DISTINCT " if table is NEWEST_PARTS else ""
        statement = self._session.prepare(f"SELECT {distinct}{', '.join(table.columns)} FROM {table.name}")
        for values in self._session.scan(statement):
            if table is NEWEST_PARTS:
                # Each part says once that it is the newest: the last one stays.
                yield from (stored_row(table, (*values[:2], part)) for part in range(1, (values[2] or 0) + 1))
            elif (table in {BUCKETS, SYMBOL_BUCKETS} and values[1] == SYMBOL) is (table is SYMBOL_BUCKETS):
                yield stored_row(table, values)


def _end_of(chunk: Chunk) -> Checkpoint:
    return Checkpoint(chunk.ledger_id, chunk.epoch, chunk.last_sequence, chunk.hash)
