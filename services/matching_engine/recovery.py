"""Recovery: folding the ledger, from its beginning or from a snapshot on, gives the state in which the engine stopped; nothing is
decided or matched again.
"""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import NamedTuple

from google.protobuf.message import DecodeError

from ordertape.v1 import ledger_pb2
from services.domain.errors import DomainError
from services.domain.exchange import RULES_VERSION
from services.domain.lifecycle import allows
from services.domain.state import ExchangeState
from services.matching_engine.ledger import LedgerError, StoredBatch
from services.wire.fields import microseconds_of
from services.wire.ledger_codec import LedgerUnreadable, decode_events


class Unfoldable(LedgerError):
    """The ledger's files are whole, yet what they say cannot have happened: damaged before it was written, or forged."""

    def __init__(self, sequence: int, what: str) -> None:
        super().__init__(f"the ledger is damaged at sequence {sequence}: {what}")
        self.sequence = sequence


class FoldedBatch(NamedTuple):
    """A stored batch that has just been applied to the state."""

    stored: StoredBatch
    message: ledger_pb2.LedgerBatch


def fold(
    batches: Iterable[StoredBatch],
    state: ExchangeState,
    *,
    previous_hash: bytes = b"",
    before: Callable[[ledger_pb2.LedgerBatch], None] | None = None,
) -> Iterator[FoldedBatch]:
    """Check and apply batches one after the other, the first to the ``state`` after the batch of ``previous_hash``, which is an
    empty one where there is none; ``before`` sees each before it is applied.

    Raises Unfoldable for a broken hash chain or an impossible event, LedgerUnreadable for what this program does not know.
    """
    for stored in batches:
        batch = parse(stored)
        _check_place(batch, stored, state, previous_hash)
        _check_transitions(batch)
        if before is not None:
            before(batch)
        events = decode_events(batch, state)
        try:
            state.apply(events, microseconds_of(batch.timestamp))
        except (DomainError, LookupError, AssertionError) as error:
            raise Unfoldable(stored.first_sequence, f"its batch cannot have happened: {error}") from error
        previous_hash = sha256(stored.data).digest()
        yield FoldedBatch(stored, batch)


def parse(stored: StoredBatch) -> ledger_pb2.LedgerBatch:
    """The batch as a message. Raises Unfoldable where it is none."""
    try:
        return ledger_pb2.LedgerBatch.FromString(stored.data)
    except DecodeError as error:
        raise Unfoldable(stored.first_sequence, "its batch is no LedgerBatch") from error


def _check_place(batch: ledger_pb2.LedgerBatch, stored: StoredBatch, state: ExchangeState, previous_hash: bytes) -> None:
    """The batch is what comes next: by its hash, its sequences, its time and its epoch, and it says what caused it."""
    first, last, _ = stored
    cause = batch.WhichOneof("request")
    sequences = [command.sequence for command in batch.commands]
    if batch.previous_hash != previous_hash:
        raise Unfoldable(first, "its batch does not name the hash of the one before")
    if first != state.sequence + 1 or batch.first_sequence != first or sequences != list(range(first, last + 1)):
        raise Unfoldable(first, "its batch does not count its commands from there")
    if microseconds_of(batch.timestamp) <= state.time:
        raise Unfoldable(first, "its batch is not later than the one before")
    if batch.epoch != state.epoch + (cause == "start_engine"):
        raise Unfoldable(first, f"its batch is of epoch {batch.epoch}, the one before of {state.epoch}")
    if cause is None:
        raise Unfoldable(first, "its batch names no request that this program knows")
    if cause == "start_engine" and batch.start_engine.rules_version > RULES_VERSION:
        raise LedgerUnreadable(
            f"from sequence {first} on the ledger was written under rules version {batch.start_engine.rules_version}, "
            f"this program knows them up to {RULES_VERSION}: use the program that wrote it, or a newer one"
        )


def _check_transitions(batch: ledger_pb2.LedgerBatch) -> None:
    for command in batch.commands:
        if command.HasField("order_update"):
            update = command.order_update
            previous = update.previous_status if update.HasField("previous_status") else None
            if not allows(previous, update.exec_type, update.status):
                raise Unfoldable(
                    command.sequence,
                    f"order {update.order_id} cannot go from status {previous} "
                    f"to {update.status} by exec_type {update.exec_type}",
                )
