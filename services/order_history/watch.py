"""Streams a user's updates as they happen: ordered, unique, complete, whole per batch, resumable and bookmarked.

Runs in the event loop's thread, where the view advances in single steps: copying the open orders (or reading how far the view
is) and registering for what follows is one such step, so there is no hole between the two. Each watcher has a bounded queue; one
that does not keep up is cut off with its position and costs the others nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import grpc

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_pb2
from services.order_history.order_processor import Chunk, StoredUpdate
from services.order_history.outgoing import (
    ENVELOPE_BYTES,
    MESSAGE_BYTES_MAX,
    MESSAGE_UPDATES_MAX,
    UPDATE_OVERHEAD_BYTES,
    OutgoingStream,
    messages_of,
    whole_batches,
    with_position,
)
from services.order_history.requests import WatchQuestion
from services.order_history.stores import StoreUnavailable
from services.order_history.view import HistoryView
from services.wire.errors import CallError
from services.wire.position import Position, encode_position

_SNAPSHOT_ORDERS_MAX = 500

Write = Callable[[pb.WatchOrdersResponse], Awaitable[None]]


class UserUpdates(Protocol):
    """What a catch-up reads."""

    async def user_updates(self, user_id: str, after_sequence: int, limit: int) -> list[StoredUpdate]:
        """The user's next updates, in ledger order; fewer than ``limit`` only where there are no more."""
        ...


class WatchHub:
    """All watchers of this process; a follower of the view.

    ``queue_updates_max``: updates that wait for one watcher at most (a batch, or what one step brings to an empty queue, is
    always taken whole). ``stall_seconds``: how long one message may wait for its reader. ``heartbeat_seconds``: a watcher that
    heard nothing for so long gets a heartbeat with its position. ``page_updates``: how many updates a catch-up reads at a time.
    """

    def __init__(
        self,
        view: HistoryView,
        history: UserUpdates,
        *,
        queue_updates_max: int,
        stall_seconds: float,
        heartbeat_seconds: float,
        page_updates: int = MESSAGE_UPDATES_MAX,
    ) -> None:
        self._view = view
        self._history = history
        self._queue_updates_max = queue_updates_max
        self._stall_seconds = stall_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._page_updates = page_updates
        self._watchers: set[_Watcher] = set()
        self._registered: dict[str, set[_Watcher]] = {}
        self._ahead: set[_Watcher] = set()

    @property
    def running(self) -> int:
        """How many watches run."""
        return len(self._watchers)

    async def serve(self, question: WatchQuestion, write: Write) -> None:
        """Answer one WatchOrders until its caller leaves (the task is cancelled) or it has to end.

        Raises CallError: OUT_OF_RANGE for ``after`` of another ledger; with the last ``position`` in their metadata
        RESOURCE_EXHAUSTED (READER_TOO_SLOW), UNAVAILABLE (DRAINING, DEPENDENCY_DOWN) and DATA_LOSS (HALTED).
        """
        self._view.ensure_readable()
        watcher = _Watcher(question, write, self._queue_updates_max, self._stall_seconds)
        self._watchers.add(watcher)
        try:
            if question.after is None:
                await self._send_snapshot(watcher)
            else:
                await self._catch_up(watcher, question.after)
            await self._send_live(watcher)
        except StoreUnavailable as down:
            error = CallError(grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DEPENDENCY_DOWN, f"the store is down: {down}")
            raise with_position(error, watcher.position) from down
        finally:
            self._watchers.discard(watcher)
            self._ahead.discard(watcher)
            self._unregister(watcher)

    def advanced(self, chunk: Chunk) -> None:
        """The view's step: hand each registered watcher what is its user's."""
        for watcher in self._ahead:
            watcher.wake.set()
        if not self._registered:
            return
        mine: dict[str, list[StoredUpdate]] = {}
        for update in chunk.updates:
            if update.user_id in self._registered:
                mine.setdefault(update.user_id, []).append(update)
        for user_id, updates in mine.items():
            for watcher in self._registered[user_id]:
                watcher.offer(updates)

    def halted(self, error: CallError) -> None:
        """The view's last step: end every watch."""
        self.end_all(error)

    def end_all(self, error: CallError) -> None:
        """End every watch that is running with ``error`` and its position."""
        for watcher in self._watchers:
            watcher.end(error)

    async def _send_snapshot(self, watcher: "_Watcher") -> None:
        await self._wait_until(watcher, 0)
        orders = [o for o in self._view.open_orders(watcher.question.user_id).values() if _wants(watcher.question, o)]
        position = self._view.position
        self._register(watcher)
        page = pb.WatchOrdersResponse(snapshot=pb.WatchSnapshot())
        size = ENVELOPE_BYTES
        for order in orders:
            cost = order.ByteSize() + UPDATE_OVERHEAD_BYTES
            if size + cost > MESSAGE_BYTES_MAX or len(page.snapshot.orders) == _SNAPSHOT_ORDERS_MAX:
                await watcher.send(page)
                page = pb.WatchOrdersResponse(snapshot=pb.WatchSnapshot())
                size = ENVELOPE_BYTES
            page.snapshot.orders.append(order)
            size += cost
        page.snapshot.last_page = True
        page.position = position
        await watcher.send(page)

    async def _catch_up(self, watcher: "_Watcher", after: Position) -> None:
        """Send what is stored later than ``after``. A page that is not full has come to the end of what is stored: then the
        watcher registers, and one more read (of the little that was stored meanwhile) joins the two without a hole.
        """
        user_id = watcher.question.user_id
        await self._wait_for(watcher, after)
        cursor, registered, unsent = after.sequence, False, list[StoredUpdate]()
        watcher.sent_until = after.sequence
        while True:
            page = await self._history.user_updates(user_id, cursor, self._page_updates)
            watcher.raise_end()
            full = len(page) >= self._page_updates
            cursor = page[-1].sequence if page else cursor
            unsent += page
            whole = whole_batches(unsent) if full else len(unsent)
            if whole:
                await self._send_updates(watcher, unsent[:whole])
                watcher.sent_until = unsent[whole - 1].batch_end
                del unsent[:whole]
            if watcher.idle_seconds >= self._heartbeat_seconds:
                await self._send_heartbeat(watcher, watcher.sent_until)
            if not full and registered:
                return
            if not full:
                self._register(watcher)
                registered = True

    async def _wait_for(self, watcher: "_Watcher", after: Position) -> None:
        self._view.ensure_ours(after)
        await self._wait_until(watcher, after.sequence)
        self._view.ensure_ours(after)

    async def _wait_until(self, watcher: "_Watcher", sequence: int) -> None:
        """Wait until the history has met its ledger (before that there is no position) and applied it up to ``sequence``."""
        self._ahead.add(watcher)
        while self._view.applied_sequence < sequence or not self._view.ledger_id:
            if not await watcher.woken(self._heartbeat_seconds):
                await watcher.send(pb.WatchOrdersResponse(position=watcher.position, heartbeat=pb.WatchHeartbeat()))
        self._ahead.discard(watcher)

    async def _send_live(self, watcher: "_Watcher") -> None:
        while True:
            woken = bool(watcher.queue) or await watcher.woken(self._heartbeat_seconds)
            # What is stored is read before the view hears of it, so a catch-up can be ahead of the view for a moment.
            updates, sequence = watcher.take(), max(self._view.applied_sequence, watcher.sent_until)
            if updates:
                await self._send_updates(watcher, updates, sequence)
            elif not woken:
                await self._send_heartbeat(watcher, sequence)

    async def _send_heartbeat(self, watcher: "_Watcher", sequence: int) -> None:
        position = self._view.position_at(sequence)
        await watcher.send(pb.WatchOrdersResponse(position=position, heartbeat=pb.WatchHeartbeat()))

    async def _send_updates(
        self, watcher: "_Watcher", updates: Sequence[StoredUpdate], until_sequence: int | None = None
    ) -> None:
        """Send whole batches. ``until_sequence``: up to where ``updates`` are all that the watcher gets (else: to their end)."""
        wanted = _wanted(watcher.question, updates)
        sent = 0
        for part, batch_end in messages_of(wanted):
            sent += len(part)
            end = until_sequence if until_sequence is not None and sent == len(wanted) else batch_end
            response = pb.WatchOrdersResponse(position=self._view.position_at(end) if end else "")
            add = response.updates.updates.add
            for update in part:
                add().ParseFromString(update.data)
            await watcher.send(response)

    def _register(self, watcher: "_Watcher") -> None:
        self._registered.setdefault(watcher.question.user_id, set()).add(watcher)

    def _unregister(self, watcher: "_Watcher") -> None:
        watchers = self._registered.get(watcher.question.user_id, set())
        watchers.discard(watcher)
        if not watchers:
            self._registered.pop(watcher.question.user_id, None)


class _Watcher(OutgoingStream[pb.WatchOrdersResponse]):
    """One running watch: what waits for it, and where it is."""

    def __init__(self, question: WatchQuestion, write: Write, queue_updates_max: int, stall_seconds: float) -> None:
        position = "" if question.after is None else encode_position(*question.after)
        super().__init__(write, position, stall_seconds, "watch again")
        self.question = question
        self.queue: list[StoredUpdate] = []
        self.wake = asyncio.Event()
        self.sent_until = 0
        self._queue_updates_max = queue_updates_max

    def offer(self, updates: list[StoredUpdate]) -> None:
        """Queue what the filters let through, or end the watch where the queue is too long: nothing is skipped."""
        wanted = _wanted(self.question, updates)
        if self.is_ending or not wanted:
            return
        if self.queue and len(self.queue) + len(wanted) > self._queue_updates_max:
            self.end_too_slow(f"more than {self._queue_updates_max} updates wait for it")
            return
        self.queue += wanted
        self.wake.set()

    def take(self) -> list[StoredUpdate]:
        """All that waits and was not sent yet."""
        taken, self.queue = self.queue, []
        self.wake.clear()
        if taken and taken[0].sequence <= self.sent_until:
            return [update for update in taken if update.sequence > self.sent_until]
        return taken

    def end(self, error: CallError) -> None:
        """Let the watch end with ``error``, without waiting for a reader that does not read."""
        if self.is_ending:
            return
        super().end(error)
        self.queue = []
        self.wake.set()

    async def woken(self, timeout_seconds: float) -> bool:
        """Wait until something happens; false where nothing does. Raises the CallError that ends the watch."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.wake.wait()
        except TimeoutError:
            return False
        self.wake.clear()
        self.raise_end()
        return True


def _wanted(question: WatchQuestion, updates: Sequence[StoredUpdate]) -> Sequence[StoredUpdate]:
    if not question.symbols and not question.order_ids:
        return updates
    return [update for update in updates if _wants(question, update)]


def _wants(question: WatchQuestion, update: StoredUpdate | order_pb2.OrderUpdate) -> bool:
    return (not question.symbols or update.symbol in question.symbols) and (
        not question.order_ids or update.order_id in question.order_ids
    )
