"""What the engine remembers of requests that are over: first answers by key, and how closed orders ended. Of the group that is
not yet synced from memory, of all others from the index and the ledger, so that memory does not grow with closed orders.
"""

from typing import Final

import grpc

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import ledger_pb2, order_pb2
from services.domain.commands import Cancel, Command, ForceCancel, Replace
from services.domain.errors import OrderNotOpen, Refused
from services.domain.kinds import OrderStatus
from services.domain.lifecycle import OPEN_STATUSES
from services.matching_engine.keys import Key, KeyKind, completes_request, first_difference, key_of, stored_request, value_text
from services.matching_engine.ledger import IndexEntries, Ledger, LedgerIndex
from services.wire.errors import CallError
from services.wire.ledger_codec import EncodedBatch
from services.wire.refusals import call_error_of
from services.wire.requests import LedgerRequest

_CLOSED: Final = frozenset(int(status) for status in OrderStatus if status not in OPEN_STATUSES)


class Memory:
    """First answers and closed orders: the present group's, the index's and the ledger's, behind one face.

    Used by the sequencer's thread alone.
    """

    def __init__(self, ledger: Ledger, index: LedgerIndex) -> None:
        self._ledger = ledger
        self._index = index
        self._used: dict[Key, int] = {}
        self._group_keys: dict[Key, EncodedBatch] = {}
        self._group_ended: dict[int, order_pb2.OrderUpdate] = {}

    def look_up(self, keys: list[Key]) -> None:
        """Ask the index for all keys of the group to come, at once."""
        self._used = {
            key: sequence for key, sequence in zip(keys, self._index.first_answers(keys), strict=True) if sequence is not None
        }

    def first_answer(self, key: Key, request: LedgerRequest) -> EncodedBatch | None:
        """The batch that first used a key that was looked up, None for a new one. Raises CallError for other content."""
        batch = self._group_keys.get(key)
        if batch is None:
            sequence = self._used.get(key)
            if sequence is None:
                return None
            batch = self._stored(sequence)
        stored_name, first = stored_request(batch.message)
        name = "client_order_id" if key.kind == KeyKind.PLACE else "request_id"
        if stored_name != request.name:
            raise CallError(
                grpc.StatusCode.ALREADY_EXISTS,
                reasons.ERROR_REASON_KEY_REUSED,
                f"{name} {key.key} was used before for another kind of request: {stored_name}",
                metadata={"field": name},
            )
        field = first_difference(first, request.message)
        if field is None:
            return batch
        of_user = f" of {key.user_id}" if key.user_id else ""
        raise CallError(
            grpc.StatusCode.ALREADY_EXISTS,
            reasons.ERROR_REASON_KEY_REUSED,
            f"{name} {key.key}{of_user} was used before with another {field}: "
            f"{value_text(first, field)} then, {value_text(request.message, field)} now",
            metadata={"field": field},
        )

    def remember(self, batch: EncodedBatch, key: Key | None) -> None:
        """Keep what a batch of the present group says until it is synced."""
        if key is not None:
            self._group_keys[key] = batch
        for update in batch.updates:
            if update.status in _CLOSED:
                self._group_ended[update.order_id] = update

    def synced(self, durable_sequence: int) -> None:
        """The group is durable: hand it to the index."""
        keys: dict[tuple[str, int, str], int] = {key: batch.first_sequence for key, batch in self._group_keys.items()}
        ended = {order_id: update.sequence for order_id, update in self._group_ended.items()}
        self._index.record(IndexEntries(keys, ended, durable_sequence))
        self._group_keys = {}
        self._group_ended = {}

    def explain(self, refusal: Refused, command: Command) -> CallError:
        """The refusal as the caller gets it: an order that is not open was never there, or is closed."""
        if isinstance(refusal, OrderNotOpen) and isinstance(command, Cancel | Replace | ForceCancel):
            ended = self._ended_order(command)
            if ended is not None and (isinstance(command, ForceCancel) or ended.user_id == command.user_id):
                status = OrderStatus(ended.status).name
                return CallError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    reasons.ERROR_REASON_ORDER_CLOSED,
                    f"too late: order {ended.order_id} is {status}",
                    metadata={"order_id": str(ended.order_id), "status": status},
                )
            return CallError(grpc.StatusCode.NOT_FOUND, reasons.ERROR_REASON_ORDER_NOT_FOUND, _never_there(command))
        return call_error_of(refusal)

    def _ended_order(self, command: Cancel | Replace | ForceCancel) -> order_pb2.OrderUpdate | None:
        order_id = command.order_id
        if order_id is None and not isinstance(command, ForceCancel):
            order_id = self._order_id_of(Key(command.user_id, KeyKind.PLACE, str(command.client_order_id)))
        if order_id is None:
            return None
        ended = self._group_ended.get(order_id)
        if ended is not None:
            return ended
        sequence = self._index.last_update(order_id)
        if sequence is None:
            return None
        return next(update for update in self._stored(sequence).updates if update.sequence == sequence)

    def _order_id_of(self, key: Key) -> int | None:
        batch = self._group_keys.get(key)
        if batch is None:
            sequence = self._index.first_answer(*key)
            if sequence is None:
                return None
            batch = self._stored(sequence)
        return batch.updates[0].order_id

    def _stored(self, sequence: int) -> EncodedBatch:
        stored = self._ledger.batch_at(sequence)
        message = ledger_pb2.LedgerBatch.FromString(stored.data)
        updates = [command.order_update for command in message.commands if command.HasField("order_update")]
        return EncodedBatch(stored.first_sequence, stored.last_sequence, stored.data, message, updates)


def _never_there(command: Cancel | Replace | ForceCancel) -> str:
    if isinstance(command, ForceCancel):
        return f"there is no order of order_id {command.order_id}"
    named = f"order_id {command.order_id}" if command.order_id is not None else f"client_order_id {command.client_order_id}"
    return f"{command.user_id} has no order of {named}"


def index_entries(batch: ledger_pb2.LedgerBatch) -> IndexEntries:
    """What the index has to know of a stored batch, to complete it at a start."""
    name, request = stored_request(batch)
    key = key_of(name, request) if completes_request(name, batch) else None
    ended = {
        command.order_update.order_id: command.sequence
        for command in batch.commands
        if command.HasField("order_update") and command.order_update.status in _CLOSED
    }
    return IndexEntries({key: batch.first_sequence} if key is not None else {}, ended, batch.commands[-1].sequence)
