"""What makes a typed view of a protobuf message: a class of fields, each of which reads one of the message's and says its kind,
so that a list of them can become a table with the right columns. A view reads when it is asked: an export of a million updates
converts no decimal that nobody looks at.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Generic, Self, TypeVar, overload

from google.protobuf.message import Message

from ordertape.client.enums import OpenEnum

M_co = TypeVar("M_co", bound=Message, covariant=True)
T = TypeVar("T")
E = TypeVar("E", bound=OpenEnum)
V = TypeVar("V", bound="View[Any]")


class Kind(Enum):
    """What a field holds."""

    WHOLE = "a whole number"
    TEXT = "text"
    FLAG = "yes or no"
    DECIMAL = "an exact decimal"
    TIME = "a time, in microseconds, UTC"
    NAME = "one of an enum's names"
    NESTED = "another view"


class Field(Generic[T]):
    """One field of a view, under its name in the contract. ``read``: what is made of the message's value."""

    def __init__(self, kind: Kind, read: Callable[[Any], Any], optional: bool, nested: "type[View[Any]] | None" = None) -> None:
        self.kind = kind
        self.optional = optional
        self.nested = nested
        self.name = ""
        self._read = read

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, view: None, owner: type) -> Self: ...
    @overload
    def __get__(self, view: "View[Any]", owner: type) -> T: ...
    def __get__(self, view: "View[Any] | None", owner: type) -> Self | T:
        return self if view is None else self.value_in(view.message)

    def value_in(self, message: Message) -> T:
        """The value; None where an optional one is absent."""
        if self.optional and not message.HasField(self.name):
            return None  # type: ignore[return-value]  # whoever makes an optional field says T | None
        value: T = self._read(getattr(message, self.name))
        return value


class View(Generic[M_co]):
    """A frozen, typed look at a message, which is there as ``message``."""

    __slots__ = ("message",)
    message: M_co

    def __init__(self, message: M_co) -> None:
        object.__setattr__(self, "message", message)

    @classmethod
    def fields(cls) -> Iterator[Field[Any]]:
        """The fields, in the order of the class."""
        return (value for value in vars(cls).values() if isinstance(value, Field))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen, so {name} cannot be set")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and bool(self.message == other.message)

    def __hash__(self) -> int:
        return hash(self.message.SerializeToString(deterministic=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message,)

    def __repr__(self) -> str:
        said = ((field.name, field.value_in(self.message)) for field in self.fields())
        shown = (f"{name}={value!s}" for name, value in said if value is not None and value != "")
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table of views: a field, or one of a nested view ("fill_price")."""

    name: str
    kind: Kind
    path: tuple[str, ...]

    def value_in(self, view: View[Any]) -> Any:
        """The view's value, None where there is none."""
        value: Any = view
        for name in self.path:
            value = None if value is None else getattr(value, name)
        return value.name if isinstance(value, OpenEnum) else value


def columns_of(view: type[View[Any]], path: tuple[str, ...] = ()) -> list[Column]:
    """The columns of a table of such views, flat."""
    found: list[Column] = []
    for field in view.fields():
        where = (*path, field.name)
        if field.nested is not None:
            found += columns_of(field.nested, where)
        else:
            found.append(Column("_".join(where), field.kind, where))
    return found


def whole() -> Field[int]:
    """A whole number."""
    return Field(Kind.WHOLE, int, optional=False)


def maybe_whole() -> Field[int | None]:
    """A whole number that may be absent."""
    return Field(Kind.WHOLE, int, optional=True)


def text() -> Field[str]:
    """Text, empty where there is none."""
    return Field(Kind.TEXT, str, optional=False)


def maybe_text() -> Field[str | None]:
    """Text that may be absent."""
    return Field(Kind.TEXT, str, optional=True)


def flag() -> Field[bool]:
    """Yes or no."""
    return Field(Kind.FLAG, bool, optional=False)


def decimal() -> Field[Decimal]:
    """An exact decimal."""
    return Field(Kind.DECIMAL, Decimal, optional=False)


def maybe_decimal() -> Field[Decimal | None]:
    """An exact decimal that may be absent."""
    return Field(Kind.DECIMAL, Decimal, optional=True)


def _utc(value: Any) -> datetime:
    moment: datetime = value.ToDatetime(tzinfo=UTC)
    return moment


def time() -> Field[datetime]:
    """A time of the engine, aware, UTC."""
    return Field(Kind.TIME, _utc, optional=False)


def maybe_time() -> Field[datetime | None]:
    """A time of the engine that may be absent."""
    return Field(Kind.TIME, _utc, optional=True)


def name_of(enum: type[E]) -> Field[E]:
    """A member of the enum."""
    return Field(Kind.NAME, enum, optional=False)


def maybe_name_of(enum: type[E]) -> Field[E | None]:
    """A member of the enum that may be absent."""
    return Field(Kind.NAME, enum, optional=True)


def nested(view: type[V]) -> Field[V]:
    """A view of a message inside."""
    return Field(Kind.NESTED, view, optional=False, nested=view)


def maybe_nested(view: type[V]) -> Field[V | None]:
    """A view of a message inside that may be absent."""
    return Field(Kind.NESTED, view, optional=True, nested=view)
