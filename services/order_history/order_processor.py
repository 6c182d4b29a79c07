"""Turns ledger batches into what a store has to write: a pure function of the batches, so that any repeat, restart or rebuild
ends in the same rows. What one batch shows to be wrong is found here, before anything of it is stored.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from ordertape.v1 import ledger_pb2, order_pb2
from services.domain.lifecycle import OPEN_STATUSES, allows
from services.wire.fields import microseconds_of

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


class EndedOrder(NamedTuple):
    """An order that ended (a rejected one too): what lists of orders are filtered by, and the sequence of its last update.
    Times are in microseconds since 1970.
    """

    user_id: str
    created_at: int
    order_id: int
    symbol: str
    side: int
    status: int
    updated_at: int
    sequence: int


class ClientOrderId(NamedTuple):
    """The client's name for an order, unique per user for good."""

    user_id: str
    client_order_id: str
    order_id: int


class Chunk(NamedTuple):
    """Whole batches, contiguous, and what they come to. A store applies it whole or not at all.

    ``epoch`` and ``hash`` are those of the last batch. ``open`` has the newest update of each order that the chunk touched
    and left open, by order_id; ``closed`` the ids of the accepted orders that ended in it. ``ended`` has those and the rejected.
    """

    ledger_id: str
    first_sequence: int
    last_sequence: int
    epoch: int
    hash: bytes
    updates: list[StoredUpdate]
    open: dict[int, StoredUpdate]
    closed: list[int]
    ended: list[EndedOrder]
    client_order_ids: list[ClientOrderId]


class OrderProcessor:
    """From batches to a chunk. Keeps nothing: the same batches give the same chunk."""

    def project(self, ledger_id: str, batches: Sequence[ReceivedBatch]) -> Chunk:
        """What the batches (contiguous, at least one) come to.

        Raises LedgerUnreadable for sequences with a hole, a command that this program does not know, a time that is not the
        batch's, and a change of status that the lifecycle does not allow.
        """
        first, last = batches[0], batches[-1]
        chunk = Chunk(ledger_id, first.first_sequence, last.last_sequence, last.message.epoch, last.hash, [], {}, [], [], [])
        expected = first.first_sequence
        for batch in batches:
            if batch.message.first_sequence != expected:
                raise LedgerUnreadable(expected, f"the next batch begins at {batch.message.first_sequence}")
            _project_batch(batch, chunk)
            expected = batch.last_sequence + 1
        return chunk


def _project_batch(batch: ReceivedBatch, chunk: Chunk) -> None:
    message = batch.message
    sequence, batch_end = batch.first_sequence, batch.last_sequence
    timestamp = microseconds_of(message.timestamp)
    for command in message.commands:
        if command.sequence != sequence:
            raise LedgerUnreadable(sequence, f"the command in its place says {command.sequence}")
        kind = command.WhichOneof("command")
        if kind == "order_update":
            _project_update(command.order_update, sequence, batch_end, timestamp, chunk)
        elif kind is None:
            raise LedgerUnreadable(sequence, "this program does not know what its command is")
        sequence += 1
        timestamp += 1
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
    if previous is None and update.HasField("client_order_id"):
        chunk.client_order_ids.append(ClientOrderId(user_id, update.client_order_id, order_id))
    if status in _OPEN:
        chunk.open[order_id] = stored
        return
    if previous is not None:
        chunk.open.pop(order_id, None)
        chunk.closed.append(order_id)
    created_at = microseconds_of(update.created_at)
    chunk.ended.append(EndedOrder(user_id, created_at, order_id, symbol, update.side, status, timestamp, sequence))


def _transition(previous: int | None, exec_type: int, status: int) -> str:
    before = "no order" if previous is None else _STATUS_NAMES.get(previous, str(previous))
    what, after = _EXEC_TYPE_NAMES.get(exec_type, str(exec_type)), _STATUS_NAMES.get(status, str(status))
    return f"go from {before} by {what} to {after}"
