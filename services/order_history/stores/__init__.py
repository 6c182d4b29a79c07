"""What a store of the history promises, whichever database keeps it: the two repositories, and the store that applies a whole
chunk to both with its checkpoint. Each store passes the same contract tests.

    StoreError
    ├── StoreRefused      at opening: in use by another process, made by a newer program, or none of ours
    ├── StoreUnavailable  it cannot be reached or is full: nothing of the call was stored, the same call may work later
    └── StoreDamaged      what it holds, or was told to hold, cannot be right: stop, and let an operator look
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from services.order_history.order_processor import Chunk, EndedOrder, StoredUpdate

SCANNED_ORDERS_MAX: Final = 5_000
"""How many rows one page of a filtered list looks at, at most; such a page is short and the list goes on after it."""


class StoreError(Exception):
    """Something about the store; the module says which kind there is."""


class StoreRefused(StoreError):
    """The store cannot be opened by this process."""


class StoreUnavailable(StoreError):
    """The store cannot do it now."""


class StoreDamaged(StoreError):
    """The store, or what it was told to hold, cannot be right."""


class Checkpoint(NamedTuple):
    """How far a store has applied which ledger; sequence 0, no ledger and no hash before the first chunk."""

    ledger_id: str
    epoch: int
    sequence: int
    hash: bytes


class Rewrite(NamedTuple):
    """What has to be written again, since a server that acknowledged it may have forgotten it: the rows of the ledger's batches
    after ``after_sequence`` (0: from the first) up to ``until_sequence``, which ends a batch with ``hash``. ``loss`` is the
    number of the newest loss that it is for.
    """

    after_sequence: int
    until_sequence: int
    hash: bytes
    loss: int


class StoredRow(NamedTuple):
    """A row as a check sees it: whose it is, where it belongs, and all that it holds as text; equal rows have equal text.

    ``place`` is the ledger's sequence that the row comes from, its order_id where the row does not say that, or 0 for a row
    that many commands write alike.
    """

    table: str
    user_id: str
    place: int
    content: str


OrderKey = tuple[int, int]
"""Place of an order in a list that is newest first: (created_at in microseconds since 1970, order_id)."""


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders a list is about; an empty collection or None leaves that rule out. Times are microseconds since 1970,
    ``from`` is inclusive, ``until`` is not. Statuses and sides are the contract's numbers.
    """

    symbols: Collection[str] = ()
    statuses: Collection[int] = ()
    side: int = 0
    created_from: int | None = None
    created_until: int | None = None
    updated_from: int | None = None
    updated_until: int | None = None


@dataclass(frozen=True, slots=True)
class FillFilter:
    """Which fills a list is about, as OrderFilter."""

    symbols: Collection[str] = ()
    order_id: int | None = None
    traded_from: int | None = None
    traded_until: int | None = None


class OrderPage(NamedTuple):
    """Rows with their keys, newest first, and down to which key (inclusive) all was looked at; None: to the end."""

    rows: list[tuple[OrderKey, bytes]]
    looked_to: OrderKey | None


class FillPage(NamedTuple):
    """Fills, newest first, and down to which sequence (inclusive) all was looked at; None: to the end."""

    updates: list[StoredUpdate]
    looked_to: int | None


class UpdatePlace(NamedTuple):
    """A place in an order's timeline: an update's sequence and its number there; both 0 before the first."""

    sequence: int
    update_number: int


class PointInTime(NamedTuple):
    """What a time is in a user's updates: the last one not later (0: none), and the last position not later (0: none)."""

    sequence: int
    position: int


class ActiveOrdersRepository(Protocol):
    """The newest update of each open order: a copy on disk for cold starts, since open orders are served from memory."""

    def upsert(self, orders: Iterable[StoredUpdate]) -> None:
        """Keep each as its order's newest update."""
        ...

    def delete(self, orders: Iterable[EndedOrder]) -> None:
        """Drop orders that ended; one that was never there (a rejected one) is no error."""
        ...

    def read_all(self) -> Iterator[StoredUpdate]:
        """Every open order, by order_id."""
        ...


class OrderHistoryRepository(Protocol):
    """Every update of every order, and the list of those that ended. Reads are coroutines and raise StoreUnavailable."""

    def insert(self, chunk: Chunk) -> None:
        """Keep the chunk's updates, its orders that ended and its client names; each is written once, for good."""
        ...

    async def find_order_id(self, user_id: str, client_order_id: str) -> int | None:
        """The order that the user calls so."""
        ...

    async def latest_update(self, order_id: int, until_sequence: int | None = None) -> StoredUpdate | None:
        """The order's newest update, or its newest not later than ``until_sequence``."""
        ...

    async def order_updates(self, order_id: int, after: UpdatePlace, limit: int) -> list[StoredUpdate]:
        """The order's next updates, oldest first. Fewer than ``limit`` only where there are no more."""
        ...

    async def user_updates(self, user_id: str, after_sequence: int, limit: int) -> list[StoredUpdate]:
        """The user's next updates, in ledger order. Fewer than ``limit`` only where there are no more."""
        ...

    async def ended_orders(self, user_id: str, wanted: OrderFilter, before: OrderKey | None, limit: int) -> OrderPage:
        """The user's orders that ended and are wanted, newest first, older than ``before``."""
        ...

    async def fills(self, user_id: str, wanted: FillFilter, before_sequence: int | None, limit: int) -> FillPage:
        """The user's fills that are wanted, newest first, older than ``before_sequence``."""
        ...

    async def point_in_time(self, user_id: str, time: int) -> PointInTime:
        """Where ``time`` (microseconds since 1970) is in the user's updates."""
        ...


class HistoryStore(Protocol):
    """Both repositories, written together. One thread writes; the coroutines are for the loop's thread."""

    @property
    def kind(self) -> str:
        """Which database it is, for example "sqlite"."""
        ...

    @property
    def active_orders(self) -> ActiveOrdersRepository:
        """The open orders."""
        ...

    @property
    def order_history(self) -> OrderHistoryRepository:
        """All orders' updates."""
        ...

    def checkpoint(self) -> Checkpoint:
        """How far the store has come."""
        ...

    def apply(self, chunk: Chunk) -> bool:
        """Store a chunk and move the checkpoint to its end, all of it or nothing. True: done. False: the store had it.

        Raises StoreUnavailable (try the same chunk again); StoreDamaged where the chunk neither begins after the checkpoint
        nor ends at or before it, is of another ledger, or (where the store can tell) writes again what is written once.
        "Nothing" is what a reader sees after a restart: a store without transactions may have some of the rows already.
        """
        ...

    def due_rewrite(self) -> Rewrite | None:
        """What has to be written again before anything may be read; None for nothing, always so where a store cannot forget. Less
        may be due than a moment before, where a lost server is back that has forgotten nothing.
        """
        ...

    def rewrite(self, chunk: Chunk) -> None:
        """Write the rows of a chunk that was applied once more: equal rows again, nothing else. Raises StoreUnavailable."""
        ...

    def settle(self, rewrite: Rewrite) -> None:
        """All of ``rewrite`` was written: reads may go on, unless more was lost meanwhile. Raises StoreUnavailable."""
        ...

    def rows_of(self, chunk: Chunk) -> Iterator[StoredRow]:
        """The rows that the chunk leaves for good (so not the open orders), as ``stored_rows`` gives them."""
        ...

    def stored_rows(self) -> Iterator[StoredRow]:
        """Every row of every table that is written for good, in no particular order. Raises StoreUnavailable."""
        ...

    def close(self) -> None:
        """Finish what runs, close the files, free the lock; once more does nothing."""
        ...


def ensure_next(at: Checkpoint, chunk: Chunk) -> bool:
    """Whether the chunk is what comes after ``at``; false where it is a repeat. Raises StoreDamaged where it is neither."""
    if at.sequence and chunk.ledger_id != at.ledger_id:
        raise StoreDamaged(f"a chunk of the ledger {chunk.ledger_id} came, the store has {at.ledger_id}")
    if chunk.last_sequence <= at.sequence:
        return False
    if chunk.first_sequence != at.sequence + 1:
        raise StoreDamaged(
            f"a chunk of {chunk.first_sequence} to {chunk.last_sequence} came, the store goes on at {at.sequence + 1}"
        )
    return True
