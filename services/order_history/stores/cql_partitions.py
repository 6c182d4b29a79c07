"""Finds the partition where something is: a user's buckets begin at known sequences and times and are numbered without a hole,
so the newest ones are read at once and an old one is found by halving.
"""

from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from services.order_history.stores import StoreDamaged
from services.order_history.stores.cql_rows import SYMBOL, UPDATES
from services.order_history.stores.cql_session import CqlSession

_NEWEST_BUCKETS: Final = 100


class Bucket(NamedTuple):
    """A bucket of a user's orders or updates, and where it begins: a sequence, and a time in microseconds since 1970."""

    number: int
    first_sequence: int
    first_time: int


class Partitions:
    """Asks the table ``buckets``."""

    def __init__(self, session: CqlSession) -> None:
        self._session = session
        bucket = "SELECT bucket, first_sequence, first_time FROM buckets WHERE user_id = ? AND kind = ? AND symbol = ''"
        self._newest = session.prepare(f"{bucket} LIMIT 1")
        self._newest_ones = session.prepare(f"{bucket} LIMIT {_NEWEST_BUCKETS}")
        self._bucket = session.prepare(f"{bucket} AND bucket = ?")
        self._of_symbol = session.prepare(
            "SELECT bucket FROM buckets WHERE user_id = ? AND kind = ? AND symbol = ? AND bucket <= ? AND bucket >= ?"
        )

    async def newest(self, user_id: str, kind: str) -> Bucket | None:
        """The user's newest bucket."""
        row = await self._session.one(self._newest, (user_id, kind))
        return Bucket._make(row) if row else None

    async def bucket(self, user_id: str, kind: str, number: int) -> Bucket:
        """The user's bucket of that number, which has to be there. Raises StoreDamaged."""
        row = await self._session.one(self._bucket, (user_id, kind, number))
        if row is None:
            raise StoreDamaged(f"{user_id} has later {kind.lower()} than those of bucket {number}, but no such bucket")
        return Bucket._make(row)

    async def at_sequence(self, user_id: str, sequence: int) -> Bucket | None:
        """The last bucket of the user's updates that begins at or before ``sequence``; None where all begin later."""
        return await self._last(user_id, UPDATES, Bucket(0, sequence, 0), 1)

    async def at_time(self, user_id: str, kind: str, time: int) -> Bucket | None:
        """The last bucket that begins at or before ``time``; None where all begin later."""
        return await self._last(user_id, kind, Bucket(0, 0, time), 2)

    async def downwards(self, user_id: str, symbol: str | None, newest: int, oldest: int) -> AsyncIterator[int]:
        """The numbers of the user's buckets of orders (of one symbol's, where one is named) from newest to oldest."""
        if symbol is None:
            for number in range(newest, oldest - 1, -1):
                yield number
            return
        async for page in self._session.pages(self._of_symbol, (user_id, SYMBOL, symbol, newest, oldest)):
            for (number,) in page:
                yield number

    async def _last(self, user_id: str, kind: str, bound: Bucket, field: int) -> Bucket | None:
        buckets = [Bucket._make(row) for row in await self._session.rows(self._newest_ones, (user_id, kind))]
        for bucket in buckets:
            if bucket[field] <= bound[field]:
                return bucket
        found, low, high = None, 0, buckets[-1].number - 1 if buckets else -1
        while low <= high:
            bucket = await self.bucket(user_id, kind, (low + high) // 2)
            if bucket[field] <= bound[field]:
                found, low = bucket, bucket.number + 1
            else:
                high = bucket.number - 1
        return found
