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


# An operator's keys are the operator's own, whomever the request is about.
_OPERATOR = ""
_KINDS = {
    "place_order": KeyKind.PLACE,
    "cancel_order": KeyKind.CANCEL,
    "replace_order": KeyKind.REPLACE,
    "cancel_orders": KeyKind.MASS_CANCEL,
    "deposit": KeyKind.DEPOSIT,
    "withdraw": KeyKind.WITHDRAW,
    "set_trading_status": KeyKind.OPERATOR_CONTROL,
    "set_user_status": KeyKind.OPERATOR_CONTROL,
    "force_cancel_order": KeyKind.OPERATOR_CONTROL,
    "set_instrument": KeyKind.OPERATOR_CONTROL,
}

# The command with which the last batch of a request about many orders ends.
_LAST_COMMANDS = {"cancel_orders": "mass_cancel_done", "set_user_status": "user_status_set"}


def completes_request(name: str, batch: ledger_pb2.LedgerBatch) -> bool:
    """Whether nothing of the batch's request (``name`` in LedgerBatch's oneof) is left to do: only then has it used its key, so
    that what a kill has cut short is carried on by a retry.
    """
    last = _LAST_COMMANDS.get(name)
    return last is None or batch.commands[-1].WhichOneof("command") == last


def key_of(name: str, request: Message) -> Key | None:
    """The key of a request (``name`` in LedgerBatch's oneof), None where it has none."""
    kind = _KINDS.get(name)
    if kind is None:
        return None
    fields: Any = request
    text: str = fields.client_order_id if kind == KeyKind.PLACE else fields.request_id
    if not text:
        return None
    return Key(_OPERATOR if kind == KeyKind.OPERATOR_CONTROL else fields.user_id, kind, text)


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
