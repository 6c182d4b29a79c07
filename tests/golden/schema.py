"""The contract as the generated code has it, whatever files it is made of, so that nothing new can be forgotten."""

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import ordertape.v1

PACKAGE = "ordertape.v1"


@cache
def files() -> tuple[FileDescriptor, ...]:
    """Every file of the contract, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(ordertape.v1.__path__) if module.name.endswith("_pb2"))
    return tuple(importlib.import_module(f"{PACKAGE}.{name}").DESCRIPTOR for name in names)


@cache
def message_types() -> dict[str, type[Message]]:
    """Every message of the contract, by full name; nested ones too."""
    return {kind.full_name: GetMessageClass(kind) for file in files() for kind in _with_nested(file)}


def _with_nested(holder: FileDescriptor | Descriptor) -> Iterator[Descriptor]:
    inside = holder.message_types_by_name if isinstance(holder, FileDescriptor) else holder.nested_types_by_name
    for kind in inside.values():
        yield kind
        yield from _with_nested(kind)


def choices(kind: Descriptor) -> list[list[FieldDescriptor]]:
    """The members of each oneof that is one in the file (`optional` makes others)."""
    return [list(oneof.fields) for oneof in kind.oneofs if not oneof.name.startswith("_")]


def is_choice(field: FieldDescriptor) -> bool:
    """Whether the field is a member of such a oneof."""
    return field.containing_oneof is not None and not field.containing_oneof.name.startswith("_")
