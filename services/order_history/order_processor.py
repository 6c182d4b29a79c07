"""Turns ledger batches into what a store has to write: a pure function of the batches, so that any repeat, restart or rebuild
ends in the same rows. What one batch shows to be wrong is found here, before anything of it is stored.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from ordertape.v1 import ledger_pb2, order_pb2
from services.domain.lifecycle import OPEN_STATUSES, allows
from services.order_history.user_share import ALL_USERS, UserShare
from services.wire.fields import microseconds_of

_USERS_REMEMBERED_MAX: Final = 65_536
_OPEN: Final = frozenset(int(status) for status in OPEN_STATUSES)
_STATUS_NAMES: Final[dict[int, str]] = {number: name for name, number in order_pb2.OrderStatus.items()}
_EXEC_TYPE_NAMES: Final[dict[int, str]] = {number: name for name, number in order_pb2.ExecType.items()}


class LedgerUnreadable(Exception):
    """The ledger says something that cannot be right at ``sequence``: the history has to halt and must not skip it."""

    def __init__(self, sequence: int, why: str) -> None:
        super().__init__(f"ledger sequence {sequence}: {why}")
        self.sequence = sequence
        self.why = why


class ReceivedBatch(NamedTuple):
    """One ledger batch as it came: ``data`` as stored by the engine, ``hash`` its SHA-256, ``message`` what it says."""

    first_sequence: int
    last_sequence: int
    hash: bytes
    data: bytes
    message: ledger_pb2.LedgerBatch


def read_batch(data: bytes, expected_sequence: int) -> ReceivedBatch:
    """A batch as it came. Raises LedgerUnreadable, naming ``expected_sequence``, where it cannot be read."""
    digest = hashlib.sha256(data).digest()
    try:
        message = ledger_pb2.LedgerBatch.FromString(data)
    except DecodeError as error:
        raise LedgerUnreadable(expected_sequence, f"a batch cannot be read: {error}") from error
    if message.first_sequence < 1 or not message.commands:
        raise LedgerUnreadable(expected_sequence, "a batch has no sequence or no commands")
    return ReceivedBatch(message.first_sequence, message.first_sequence + len(message.commands) - 1, digest, data, message)


class StoredUpdate(NamedTuple):
    """One OrderUpdate as the stores keep it: the columns that queries need, and its bytes.

    ``batch_end`` is the last sequence of its batch, so the position at which a reader has all of it; ``timestamp`` is in
    microseconds since 1970. (A tuple, since ingest makes one for every update and SQLite takes it as a row.)
    """

    sequence: int
    batch_end: int
    order_id: int
    user_id: str
    symbol: str
    exec_type: int
    timestamp: int
    data: bytes

    @property
    def message(self) -> order_pb2.OrderUpdate:
        """The update, parsed anew at each access, so that keeping it does not keep its whole batch in memory."""
        return order_pb2.OrderUpdate.FromString(self.data)


class RunningNumbers(NamedTuple):
    """Which of its order's updates one is, and which of its user's; each counts from 1 without a hole."""

    of_order: int
    of_user: int


class EndedOrder(NamedTuple):
    """An order that ended (a rejected one too): what lists of orders are filtered by, the sequence of its last update and that
    update's bytes. Times are in microseconds since 1970; ``order_number`` counts the user's orders from 1.
    """

    user_id: str
    created_at: int
    order_id: int
    symbol: str
    side: int
    status: int
    updated_at: int
    sequence: int
    order_number: int
    data: bytes


class PlacedOrder(NamedTuple):
    """An order at its first update, accepted or rejected. ``client_order_id``, where it has one, is its user's own name for it,
    unique per user for good; ``order_number`` counts the user's orders from 1; ``created_at`` is in microseconds since 1970.
    """

    user_id: str
    client_order_id: str | None
    order_id: int
    symbol: str
    order_number: int
    sequence: int
    created_at: int


class Chunk(NamedTuple):
    """Whole batches, contiguous, and what they come to. A store applies it whole or not at all.

    ``epoch`` and ``hash`` are those of the last batch, ``timestamp`` (microseconds since 1970) that of its last command.
    ``numbers`` has the running numbers of each of ``updates``, in their order. ``open`` has the newest update of each order that
    the chunk touched and left open, by order_id; ``closed`` the ids of the accepted orders that ended in it. ``ended`` has those
    and the rejected.
    """

    ledger_id: str
    first_sequence: int
    last_sequence: int
    epoch: int
    hash: bytes
    timestamp: int
    updates: list[StoredUpdate]
    numbers: list[RunningNumbers]
    open: dict[int, StoredUpdate]
    closed: list[int]
    ended: list[EndedOrder]
    placed: list[PlacedOrder]


class OrderProcessor:
    """From batches to a chunk that has what is of the ``share``'s users; the same batches give the same chunk, always."""

    def __init__(self, share: UserShare = ALL_USERS) -> None:
        # Asked for every update of the ledger, most of them of users that were asked for before.
        self._owns = None if share == ALL_USERS else lru_cache(_USERS_REMEMBERED_MAX)(share.owns)

    def project(self, ledger_id: str, batches: Sequence[ReceivedBatch]) -> Chunk:
        """What the batches (contiguous, at least one) come to.

        Raises LedgerUnreadable for sequences with a hole, a command that this program does not know, a time that is not the
        batch's, and a change of status that the lifecycle does not allow.
        """
        first, last = batches[0], batches[-1]
        chunk = Chunk(
            ledger_id,
            first.first_sequence,
            last.last_sequence,
            last.message.epoch,
            last.hash,
            microseconds_of(last.message.timestamp) + last.last_sequence - last.first_sequence,
            updates=[], numbers=[], open={}, closed=[], ended=[], placed=[],
        )  # fmt: skip
        expected = first.first_sequence
        for batch in batches:
            if batch.message.first_sequence != expected:
                raise LedgerUnreadable(expected, f"the next batch begins at {batch.message.first_sequence}")
            _project_batch(batch, chunk, self._owns)
            expected = batch.last_sequence + 1
        return chunk


def _project_batch(batch: ReceivedBatch, chunk: Chunk, owns: Callable[[str], bool] | None) -> None:
    message = batch.message
    sequence, batch_end = batch.first_sequence, batch.last_sequence
    began_at: int | None = None  # not looked at in a batch of which nothing is ours
    for command in message.commands:
        if command.sequence != sequence:
            raise LedgerUnreadable(sequence, f"the command in its place says {command.sequence}")
        kind = command.WhichOneof("command")
        if kind == "order_update":
            update = command.order_update
            if owns is None or owns(update.user_id):
                if began_at is None:
                    began_at = microseconds_of(message.timestamp)
                _project_update(update, sequence, batch_end, began_at + sequence - batch.first_sequence, chunk)
        elif kind is None:
            raise LedgerUnreadable(sequence, "this program does not know what its command is")
        sequence += 1
    if sequence != batch_end + 1:
        raise LedgerUnreadable(sequence, f"the batch ends before its last sequence {batch_end}")


def _project_update(update: order_pb2.OrderUpdate, sequence: int, batch_end: int, timestamp: int, chunk: Chunk) -> None:
    status, exec_type = update.status, update.exec_type
    previous = update.previous_status if update.HasField("previous_status") else None
    if not allows(previous, exec_type, status):
        raise LedgerUnreadable(sequence, f"order {update.order_id} cannot {_transition(previous, exec_type, status)}")
    if update.sequence != sequence:
        raise LedgerUnreadable(sequence, f"its order update says {update.sequence}")
    time = update.timestamp
    if time.seconds * 1_000_000 + time.nanos // 1_000 != timestamp:
        raise LedgerUnreadable(sequence, f"its order update has the time {microseconds_of(time)} us, not {timestamp} us")
    order_id, user_id, symbol = update.order_id, update.user_id, update.symbol
    stored = StoredUpdate(sequence, batch_end, order_id, user_id, symbol, exec_type, timestamp, update.SerializeToString())
    chunk.updates.append(stored)
    chunk.numbers.append(RunningNumbers(update.update_number, update.user_update_number))
    order_number = update.order_number
    if previous is None:
        name = update.client_order_id if update.HasField("client_order_id") else None
        chunk.placed.append(PlacedOrder(user_id, name, order_id, symbol, order_number, sequence, timestamp))
    if status in _OPEN:
        chunk.open[order_id] = stored
        return
    if previous is not None:
        chunk.open.pop(order_id, None)
        chunk.closed.append(order_id)
    created_at = microseconds_of(update.created_at)
    side = update.side
    chunk.ended.append(
        EndedOrder(user_id, created_at, order_id, symbol, side, status, timestamp, sequence, order_number, stored.data)
    )


def _transition(previous: int | None, exec_type: int, status: int) -> str:
    before = "no order" if previous is None else _STATUS_NAMES.get(previous, str(previous))
    what, after = _EXEC_TYPE_NAMES.get(exec_type, str(exec_type)), _STATUS_NAMES.get(status, str(status))
    return f"go from {before} by {what} to {after}"
