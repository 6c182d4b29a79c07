"""How an export is written: JSON lines, CSV or Parquet. CSV and Parquet have a column for each value of an OrderUpdate, under the
dotted names of protobuf's JSON mapping and in the order of the contract's fields: programs go by the names, since the contract
gains fields. Money stays text; what is absent is empty in CSV and null in Parquet.
"""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, Protocol, TextIO

from services.cli.failures import USAGE, Failure
from services.cli.output import document_of

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message

    from ordertape.v1 import order_pb2

# Rows that are kept in memory until they are a row group of a Parquet file.
_ROW_GROUP_ROWS: Final = 20_000
_TIMESTAMP: Final = "google.protobuf.Timestamp"


class FileFormat(StrEnum):
    """What an export is written as."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class Kind(StrEnum):
    """What a column holds."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    TIME = "time"


class Column(NamedTuple):
    """A value of an update; None where it is absent. A time is a google.protobuf.Timestamp, an enum its value's name."""

    name: str
    kind: Kind
    value: "Callable[[order_pb2.OrderUpdate], Any]"


class Writer(Protocol):
    """Writes updates in one format. Raises OSError."""

    def write(self, updates: "Sequence[order_pb2.OrderUpdate]") -> None:
        """Write them, whole lines at once."""
        ...

    def close(self) -> None:
        """Make the output whole; also where the export broke off."""
        ...


def format_of(out: str, wanted: FileFormat | None) -> FileFormat:
    """The format that was asked for, or that the file's name ends with, or JSON lines."""
    endings = {f".{one}": one for one in FileFormat}
    return wanted or endings.get(Path(out).suffix.lower(), FileFormat.JSONL)


def require_writable(file_format: FileFormat, to_stdout: bool) -> None:
    """Raise Failure where the format cannot be written here."""
    if file_format is not FileFormat.PARQUET:
        return
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise Failure(USAGE, "--format parquet needs pyarrow: install pyarrow (pip install pyarrow), or use csv") from None
    if to_stdout and sys.stdout.isatty():
        raise Failure(USAGE, "parquet is no text for a terminal: add --out FILE")


def writer_to(file_format: FileFormat, path: Path | None) -> Writer:
    """A writer to a new file, or to the standard output for None. Raises OSError."""
    if file_format is FileFormat.PARQUET:
        return _ParquetWriter(sys.stdout.buffer if path is None else path.open("wb"), owned=path is not None)
    file = sys.stdout if path is None else path.open("w", encoding="utf-8", newline="")
    kind = _CsvWriter if file_format is FileFormat.CSV else _JsonLinesWriter
    return kind(file, owned=path is not None)


class _TextWriter:
    def __init__(self, file: TextIO, owned: bool) -> None:
        self._file = file
        self._owned = owned

    def close(self) -> None:
        if self._owned:
            self._file.close()

    def _put(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


class _JsonLinesWriter(_TextWriter):
    def write(self, updates: "Sequence[order_pb2.OrderUpdate]") -> None:
        self._put("".join(json.dumps(document_of(update), ensure_ascii=False) + "\n" for update in updates))


class _CsvWriter(_TextWriter):
    def __init__(self, file: TextIO, owned: bool) -> None:
        super().__init__(file, owned)
        self._columns = columns()
        self._put_rows([[column.name for column in self._columns]])

    def write(self, updates: "Sequence[order_pb2.OrderUpdate]") -> None:
        self._put_rows([[_csv_text(column.value(update)) for column in self._columns] for update in updates])

    def _put_rows(self, rows: Sequence[Sequence[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._put(text.getvalue())


class _ParquetWriter:
    """Decimals and names as strings, numbers as int64, times as timestamp[us, UTC]."""

    def __init__(self, file: BinaryIO, owned: bool) -> None:
        import pyarrow
        import pyarrow.parquet

        self._arrow = pyarrow
        self._file = file
        self._owned = owned
        self._columns = columns()
        types = {
            Kind.TEXT: pyarrow.string(),
            Kind.NUMBER: pyarrow.int64(),
            Kind.FLAG: pyarrow.bool_(),
            Kind.TIME: pyarrow.timestamp("us", tz="UTC"),
        }
        self._schema = pyarrow.schema([(column.name, types[column.kind]) for column in self._columns])
        self._parquet = pyarrow.parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[list[Any]] = []

    def write(self, updates: "Sequence[order_pb2.OrderUpdate]") -> None:
        self._waiting += [[_arrow_value(column.value(update)) for column in self._columns] for update in updates]
        if len(self._waiting) >= _ROW_GROUP_ROWS:
            self._put_waiting()

    def close(self) -> None:
        self._put_waiting()
        self._parquet.close()
        self._file.flush()
        if self._owned:
            self._file.close()

    def _put_waiting(self) -> None:
        if not self._waiting:
            return
        values = zip(zip(*self._waiting, strict=True), self._schema, strict=True)
        arrays = [self._arrow.array(column, type=field.type) for column, field in values]
        self._waiting = []
        self._parquet.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))


def columns() -> tuple[Column, ...]:
    """Every value of an update, in the order of the contract's fields; those of a nested message as ``fill.price``."""
    from ordertape.v1 import order_pb2

    return tuple(_columns_of(order_pb2.OrderUpdate.DESCRIPTOR, (), ""))


def _columns_of(descriptor: "Descriptor", path: tuple[str, ...], prefix: str) -> Iterator[Column]:
    for field in sorted(descriptor.fields, key=lambda field: field.number):
        name = prefix + field.json_name
        nested = field.message_type
        if field.is_repeated:
            raise TypeError(f"{field.full_name} is repeated and has no place in a row")
        if nested is not None and nested.full_name != _TIMESTAMP:
            yield from _columns_of(nested, (*path, field.name), f"{name}.")
        else:
            yield Column(name, _kind_of(field), _getter(path, field))


def _kind_of(field: "FieldDescriptor") -> Kind:
    if field.message_type is not None:
        return Kind.TIME
    if field.type in (field.TYPE_STRING, field.TYPE_ENUM):
        return Kind.TEXT
    return Kind.FLAG if field.type == field.TYPE_BOOL else Kind.NUMBER


def _getter(path: tuple[str, ...], field: "FieldDescriptor") -> "Callable[[order_pb2.OrderUpdate], Any]":
    name, has_presence = field.name, field.has_presence
    names = {value.number: value.name for value in field.enum_type.values} if field.enum_type is not None else None

    def value(update: "order_pb2.OrderUpdate") -> Any:
        message: Message = update
        for step in path:
            if not message.HasField(step):
                return None
            message = getattr(message, step)
        if has_presence and not message.HasField(name):
            return None
        found = getattr(message, name)
        return found if names is None else names.get(found, str(found))

    return value


def _csv_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else str(value.ToJsonString())


def _arrow_value(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int) else value.ToMicroseconds()
