"""The grammar of single fields, and the collector that finds all that is wrong with a request before it answers."""

import re
from collections.abc import Collection, Sequence
from typing import Protocol

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.wire.errors import Violation, invalid_request
from services.wire.position import Position, decode_position

IDENTIFIER = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)
FILTER_VALUES_MAX = 100
PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 500
_SHOWN_CHARACTERS_MAX = 80
# google.protobuf.Timestamp: from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z.
_SECONDS_MIN, _SECONDS_MAX = -62135596800, 253402300799


class EnumNames(Protocol):
    """An enum of the contract, as its module has it (``order_pb2.Side``)."""

    def items(self) -> Sequence[tuple[str, int]]:
        """Names and numbers."""
        ...

    def values(self) -> Sequence[int]:
        """Numbers."""
        ...


class Violations:
    """Collects what a request breaks: check every field, then ``raise_if_any``. ``path`` prefixes each field's name."""

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._found: list[Violation] = []

    def add(self, field: str, description: str) -> None:
        """Note that ``field`` breaks a rule."""
        self._found.append(Violation(self._path + field, description))

    def raise_if_any(self) -> None:
        """Raise CallError INVALID_ARGUMENT with all that was found, if anything was."""
        if self._found:
            raise invalid_request(self._found)

    def identifier(self, field: str, value: str) -> None:
        """Require 1 to 64 characters of A-Z a-z 0-9 . _ : -"""
        if not IDENTIFIER.fullmatch(value):
            self.add(field, _rule("must be 1 to 64 characters of A-Z a-z 0-9 . _ : -", value))

    def amount(self, field: str, value: str) -> None:
        """Require a plain decimal above 0, at most 18 digits on each side of the point."""
        if not DECIMAL.fullmatch(value):
            self.add(field, _rule("must be a plain decimal, at most 18 digits before and 18 after the point", value))
        elif not value.strip("0."):
            self.add(field, _rule("must be above 0", value))

    def enum(self, field: str, value: int, names: EnumNames, *, required: bool = True) -> None:
        """Require a known number of the enum; 0 (unspecified) only where it is not ``required``."""
        if value == 0 and required:
            self.add(field, f"is required: one of {_choices(names)}")
        elif value not in names.values():
            self.add(field, f"must be one of {_choices(names)}, is the unknown number {value}")

    def sequence_number(self, field: str, value: int) -> None:
        """Require a number that the engine gives out: 1 or more."""
        if value < 1:
            self.add(field, f"must be 1 or more, is {value}")

    def instant(self, field: str, value: Timestamp) -> None:
        """Require a valid google.protobuf.Timestamp."""
        if not (_SECONDS_MIN <= value.seconds <= _SECONDS_MAX and 0 <= value.nanos <= 999_999_999):
            self.add(
                field,
                "must be a timestamp of the years 1 to 9999 with nanos from 0 to 999999999, "
                f"is {value.seconds} s and {value.nanos} ns",
            )

    def position(self, field: str, value: str) -> Position | None:
        """The position in the field, None where the field is empty or wrong."""
        if not value:
            return None
        try:
            return decode_position(value)
        except ValueError as error:
            self.add(field, str(error))
            return None

    def page_size(self, field: str, value: int) -> int:
        """The size that counts: 50 for 0, at most 500; a negative one is a violation."""
        if value < 0:
            self.add(field, f"must be 0 (for {PAGE_SIZE_DEFAULT}) or more, is {value}")
        return min(value or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)

    def filter_values(self, field: str, values: Collection[object]) -> None:
        """Require a filter of a bounded number of values."""
        if len(values) > FILTER_VALUES_MAX:
            self.add(field, f"must be at most {FILTER_VALUES_MAX} values, are {len(values)}")


def is_given(message: Message, name: str) -> bool:
    """Whether an optional field, named at run time, is there."""
    return message.HasField(name)


def microseconds_of(value: Timestamp) -> int:
    """Whole microseconds since 1970-01-01T00:00:00Z, rounded down."""
    return value.seconds * 1_000_000 + value.nanos // 1000


def _rule(rule: str, value: str) -> str:
    """Shows so little of the value, in ASCII, that 500 items can break every rule and the answer still reaches the client."""
    return f"is required: {rule}" if not value else f"{rule}, is {ascii(value[:_SHOWN_CHARACTERS_MAX])[:_SHOWN_CHARACTERS_MAX]}"


def _choices(names: EnumNames) -> str:
    return ", ".join(name for name, number in names.items() if number != 0)
