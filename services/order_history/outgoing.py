"""What the streams of updates share: messages that are not too large and cut between batches where possible, a write that waits
for its reader but not for ever, and an end that names the position to go on from. Lives in the event loop's thread.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, Generic, Protocol, TypeVar

import grpc

from ordertape.v1 import error_reason_pb2 as reasons
from services.order_history.order_processor import StoredUpdate
from services.wire.errors import CallError

MESSAGE_BYTES_MAX: Final = 1 << 20
MESSAGE_UPDATES_MAX: Final = 1_000
# What a message holds beside its updates (positions, tags, lengths), and what each update adds (tag, length), at most.
ENVELOPE_BYTES: Final = 256
UPDATE_OVERHEAD_BYTES: Final = 4


class Positioned(Protocol):
    """A message of a stream that can be resumed."""

    position: str


Response = TypeVar("Response", bound=Positioned)
Outcome = TypeVar("Outcome")


class OutgoingStream(Generic[Response]):
    """One running stream. ``position``: where its reader resumes. ``stall_seconds``: how long one message may wait for its
    reader. ``again``: what a reader that was cut off does to go on ("watch again").
    """

    def __init__(self, write: Callable[[Response], Awaitable[None]], position: str, stall_seconds: float, again: str) -> None:
        self.position = position
        self._write = write
        self._stall_seconds = stall_seconds
        self._again = again
        self._sent_at = asyncio.get_running_loop().time()
        self._waiting: asyncio.Timeout | None = None
        self._end: CallError | None = None

    @property
    def idle_seconds(self) -> float:
        """How long nothing was sent."""
        return asyncio.get_running_loop().time() - self._sent_at

    @property
    def is_ending(self) -> bool:
        """Whether it has to end with an error."""
        return self._end is not None

    def end(self, error: CallError) -> None:
        """Let the stream end with ``error``, without waiting for what it waits for; the first error counts."""
        if self._end is not None:
            return
        self._end = error
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time())

    def raise_end(self) -> None:
        """Raise the CallError that ends the stream, with its position, if it has to end."""
        if self._end is not None:
            raise with_position(self._end, self.position)

    async def send(self, response: Response) -> None:
        """Write one message; waits where the reader does not read. Raises the CallError that ends the stream.

        A message whose write was begun is with gRPC and reaches the reader before the error does, so its position counts.
        """
        self.raise_end()
        self.position = response.position or self.position
        self._sent_at = asyncio.get_running_loop().time()
        try:
            await self.unless_ended(self._write(response), self._stall_seconds)
        except TimeoutError:
            self.end_too_slow(f"it did not take a message for {self._stall_seconds:g} s")
            self.raise_end()

    async def unless_ended(self, doing: Awaitable[Outcome], timeout_seconds: float | None = None) -> Outcome:
        """Wait for ``doing``. Raises the CallError that ends the stream meanwhile; TimeoutError after ``timeout_seconds``."""
        try:
            async with asyncio.timeout(timeout_seconds) as self._waiting:
                outcome = await doing
        except TimeoutError:
            self.raise_end()
            raise
        finally:
            self._waiting = None
        self.raise_end()
        return outcome

    def end_too_slow(self, why: str) -> None:
        """Let the stream end with RESOURCE_EXHAUSTED."""
        message = f"the reader is too slow, {why}: {self._again} after the position that came last"
        self.end(CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_READER_TOO_SLOW, message))


def with_position(error: CallError, position: str) -> CallError:
    """The error with the position to resume after in its metadata."""
    return CallError(error.code, error.reason, error.message, error.violations, metadata={**error.metadata, "position": position})


def messages_of(updates: Sequence[StoredUpdate]) -> Iterator[tuple[Sequence[StoredUpdate], int]]:
    """Splits whole batches into messages that are not too large, where possible between batches. Each comes with the end of
    its last batch, 0 where that batch goes on in the next message.
    """
    start = 0
    while start < len(updates):
        size, end, whole = ENVELOPE_BYTES, start, start
        while end < len(updates) and end - start < MESSAGE_UPDATES_MAX:
            size += len(updates[end].data) + UPDATE_OVERHEAD_BYTES
            if size > MESSAGE_BYTES_MAX and end > start:
                break
            end += 1
            if end == len(updates) or updates[end].batch_end != updates[end - 1].batch_end:
                whole = end
        cut = whole if whole > start else end
        yield updates[start:cut], updates[cut - 1].batch_end if whole > start else 0
        start = cut


def whole_batches(updates: Sequence[StoredUpdate]) -> int:
    """How many of the updates belong to batches that the last update's is not: its batch may go on."""
    count = len(updates)
    while count and updates[count - 1].batch_end == updates[-1].batch_end:
        count -= 1
    return count
