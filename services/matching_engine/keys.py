"""Idempotency: which key a request uses, and how a repeat is told from a new request under an old name."""

from enum import IntEnum
from typing import Any, NamedTuple

from google.protobuf.message import Message

from ordertape.v1 import ledger_pb2


class KeyKind(IntEnum):
    """Kinds of requests; a key is unique per user and kind. The numbers are on disk in the index (which can be rebuilt)."""

    PLACE = 1
    CANCEL = 2
    REPLACE = 3
    MASS_CANCEL = 4
    DEPOSIT = 5
    WITHDRAW = 6
    OPERATOR_CONTROL = 7


class Key(NamedTuple):
    """What a client named its request."""

    user_id: str
    kind: KeyKind
    key: str


_FIELDS = {
    "place_order": (KeyKind.PLACE, "client_order_id"),
    "cancel_order": (KeyKind.CANCEL, "request_id"),
    "deposit": (KeyKind.DEPOSIT, "request_id"),
    "withdraw": (KeyKind.WITHDRAW, "request_id"),
}


def key_of(name: str, request: Message) -> Key | None:
    """The key of a request (``name`` in LedgerBatch's oneof), None where it has none."""
    kind_and_field = _FIELDS.get(name)
    if kind_and_field is None:
        return None
    kind, field = kind_and_field
    text: str = getattr(request, field)
    return Key(request.user_id, kind, text) if text else None  # type: ignore[attr-defined]


def stored_request(batch: ledger_pb2.LedgerBatch) -> tuple[str, Message]:
    """What caused a stored batch: the member of its oneof and the message."""
    name = batch.WhichOneof("request")
    assert name is not None
    return name, getattr(batch, name)


def first_difference(first: Message, second: Message) -> str | None:
    """The name of the first field in which two requests of one type differ, None where they are the same."""
    for field in first.DESCRIPTOR.fields:
        if _value(first, field.name, field.has_presence) != _value(second, field.name, field.has_presence):
            return field.name
    return None


def value_text(message: Message, name: str) -> str:
    """A field's value for people."""
    field = message.DESCRIPTOR.fields_by_name[name]
    value = _value(message, name, field.has_presence)
    if value is None:
        return "absent"
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    return repr(value)


def _value(message: Message, name: str, has_presence: bool) -> Any:
    if has_presence and not message.HasField(name):
        return None
    return getattr(message, name)
