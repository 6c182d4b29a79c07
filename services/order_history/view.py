"""What the history knows at this moment: how far it is, what is open, whether it is well. Lives in the event loop's thread
alone and needs no lock: the ingest thread hands over each chunk after it is stored, so nothing is shown that a restart could
take back.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

import grpc
from google.protobuf.duration_pb2 import Duration

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_pb2
from services.order_history.engine_client import EngineAway
from services.order_history.order_processor import Chunk, StoredUpdate
from services.order_history.stores import Checkpoint
from services.order_history.user_share import ALL_USERS, UserShare
from services.wire.errors import CallError
from services.wire.position import Position, encode_position

# A call that waits for a position answers this long before its deadline, so that the caller still hears why.
_DEADLINE_MARGIN_SECONDS = 0.2
_NO_ORDERS: Mapping[int, order_pb2.OrderUpdate] = {}


class Progress(NamedTuple):
    """What the ingest thread knows beside what it stored. ``first_durable_sequence`` is what the engine had when it was first
    asked (None: it did not answer yet); ``store_trouble`` says why nothing can be stored now (empty: it can).
    """

    ledger_id: str
    durable_sequence: int
    first_durable_sequence: int | None
    live: bool
    gaps_repaired: int
    store_trouble: str


class Engine(Protocol):
    """What the view asks of the engine."""

    async def durable_sequence(self, timeout_seconds: float) -> int:
        """The last synced sequence. Raises EngineAway."""
        ...


class Follower(Protocol):
    """Hears of each step of the view, in the loop's thread, in order."""

    def advanced(self, chunk: Chunk) -> None:
        """The chunk is stored and in the view."""
        ...

    def halted(self, error: CallError) -> None:
        """The history has halted: there will be no more."""
        ...


class HistoryView:
    """The state that all calls share, from the store's checkpoint and open orders on; where those are not known yet (None),
    nothing can be read before ``begin``. ``users``: whose orders it has, for the status alone.

    ``wait_seconds_max``: how long a call without a deadline waits for a position. ``lag_seconds_max``: how long the history
    may be behind before it is unfit to serve. ``clock``: monotonic seconds.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        open_orders: Iterable[StoredUpdate] | None,
        engine: Engine,
        *,
        store_kind: str,
        wait_seconds_max: float,
        lag_seconds_max: float,
        users: UserShare = ALL_USERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger_id, self._epoch, self._applied_sequence = checkpoint.ledger_id, checkpoint.epoch, checkpoint.sequence
        self._progress = Progress(self._ledger_id, self._applied_sequence, None, live=False, gaps_repaired=0, store_trouble="")
        self._halt_reason = ""
        self._begun = False
        self._caught_up = False
        self._behind_since: float | None = None
        self._users: dict[str, dict[int, order_pb2.OrderUpdate]] = {}
        self._owners: dict[int, str] = {}
        self._waiters: set[tuple[int, asyncio.Future[None]]] = set()
        self._followers: list[Follower] = []
        self._engine = engine
        self._store_kind = store_kind
        self._shards = str(users)
        self._wait_seconds_max = wait_seconds_max
        self._lag_seconds_max = lag_seconds_max
        self._clock = clock
        if open_orders is not None:
            self.begin(open_orders)

    @property
    def ledger_id(self) -> str:
        """The ledger that the history follows; empty before it met one."""
        return self._ledger_id

    @property
    def applied_sequence(self) -> int:
        """The end of the last applied batch."""
        return self._applied_sequence

    @property
    def position(self) -> str:
        """The applied position, as clients carry it; empty before the history met a ledger."""
        return self.position_at(self._applied_sequence)

    def position_at(self, sequence: int) -> str:
        """The position at the end of the batch that ends at ``sequence``."""
        return encode_position(self._ledger_id, sequence) if self._ledger_id else ""

    def open_orders(self, user_id: str) -> Mapping[int, order_pb2.OrderUpdate]:
        """The user's open orders by order_id, in rising order; not to be kept or changed."""
        return self._users.get(user_id, _NO_ORDERS)

    def begin(self, open_orders: Iterable[StoredUpdate]) -> None:
        """The store may be read; these orders are open at its checkpoint."""
        for update in open_orders:
            self._keep(update)
        self._begun = True

    def follow(self, follower: Follower) -> None:
        """Tell ``follower`` of each step from here on."""
        self._followers.append(follower)

    def advance(self, chunk: Chunk, progress: Progress) -> None:
        """The chunk is stored: show it."""
        for update in chunk.open.values():
            self._keep(update)
        for order_id in chunk.closed:
            self._drop(order_id)
        self._epoch, self._applied_sequence = chunk.epoch, chunk.last_sequence
        self.observe(progress)
        for sequence, waiter in self._waiters:
            if sequence <= self._applied_sequence and not waiter.done():
                waiter.set_result(None)
        for follower in self._followers:
            follower.advanced(chunk)

    def observe(self, progress: Progress) -> None:
        """Something beside the stored has changed."""
        self._progress = progress
        self._ledger_id = progress.ledger_id
        target = progress.first_durable_sequence
        self._caught_up = self._caught_up or (target is not None and self._applied_sequence >= target)
        if self._applied_sequence >= progress.durable_sequence:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = self._clock()

    def halt(self, reason: str) -> None:
        """The history stops here, for good: ``reason`` names the sequence. What is known is not to be trusted any more (the
        ledger may have parted from it), so reads, waits and watches end with DATA_LOSS; the status can still be asked.
        """
        self._halt_reason = reason
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(self._halted())
        for follower in self._followers:
            follower.halted(self._halted())

    def ensure_readable(self) -> None:
        """Raise CallError DATA_LOSS (HALTED) where the history has halted, UNAVAILABLE (DEPENDENCY_DOWN) before ``begin``."""
        if self._halt_reason:
            raise self._halted()
        if not self._begun:
            raise CallError(grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DEPENDENCY_DOWN, self._not_begun())

    def ensure_ours(self, position: Position) -> None:
        """Raise CallError OUT_OF_RANGE for a position of another ledger."""
        if self._ledger_id and position.ledger_id != self._ledger_id:
            raise CallError(
                grpc.StatusCode.OUT_OF_RANGE,
                reasons.ERROR_REASON_POSITION_OUT_OF_RANGE,
                f"the position is of the ledger {position.ledger_id}, this history follows {self._ledger_id} "
                f"and has all of it: the oldest position is {self.position_at(0)}",
                metadata={"oldest_position": self.position_at(0)},
            )

    async def reach(self, position: Position, timeout_seconds: float | None) -> None:
        """Return once the position is applied.

        Raises CallError UNAVAILABLE (NOT_YET_APPLIED, with ``applied_position`` in its metadata) just before
        ``timeout_seconds`` have passed, OUT_OF_RANGE for a position of another ledger, DATA_LOSS where the history halts.
        None: the caller set no deadline, a configured time counts.
        """
        self.ensure_readable()
        self.ensure_ours(position)
        if position.sequence <= self._applied_sequence:
            return
        waiter = asyncio.get_running_loop().create_future()
        entry = (position.sequence, waiter)
        self._waiters.add(entry)
        try:
            async with asyncio.timeout(self._patience(timeout_seconds)):
                await waiter
        except TimeoutError:
            raise CallError(
                grpc.StatusCode.UNAVAILABLE,
                reasons.ERROR_REASON_NOT_YET_APPLIED,
                f"the history has applied {self._applied_sequence}, not yet {position.sequence}: call again later",
                metadata={"applied_position": self.position},
            ) from None
        finally:
            self._waiters.discard(entry)
        self.ensure_ours(position)

    async def engine_durable_sequence(self, timeout_seconds: float | None) -> int:
        """The engine's durable sequence now, asked of the engine. Raises CallError UNAVAILABLE (DEPENDENCY_DOWN)."""
        try:
            return await self._engine.durable_sequence(self._patience(timeout_seconds))
        except EngineAway as away:
            raise CallError(
                grpc.StatusCode.UNAVAILABLE,
                reasons.ERROR_REASON_DEPENDENCY_DOWN,
                f"the engine, whose durable sequence the answer needs, cannot be asked: {away}",
            ) from away

    def trouble(self) -> str:
        """Why the history is unfit to serve at this moment; empty where it is fit."""
        if self._halt_reason:
            return self._halted().message
        if not self._begun:
            return self._not_begun()
        if self._progress.store_trouble:
            return f"the store cannot be used now: {self._progress.store_trouble}"
        if not self._caught_up:
            return "catching up after the start"
        lag = self._lag_seconds()
        return f"behind the engine for {lag:.1f} s" if lag > self._lag_seconds_max else ""

    def status(self) -> pb.GetHistoryStatusResponse:
        """The whole answer of GetHistoryStatus."""
        progress = self._progress
        durable_sequence = max(progress.durable_sequence, self._applied_sequence)
        lag = Duration()
        lag.FromMicroseconds(int(self._lag_seconds() * 1e6))
        if self._halt_reason:
            state = pb.HISTORY_STATE_HALTED
        else:
            state = pb.HISTORY_STATE_LIVE if progress.live and self._begun else pb.HISTORY_STATE_CATCHING_UP
        return pb.GetHistoryStatusResponse(
            ledger_id=self._ledger_id,
            epoch=self._epoch,
            applied_sequence=self._applied_sequence,
            durable_sequence=durable_sequence,
            lag_commands=durable_sequence - self._applied_sequence,
            lag=lag,
            position=self.position,
            state=state,
            halt_reason=self._halt_reason,
            gaps_repaired=progress.gaps_repaired,
            open_orders=len(self._owners),
            store=self._store_kind,
            user_shards=self._shards,
        )

    def _not_begun(self) -> str:
        why = self._progress.store_trouble or "rows that a server may have forgotten are written again, which needs the engine"
        return f"the store cannot be read yet: {why}"

    def _halted(self) -> CallError:
        message = f"the history has halted: {self._halt_reason}"
        return CallError(grpc.StatusCode.DATA_LOSS, reasons.ERROR_REASON_HALTED, message)

    def _patience(self, timeout_seconds: float | None) -> float:
        if timeout_seconds is None:
            return self._wait_seconds_max
        return max(timeout_seconds - _DEADLINE_MARGIN_SECONDS, timeout_seconds / 2)

    def _lag_seconds(self) -> float:
        return 0.0 if self._behind_since is None else self._clock() - self._behind_since

    def _keep(self, update: StoredUpdate) -> None:
        self._users.setdefault(update.user_id, {})[update.order_id] = update.message
        self._owners[update.order_id] = update.user_id

    def _drop(self, order_id: int) -> None:
        user_id = self._owners.pop(order_id, None)
        if user_id is None:
            return
        orders = self._users[user_id]
        del orders[order_id]
        if not orders:
            del self._users[user_id]
