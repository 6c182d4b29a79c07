"""The questions to the history in CQL tables. Each goes to the partitions that hold the answer, found by number, so that a page
costs the same however many orders its user has and however deep in the list it is.

Rows of a chunk come into the tables in no order while it is being written, so nothing beyond the checkpoint is shown: what a
reader sees is whole up to it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from ordertape.v1 import order_pb2
from services.order_history.order_processor import StoredUpdate
from services.order_history.stores import (
    SCANNED_ORDERS_MAX,
    FillFilter,
    FillPage,
    OrderFilter,
    OrderKey,
    OrderPage,
    PointInTime,
    StoreUnavailable,
    UpdatePlace,
)
from services.order_history.stores.cql_losses import Losses
from services.order_history.stores.cql_partitions import Partitions
from services.order_history.stores.cql_rows import ORDERS, UPDATES, PartitionSizes, Values
from services.order_history.stores.cql_session import CqlSession

T = TypeVar("T")

_SEQUENCE_MAX: Final = 2**63 - 1
_KEY_MAX: Final = (_SEQUENCE_MAX, 0)
_KEY_MIN: Final = (-_SEQUENCE_MAX, 0)
_TRADE: Final = int(order_pb2.EXEC_TYPE_TRADE)
# Partitions that one page looks into, at most; then it is short and the list goes on after it.
_PARTITIONS_MAX: Final = 50
_PAGE_ROWS: Final = 500
_PARTS_SEEN_MAX: Final = 1_000
_POLL_SECONDS: Final = 0.02

_UPDATE: Final = "sequence, batch_end, order_id, user_id, symbol, exec_type, timestamp, message"
_ENDED: Final = "created_at, order_id, side, status, updated_at, sequence, message"
_KEYS: Final = "AND (created_at, order_id) < (?, ?) AND (created_at, order_id) >= (?, ?)"


class CqlReads:
    """The reading half of OrderHistoryRepository.

    ``applied``: the sequence up to which all is stored. While rows are written again that a lost server may have forgotten, reads
    wait, at most ``patience_seconds``; a read in which a server was lost is made anew.
    """

    def __init__(
        self,
        session: CqlSession,
        sizes: PartitionSizes,
        applied: Callable[[], int],
        losses: Losses,
        patience_seconds: float,
    ) -> None:
        self._session = session
        self._sizes = sizes
        self._applied = applied
        self._losses = losses
        self._patience_seconds = patience_seconds
        self._partitions = Partitions(session)
        # The newest parts of long orders as they were last seen: a guess, read together with what says whether it still holds.
        self._parts_seen: dict[int, int] = {}
        of_order = "FROM order_updates WHERE order_id = ? AND part = ?"
        self._newest_of_part = session.prepare(
            f"SELECT newest_part, {_UPDATE} {of_order} AND sequence <= ? ORDER BY sequence DESC LIMIT 1"
        )
        self._newest_part = session.prepare("SELECT newest_part FROM order_updates WHERE order_id = ? AND part = 0 LIMIT 1")
        self._updates_of_part = session.prepare(
            f"SELECT {_UPDATE} {of_order} AND sequence > ? AND sequence <= ? ORDER BY sequence ASC LIMIT ?"
        )
        self._older_of_part = session.prepare(f"SELECT {_UPDATE} {of_order} AND sequence < ? AND sequence >= ?")
        of_user = "FROM user_updates WHERE user_id = ? AND bucket = ?"
        self._updates_of_bucket = session.prepare(
            f"SELECT {_UPDATE} {of_user} AND sequence > ? AND sequence <= ? ORDER BY sequence ASC LIMIT ?"
        )
        self._newest_of_bucket = session.prepare(
            f"SELECT sequence, batch_end, timestamp {of_user} AND sequence <= ? ORDER BY sequence DESC LIMIT 1"
        )
        self._older_of_bucket = session.prepare(f"SELECT sequence, batch_end {of_user} AND sequence < ? ORDER BY sequence DESC")
        self._fills_of_bucket = session.prepare(
            f"SELECT {_UPDATE} FROM fills WHERE user_id = ? AND bucket = ? AND sequence < ? AND sequence >= ?"
        )
        self._ended = session.prepare(f"SELECT symbol, {_ENDED} FROM order_history WHERE user_id = ? AND bucket = ? {_KEYS}")
        self._ended_of_symbol = session.prepare(
            f"SELECT symbol, {_ENDED} FROM order_history_by_symbol WHERE user_id = ? AND symbol = ? AND bucket = ? {_KEYS}"
        )
        self._order_id = session.prepare("SELECT order_id FROM orders_by_client_id WHERE user_id = ? AND client_order_id = ?")

    async def find_order_id(self, user_id: str, client_order_id: str) -> int | None:
        """See OrderHistoryRepository."""
        row = await self._whole(lambda _: self._session.one(self._order_id, (user_id, client_order_id)))
        return row[0] if row else None

    async def latest_update(self, order_id: int, until_sequence: int | None = None) -> StoredUpdate | None:
        """See OrderHistoryRepository."""
        return await self._whole(lambda until: self._latest_update(order_id, until_sequence, until))

    async def _latest_update(self, order_id: int, until_sequence: int | None, until: int) -> StoredUpdate | None:
        if until_sequence is not None:
            until = min(until, until_sequence)
        guess = self._parts_seen.get(order_id, 0)
        asked = [self._session.one(self._newest_of_part, (order_id, part, until)) for part in sorted({0, guess})]
        first, *guessed = await asyncio.gather(*asked)
        if first is None or not first[0]:
            return StoredUpdate._make(first[1:]) if first else None
        if guessed and guessed[0] and guess == first[0]:
            return StoredUpdate._make(guessed[0][1:])
        self._note_parts(order_id, first[0])
        _, found = await self._part_at(order_id, first[0], until)
        return found or StoredUpdate._make(first[1:])

    async def order_updates(self, order_id: int, after: UpdatePlace, limit: int) -> list[StoredUpdate]:
        """See OrderHistoryRepository."""
        return await self._whole(lambda until: self._order_updates(order_id, after, limit, until))

    async def _order_updates(self, order_id: int, after: UpdatePlace, limit: int, until: int) -> list[StoredUpdate]:
        found: list[StoredUpdate] = []
        number = after.update_number
        while len(found) < limit:
            part = number // self._sizes.part
            values = (order_id, part, after.sequence, until, limit - len(found))
            rows = [StoredUpdate._make(row) for row in await self._session.rows(self._updates_of_part, values)]
            found += rows
            number += len(rows)
            if number < (part + 1) * self._sizes.part:
                break
        return found

    async def user_updates(self, user_id: str, after_sequence: int, limit: int) -> list[StoredUpdate]:
        """See OrderHistoryRepository."""
        return await self._whole(lambda until: self._user_updates(user_id, after_sequence, limit, until))

    async def _user_updates(self, user_id: str, after_sequence: int, limit: int, until: int) -> list[StoredUpdate]:
        newest = await self._partitions.newest(user_id, UPDATES)
        if newest is None:
            return []
        at = newest if newest.first_sequence <= after_sequence else await self._partitions.at_sequence(user_id, after_sequence)
        found: list[StoredUpdate] = []
        for bucket in range(at.number if at else 0, newest.number + 1):
            values = (user_id, bucket, after_sequence, until, limit - len(found))
            found += [StoredUpdate._make(row) for row in await self._session.rows(self._updates_of_bucket, values)]
            if len(found) == limit:
                break
        return found

    async def ended_orders(self, user_id: str, wanted: OrderFilter, before: OrderKey | None, limit: int) -> OrderPage:
        """See OrderHistoryRepository."""
        return await self._whole(lambda until: self._ended_orders(user_id, wanted, before, limit, until))

    async def _ended_orders(
        self, user_id: str, wanted: OrderFilter, before: OrderKey | None, limit: int, until: int
    ) -> OrderPage:
        newest = min(before or _KEY_MAX, _KEY_MAX if wanted.created_until is None else (wanted.created_until, 0))
        oldest = _KEY_MIN if wanted.created_from is None else (wanted.created_from, 0)
        begin = await self._partitions.at_time(user_id, ORDERS, newest[0])
        if begin is None or newest <= oldest:
            return OrderPage([], None)
        end = None if wanted.created_from is None else await self._partitions.at_time(user_id, ORDERS, wanted.created_from)
        symbol = next(iter(wanted.symbols)) if len(wanted.symbols) == 1 else None
        statement = self._ended if symbol is None else self._ended_of_symbol
        found: list[tuple[OrderKey, bytes]] = []
        looked, partitions, looked_into = 0, 0, begin.number
        async for bucket in self._partitions.downwards(user_id, symbol, begin.number, end.number if end else 0):
            if partitions == _PARTITIONS_MAX:
                # All that is in later buckets was looked at.
                return OrderPage(found, ((await self._partitions.bucket(user_id, ORDERS, looked_into)).first_time, 0))
            partitions, looked_into = partitions + 1, bucket
            place: Values = (user_id, bucket) if symbol is None else (user_id, symbol, bucket)
            async for page in self._session.pages(statement, (*place, *newest, *oldest), min(_PAGE_ROWS, limit)):
                for symbol_of_row, created_at, order_id, side, status, updated_at, sequence, message in page:
                    looked += 1
                    if sequence <= until and _is_wanted(wanted, symbol_of_row, side, status, updated_at):
                        found.append(((created_at, order_id), message))
                    if len(found) == limit or looked == SCANNED_ORDERS_MAX:
                        return OrderPage(found, (created_at, order_id))
        return OrderPage(found, None)

    async def fills(self, user_id: str, wanted: FillFilter, before_sequence: int | None, limit: int) -> FillPage:
        """See OrderHistoryRepository."""
        return await self._whole(lambda until: self._fills(user_id, wanted, before_sequence, limit, until))

    async def _fills(self, user_id: str, wanted: FillFilter, before_sequence: int | None, limit: int, until: int) -> FillPage:
        newest = until + 1
        oldest = 0
        if before_sequence is not None:
            newest = min(newest, before_sequence)
        if wanted.traded_until is not None:
            newest = min(newest, (await self._point_in_time(user_id, wanted.traded_until - 1, until)).sequence + 1)
        if wanted.traded_from is not None:
            oldest = (await self._point_in_time(user_id, wanted.traded_from - 1, until)).sequence + 1
        if wanted.order_id is None:
            pages = self._fill_pages(user_id, newest, oldest, min(_PAGE_ROWS, limit))
        else:
            pages = self._order_pages(wanted.order_id, newest, oldest, _PAGE_ROWS)
        found: list[StoredUpdate] = []
        looked = 0
        async for updates, looked_to in pages:
            for update in updates:
                looked += 1
                if _is_fill(update, user_id, wanted):
                    found.append(update)
                if len(found) == limit or looked == SCANNED_ORDERS_MAX:
                    return FillPage(found, update.sequence)
            if looked_to is not None:
                return FillPage(found, looked_to)
        return FillPage(found, None)

    async def point_in_time(self, user_id: str, time: int) -> PointInTime:
        """See OrderHistoryRepository. Times rise with the sequence: the bucket is known by its first time, the place in it is
        found by halving: nothing up to ``low`` is later, all from ``high`` on is.
        """
        return await self._whole(lambda until: self._point_in_time(user_id, time, until))

    async def _point_in_time(self, user_id: str, time: int, until: int) -> PointInTime:
        bucket = await self._partitions.at_time(user_id, UPDATES, time)
        if bucket is not None and bucket.first_sequence > until:
            bucket = await self._partitions.at_sequence(user_id, until)
        if bucket is None:
            return PointInTime(0, 0)
        low, high = bucket.first_sequence, until + 1
        found = None
        probe = until
        while found is None or high - low > 1:
            row = await self._session.one(self._newest_of_bucket, (user_id, bucket.number, probe))
            if row is None:  # the bucket's first row is stored with it, and is not later
                raise StoreUnavailable(f"bucket {bucket.number} of {user_id} has no row up to {probe}")
            if row[2] <= time:
                low, found = probe, row
            else:
                high = row[0]
            probe = (low + high) // 2
        sequence, batch_end, _ = found
        following = await self._following(user_id, bucket.number, sequence, until)
        if following is None or following.batch_end != batch_end:
            return PointInTime(sequence, batch_end)
        # The time is in the middle of a batch, where no position is.
        return PointInTime(sequence, await self._batch_before(user_id, bucket.number, sequence, batch_end))

    async def _whole(self, read: Callable[[int], Awaitable[T]]) -> T:
        """What ``read`` gives of all up to the sequence that it gets, on a store that was whole from its beginning to its end."""
        while True:
            losses = await self._settled()
            answer = await read(self._applied())
            if self._losses.count == losses:
                return answer

    async def _settled(self) -> int:
        """Wait until the store is whole; how many losses there were by then."""
        end = asyncio.get_running_loop().time() + self._patience_seconds
        while not self._session.closed:
            losses = self._losses.count
            if self._losses.are_settled:
                return losses
            if asyncio.get_running_loop().time() > end:
                raise StoreUnavailable("rows that a lost server may have forgotten are being written again")
            await asyncio.sleep(_POLL_SECONDS)
        raise StoreUnavailable("the store is closed")

    def _note_parts(self, order_id: int, newest_part: int) -> None:
        if len(self._parts_seen) >= _PARTS_SEEN_MAX:
            self._parts_seen.clear()
        self._parts_seen[order_id] = newest_part

    async def _part_at(self, order_id: int, newest_part: int, until: int) -> tuple[int, StoredUpdate | None]:
        """The order's last part that begins at or before ``until``, and its newest update up to there: the newest part at best,
        else found by halving; part 0 has no update in this answer.
        """
        low, high, found = 0, newest_part, None
        probe = newest_part
        while low < high:
            row = await self._session.one(self._newest_of_part, (order_id, probe, until))
            if row:
                low, found = probe, StoredUpdate._make(row[1:])
            else:
                high = probe - 1
            probe = (low + high + 1) // 2
        return low, found

    async def _fill_pages(
        self, user_id: str, newest: int, oldest: int, page_rows: int
    ) -> AsyncIterator[tuple[list[StoredUpdate], int | None]]:
        """The user's fills, newest first; with the last page of so many partitions, down to where all was looked at."""
        begin = await self._partitions.at_sequence(user_id, newest - 1)
        end = await self._partitions.at_sequence(user_id, oldest) if oldest else None
        last = end.number if end else 0
        for partitions, bucket in enumerate(range(begin.number if begin else -1, last - 1, -1), start=1):
            async for page in self._session.pages(self._fills_of_bucket, (user_id, bucket, newest, oldest), page_rows):
                yield [StoredUpdate._make(row) for row in page], None
            if partitions == _PARTITIONS_MAX and bucket > last:
                yield [], (await self._partitions.bucket(user_id, UPDATES, bucket)).first_sequence
                return

    async def _order_pages(
        self, order_id: int, newest: int, oldest: int, page_rows: int
    ) -> AsyncIterator[tuple[list[StoredUpdate], int | None]]:
        """The order's updates, newest first."""
        row = await self._session.one(self._newest_part, (order_id,))
        part = (await self._part_at(order_id, row[0] or 0, newest - 1))[0] if row else -1
        while part >= 0:
            async for page in self._session.pages(self._older_of_part, (order_id, part, newest, oldest), page_rows):
                yield [StoredUpdate._make(row) for row in page], None
            part -= 1

    async def _following(self, user_id: str, bucket: int, sequence: int, until: int) -> StoredUpdate | None:
        for number in (bucket, bucket + 1):
            rows = await self._session.rows(self._updates_of_bucket, (user_id, number, sequence, until, 1))
            if rows:
                return StoredUpdate._make(rows[0])
        return None

    async def _batch_before(self, user_id: str, bucket: int, sequence: int, batch_end: int) -> int:
        for number in range(bucket, -1, -1):
            async for page in self._session.pages(self._older_of_bucket, (user_id, number, sequence), _PAGE_ROWS):
                for _, end in page:
                    if end < batch_end:
                        return int(end)
        return 0


def _is_wanted(wanted: OrderFilter, symbol: str, side: int, status: int, updated_at: int) -> bool:
    return (
        (not wanted.symbols or symbol in wanted.symbols)
        and (not wanted.statuses or status in wanted.statuses)
        and wanted.side in {0, side}
        and (wanted.updated_from is None or updated_at >= wanted.updated_from)
        and (wanted.updated_until is None or updated_at < wanted.updated_until)
    )


def _is_fill(update: StoredUpdate, user_id: str, wanted: FillFilter) -> bool:
    return update.exec_type == _TRADE and update.user_id == user_id and (not wanted.symbols or update.symbol in wanted.symbols)
