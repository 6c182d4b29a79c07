"""Streams all updates of one user's orders up to a position that is fixed at the beginning: what a watch promises (ordered,
unique, complete, whole per batch, resumable), with an end. Reads the store in pages, and each page only once the reader has
taken the one before, so an export costs no more memory than a page and is as slow as its reader.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile
from typing import NamedTuple, Protocol, TypeAlias

import grpc

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import order_history_pb2 as pb
from services.order_history.order_processor import Chunk, StoredUpdate
from services.order_history.outgoing import MESSAGE_UPDATES_MAX, OutgoingStream, messages_of, whole_batches, with_position
from services.order_history.queries import TimeRemaining, store_errors_as_call_errors
from services.order_history.requests import ExportQuestion
from services.order_history.stores import PointInTime
from services.order_history.view import HistoryView
from services.wire.errors import CallError
from services.wire.position import encode_position

Write: TypeAlias = Callable[[pb.ExportOrderHistoryResponse], Awaitable[None]]


class ExportedHistory(Protocol):
    """What an export reads; see OrderHistoryRepository."""

    async def user_updates(self, user_id: str, after_sequence: int, limit: int) -> list[StoredUpdate]:
        """The user's next updates, in ledger order; fewer than ``limit`` only where there are no more."""
        ...

    async def point_in_time(self, user_id: str, time: int) -> PointInTime:
        """Where ``time`` (microseconds since 1970) is in the user's updates."""
        ...


class _Bounds(NamedTuple):
    """What an export comes to, whatever the symbols. Times rise with the sequence, so it is one stretch of the user's updates."""

    after_sequence: int
    until_sequence: int
    until_time: int | None

    def have(self, update: StoredUpdate) -> bool:
        """Whether an update later than ``after_sequence`` is not too late. A batch is in whole, or cut by ``until_time``."""
        return update.batch_end <= self.until_sequence and (self.until_time is None or update.timestamp < self.until_time)


class Exports:
    """All exports of this process; a follower of the view.

    ``stall_seconds``: how long one message may wait for its reader. ``heartbeat_seconds``: how long a filter may let nothing
    through before a message says how far the export is. ``page_updates``: how many updates are read at a time. ``reads_max``:
    how many pages are read at once, of all exports together, so that the store keeps readers for short questions.
    """

    def __init__(
        self,
        view: HistoryView,
        history: ExportedHistory,
        *,
        stall_seconds: float,
        heartbeat_seconds: float,
        page_updates: int = MESSAGE_UPDATES_MAX,
        reads_max: int = 2,
    ) -> None:
        self._view = view
        self._history = history
        self._stall_seconds = stall_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._page_updates = page_updates
        self._reads = asyncio.Semaphore(reads_max)
        self._exports: set[_Export] = set()

    @property
    def running(self) -> int:
        """How many exports run."""
        return len(self._exports)

    async def serve(self, question: ExportQuestion, time_remaining: TimeRemaining, write: Write) -> None:
        """Answer one ExportOrderHistory to its end.

        Raises CallError: OUT_OF_RANGE for a position of another ledger; with the last ``position`` in their metadata
        UNAVAILABLE (NOT_YET_APPLIED, DRAINING, DEPENDENCY_DOWN), RESOURCE_EXHAUSTED (READER_TOO_SLOW), DATA_LOSS (HALTED).
        """
        self._view.ensure_readable()
        begin = self._view.position_at(0) if question.after is None else encode_position(*question.after)
        pages = _Pages(self._history, question.user_id, self._page_updates, self._reads)
        export = _Export(self._view, pages, question, write, begin, self._stall_seconds, self._heartbeat_seconds)
        self._exports.add(export)
        try:
            await export.reach(time_remaining)
            await export.send_all()
        except CallError as error:
            if error.code is grpc.StatusCode.OUT_OF_RANGE:
                raise
            raise with_position(error, export.position) from error
        finally:
            self._exports.discard(export)

    def advanced(self, chunk: Chunk) -> None:
        """The view's step: an export's end is fixed already."""

    def halted(self, error: CallError) -> None:
        """The view's last step: end every export."""
        self.end_all(error)

    def end_all(self, error: CallError) -> None:
        """End every export that is running with ``error`` and its position."""
        for export in self._exports:
            export.end(error)


class _Pages:
    """Reads one user's updates for an export, in its turn. Raises CallError where the store is down or damaged."""

    def __init__(self, history: ExportedHistory, user_id: str, size: int, reads: asyncio.Semaphore) -> None:
        self.size = size
        self._history = history
        self._user_id = user_id
        self._reads = reads

    async def after(self, sequence: int, limit: int) -> list[StoredUpdate]:
        """The user's next updates."""
        async with self._reads:
            with store_errors_as_call_errors():
                return await self._history.user_updates(self._user_id, sequence, limit)

    async def last_before(self, time: int) -> int:
        """The sequence of the user's last update earlier than ``time``, 0 for none."""
        async with self._reads:
            with store_errors_as_call_errors():
                return (await self._history.point_in_time(self._user_id, time - 1)).sequence


class _Export(OutgoingStream[pb.ExportOrderHistoryResponse]):
    """One running export."""

    def __init__(
        self,
        view: HistoryView,
        pages: _Pages,
        question: ExportQuestion,
        write: Write,
        position: str,
        stall_seconds: float,
        heartbeat_seconds: float,
    ) -> None:
        super().__init__(write, position, stall_seconds, "export again")
        self._view = view
        self._pages = pages
        self._question = question
        self._heartbeat_seconds = heartbeat_seconds
        self._bounds = _Bounds(0, 0, None)
        self._last_number = 0

    async def reach(self, time_remaining: TimeRemaining) -> None:
        """Wait for the positions that the question names, and fix where the export ends."""
        question = self._question
        for position in (question.at_least, question.after, question.until):
            if position is not None:
                await self.unless_ended(self._view.reach(position, time_remaining()))
        if not self._view.ledger_id:
            message = "the history has not met its ledger yet: call again later"
            raise CallError(grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_NOT_YET_APPLIED, message)
        after_sequence = 0 if question.after is None else question.after.sequence
        until_sequence = self._view.applied_sequence if question.until is None else question.until.sequence
        if question.updated_from is not None:
            after_sequence = max(after_sequence, await self.unless_ended(self._pages.last_before(question.updated_from)))
        self._bounds = _Bounds(after_sequence, until_sequence, question.updated_until)

    async def send_all(self) -> None:
        """Send what is within the bounds; the last message says that it is all."""
        page = await self._page(self._bounds.after_sequence)
        self._last_number = await self._number_of_last(page)
        unsent = list[StoredUpdate]()
        while True:
            unsent += takewhile(self._bounds.have, page)
            done = len(page) < self._pages.size or not self._bounds.have(page[-1])
            whole = len(unsent) if done else whole_batches(unsent)
            if done:
                await self._send_updates(unsent, self._bounds.until_sequence)
                return
            if whole:
                await self._send_updates(unsent[:whole], unsent[whole - 1].batch_end)
                del unsent[:whole]
            page = await self._page(page[-1].sequence)

    async def _page(self, after_sequence: int, limit: int | None = None) -> list[StoredUpdate]:
        return await self.unless_ended(self._pages.after(after_sequence, limit or self._pages.size))

    async def _number_of_last(self, page: Sequence[StoredUpdate]) -> int:
        """user_update_number of the last update within the bounds, 0 for none: in the first ``page``, or found by halving what
        is later, since the store can tell what comes after a sequence.
        """
        last = next((update for update in reversed(page) if self._bounds.have(update)), None)
        if last is None:
            return 0
        more = len(page) == self._pages.size and last is page[-1]
        low, high = last.sequence, self._bounds.until_sequence if more else last.sequence
        while low < high:
            middle = (low + high) // 2
            following = await self._page(middle, 1)
            if following and self._bounds.have(following[0]):
                last = following[0]
                low = last.sequence
            else:
                high = middle
        return last.message.user_update_number

    async def _send_updates(self, updates: Sequence[StoredUpdate], end: int) -> None:
        """Send what is wanted of whole batches, or of the rest; after them all up to ``end`` is sent."""
        symbols = self._question.symbols
        wanted = [update for update in updates if update.symbol in symbols] if symbols else updates
        sent = 0
        for part, batch_end in messages_of(wanted):
            sent += len(part)
            response = self._response(end if sent == len(wanted) else batch_end or None)
            add = response.updates.add
            for update in part:
                add().ParseFromString(update.data)
            await self.send(response)
        if not wanted and (end == self._bounds.until_sequence or self.idle_seconds >= self._heartbeat_seconds):
            await self.send(self._response(end))

    def _response(self, sequence: int | None) -> pb.ExportOrderHistoryResponse:
        """A message without updates yet; ``sequence`` None: its last batch goes on in the next one, so it has no position."""
        return pb.ExportOrderHistoryResponse(
            position="" if sequence is None else self._view.position_at(sequence),
            until=self._view.position_at(self._bounds.until_sequence),
            last_user_update_number=self._last_number,
        )
