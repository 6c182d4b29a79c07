"""What the command prints: one answer as a table for people, as JSON or as JSON lines for programs. The fields are the
contract's own, under the names of protobuf's JSON mapping, in all three; `reason` is whichever of the three reasons there is.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from services.cli.failures import USAGE, Failure

if TYPE_CHECKING:
    from google.protobuf.message import Message

# Tables leave out what every value of an enum begins with.
_ENUM_PREFIXES = {
    "side": "SIDE_",
    "orderType": "ORDER_TYPE_",
    "timeInForce": "TIME_IN_FORCE_",
    "status": "ORDER_STATUS_",
    "previousStatus": "ORDER_STATUS_",
    "execType": "EXEC_TYPE_",
    "liquidity": "LIQUIDITY_SIDE_",
    "selfTradePrevention": "SELF_TRADE_PREVENTION_",
    "rejectReason": "REJECT_REASON_",
    "cancelReason": "CANCEL_REASON_",
    "expireReason": "EXPIRE_REASON_",
    "tradingStatus": "TRADING_STATUS_",
    "userStatus": "USER_STATUS_",
    "state": "HISTORY_STATE_",
}
REASON = "reason"
_REASONS = ("rejectReason", "cancelReason", "expireReason")
ORDER_COLUMNS = (
    "orderId", "clientOrderId", "symbol", "side", "orderType", "timeInForce", "stopPrice", "triggeredAt", "price", "qty",
    "quoteQty", "displayQty", "filledQty", "leavesQty", "avgFillPrice", "status", REASON, "reasonText", "expireTime", "createdAt",
)  # fmt: skip
RESULT_COLUMNS = (
    "orderId", "clientOrderId", "symbol", "side", "execType", "status", "stopPrice", "price", "qty", "quoteQty", "displayQty",
    "filledQty", "leavesQty", "fill.price", "fill.qty", REASON, "reasonText", "expireTime",
)  # fmt: skip
UPDATE_COLUMNS = (
    "updateNumber", "timestamp", "execType", "status", "stopPrice", "price", "qty", "displayQty", "filledQty", "leavesQty",
    "fill.price", "fill.qty", "fill.liquidity", REASON, "reasonText", "sequence",
)  # fmt: skip
WATCH_COLUMNS = (
    "userUpdateNumber", "timestamp", "orderId", "symbol", "side", "stopPrice", "price", "qty", "execType", "status", "filledQty",
    "leavesQty", REASON, "reasonText",
)  # fmt: skip
FILL_COLUMNS = (
    "timestamp", "orderId", "clientOrderId", "symbol", "side", "fill.tradeId", "fill.price", "fill.qty", "fill.quote",
    "fill.liquidity", "fill.fee", "fill.feeAsset",
)  # fmt: skip
BALANCE_COLUMNS = ("asset", "available", "held")
LEVEL_COLUMNS = ("side", "price", "qty", "orderCount")
INSTRUMENT_COLUMNS = (
    "symbol", "priceStep", "qtyStep", "priceMin", "priceMax", "qtyMin", "qtyMax", "notionalMin", "makerFeeRate", "takerFeeRate",
    "priceBandRate",
)  # fmt: skip
# Columns of a table that is printed line by line; others take what their name takes, at least 12.
_LINE_WIDTHS = {
    "userUpdateNumber": 16, "timestamp": 27, "orderId": 8, "side": 4, "stopPrice": 10, "price": 10, "execType": 9, "status": 16,
    REASON: 20,
}  # fmt: skip

Row = Mapping[str, Any]


class Output(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def document_of(message: "Message") -> dict[str, Any]:
    """The message in protobuf's JSON mapping; what is empty is said too, so that a program finds each field every time."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, always_print_fields_with_no_presence=True)


def show(output: Output, document: Row, listed: str, columns: Sequence[str], fields: str | None = None) -> None:
    """Print an answer that has something under the key ``listed``: a list, or a single object.

    json: the whole answer; jsonl: what it lists, one a line; table: the ``columns`` of each, and below it what else the answer
    says. ``fields``, comma separated and dotted into nested messages, chooses what to print of each in every format.
    """
    single = isinstance(document[listed], Mapping)
    rows: Sequence[Row] = [document[listed]] if single else document[listed]
    if fields:
        columns = chosen(fields)
        rows = [pick(row, columns) for row in rows]
    if output is Output.JSON:
        print_json({**document, listed: rows[0] if single else rows}, indent=2)
    elif output is Output.JSONL:
        print_json_lines(rows)
    else:
        print_table(rows, columns)
        rest = {key: value for key, value in document.items() if key != listed and value not in ("", [], 0, False)}
        if rest:
            print("  ".join(f"{key} {_text(key, value)}" for key, value in rest.items()))


def show_one(output: Output, document: Row) -> None:
    """Print one object: a table of its fields, or the object."""
    if output is Output.TABLE:
        rows = [{"field": key, "value": _text(key, value)} for key, value in flat(document).items()]
        print_table([row for row in rows if row["value"]], ("field", "value"))
    else:
        print_json(document, indent=2 if output is Output.JSON else None)


def print_json(document: Row, indent: int | None = None) -> None:
    """Print one JSON object."""
    print(json.dumps(document, indent=indent, ensure_ascii=False), flush=True)


def print_json_lines(rows: Iterable[Row]) -> None:
    """Print a JSON object a line."""
    for row in rows:
        print_json(row)


def print_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Print a table: to a terminal in its width, to anything else as wide as it takes. Columns that no row fills are left out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[_text(column, value_at(row, column)) for column in columns] for row in rows]
    filled = [index for index in range(len(columns)) if not rows or any(line[index] for line in cells)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index in filled:
        table.add_column(columns[index], overflow="fold")
    for line in cells:
        table.add_row(*(Text(line[index]) for index in filled))
    Console(width=None if sys.stdout.isatty() else 1000, highlight=False).print(table)


def chosen(fields: str) -> tuple[str, ...]:
    """The names in a comma separated list. Raises Failure for what is no name."""
    names = tuple(name.strip() for name in fields.split(","))
    for name in names:
        if not name.replace(".", "").isalnum():
            raise Failure(USAGE, f"--fields takes names such as orderId,status,fill.price; got {name!r}")
    return names


def pick(row: Row, fields: Sequence[str]) -> dict[str, Any]:
    """The row's ``fields``, absent ones as None."""
    return {field: value_at(row, field) for field in fields}


def value_at(row: Row, path: str) -> Any:
    """What stands at a dotted path, None where nothing does."""
    if path in row:
        return row[path]
    if path == REASON:
        return next((row[name] for name in _REASONS if name in row), None)
    head, _, rest = path.partition(".")
    value = row.get(head)
    return value_at(value, rest) if rest and isinstance(value, Mapping) else None


def flat(document: Row, prefix: str = "") -> dict[str, Any]:
    """The document's values under dotted paths."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _text(field: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = json.dumps(value) if isinstance(value, list | dict) else str(value)
    for name in _REASONS if field == REASON else (field.rpartition(".")[2],):
        text = text.removeprefix(_ENUM_PREFIXES.get(name, ""))
    return text


def table_line(columns: Sequence[str], row: Row | None) -> str:
    """One line of a table that never ends, in fixed widths; the header for no row."""
    cells = [column if row is None else _text(column, value_at(row, column)) for column in columns]
    widths = [_LINE_WIDTHS.get(column, max(12, len(column))) for column in columns]
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
