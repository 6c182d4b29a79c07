"""Fills any message of the contract: every field, every depth, so that a test does not have to know them."""

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_NUMBERS = {
    FieldDescriptor.TYPE_INT32: 2**31 - 1,
    FieldDescriptor.TYPE_INT64: 2**63 - 1,
}


def fill(message: Message, *, oneof_member: str | None = None) -> None:
    """Set every field of an empty message; of a oneof ``oneof_member``, or its first member."""
    for field in message.DESCRIPTOR.fields:
        real_oneof = field.containing_oneof is not None and not field.containing_oneof.name.startswith("_")
        if real_oneof:
            names = [member.name for member in field.containing_oneof.fields]
            if field.name != (oneof_member if oneof_member in names else names[0]):
                continue
        _fill_field(message, field)


def _fill_field(message: Message, field: FieldDescriptor) -> None:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        target = getattr(message, field.name)
        if field.is_repeated:
            fill(target.add())
            fill(target.add())
        elif field.message_type.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
            target.seconds, target.nanos = 1_777_689_381, 332_001_000
        else:
            fill(target)
            target.SetInParent()
        return
    value = _value(field)
    if field.is_repeated:
        getattr(message, field.name).extend([value, value])
    else:
        setattr(message, field.name, value)


def _value(field: FieldDescriptor) -> object:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return field.enum_type.values[-1].number
    if field.type == FieldDescriptor.TYPE_BOOL:
        return True
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes(range(32))
    if field.type == FieldDescriptor.TYPE_STRING:
        return f"{field.name}:é€"
    return _NUMBERS[field.type]
