"""Reads google.rpc.Status and its details, which say the reason of an error, from a call's trailing metadata.

The three messages are described here in a pool of their own. googleapis-common-protos would be a dependency for twelve fields
that never change, and a generated copy in the common pool would clash with it wherever a program has it too; a parser by hand
would be a second reader of the wire format. Fields that are not described are skipped, as protobuf always does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

STATUS_KEY = "grpc-status-details-bin"
_PACKAGE = "ordertape.client.rpc"
_TEXT, _BYTES, _INT32 = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_BYTES, FieldDescriptorProto.TYPE_INT32
# name: (number, type, or the message that it repeats); a map is its entries on the wire.
_MESSAGES: dict[str, dict[str, tuple[int, "FieldDescriptorProto.Type.ValueType | str"]]] = {
    "Any": {"type_url": (1, _TEXT), "value": (2, _BYTES)},
    "Status": {"code": (1, _INT32), "message": (2, _TEXT), "details": (3, "Any")},
    "Entry": {"key": (1, _TEXT), "value": (2, _TEXT)},
    "ErrorInfo": {"reason": (1, _TEXT), "domain": (2, _TEXT), "metadata": (3, "Entry")},
    "FieldViolation": {"field": (1, _TEXT), "description": (2, _TEXT)},
    "BadRequest": {"field_violations": (1, "FieldViolation")},
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that a request breaks: the field's path and, in words, the rule and the value."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}"


@dataclass(frozen=True, slots=True)
class Details:
    """What the details of an error say. ``reason``: a name of ErrorReason without its prefix, empty where there is none."""

    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()


def details_in(metadata: "Iterable[tuple[str, str | bytes]] | None") -> Details:
    """What the trailing metadata of a call say of its error; nothing where they say nothing that can be read."""
    for key, value in metadata or ():
        if key == STATUS_KEY and isinstance(value, bytes):
            try:
                return _details(value)
            except DecodeError:
                return Details()
    return Details()


def _details(data: bytes) -> Details:
    reason, metadata, violations = "", {}, list[Violation]()
    for detail in _CLASSES["Status"].FromString(data).details:
        name = detail.type_url.rpartition("/")[2]
        if name == "google.rpc.ErrorInfo":
            info = _CLASSES["ErrorInfo"].FromString(detail.value)
            reason, metadata = info.reason, {entry.key: entry.value for entry in info.metadata}
        elif name == "google.rpc.BadRequest":
            found = _CLASSES["BadRequest"].FromString(detail.value).field_violations
            violations += (Violation(one.field, one.description) for one in found)
    return Details(reason, metadata, tuple(violations))


def _classes() -> dict[str, Any]:
    file = FileDescriptorProto(name="ordertape/client/rpc.proto", package=_PACKAGE, syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            if isinstance(kind, str):
                described.field.add(
                    name=name,
                    number=number,
                    label=FieldDescriptorProto.LABEL_REPEATED,
                    type=FieldDescriptorProto.TYPE_MESSAGE,
                    type_name=f".{_PACKAGE}.{kind}",
                )
            else:
                described.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL, type=kind)
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES}


_CLASSES = _classes()
