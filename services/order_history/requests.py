"""Checks what a request to the history alone can show, all violations at once, and makes of it what the queries work with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_pb2
from services.order_history.stores import FillFilter, OrderFilter
from services.wire.fields import Violations, microseconds_of
from services.wire.page_token import decode_page_token
from services.wire.position import Position

OrderName: TypeAlias = int | str
"""The engine's number of an order, or the client's name for it."""

Cursor: TypeAlias = tuple[int, ...] | None
"""Where a list goes on; None for its first page. The numbers' meaning is the list's."""


class OrderQuestion(NamedTuple):
    """GetOrder. ``as_of_time`` is in microseconds since 1970."""

    user_id: str
    order: OrderName
    at_least: Position | None
    as_of: Position | None
    as_of_time: int | None


class OrdersQuestion(NamedTuple):
    """ListActiveOrders and ListOrderHistory."""

    user_id: str
    wanted: OrderFilter
    page_size: int
    cursor: Cursor
    at_least: Position | None


class UpdatesQuestion(NamedTuple):
    """ListOrderUpdates."""

    user_id: str
    order: OrderName
    page_size: int
    cursor: Cursor
    at_least: Position | None


class FillsQuestion(NamedTuple):
    """ListFills."""

    user_id: str
    wanted: FillFilter
    page_size: int
    cursor: Cursor
    at_least: Position | None


class WatchQuestion(NamedTuple):
    """WatchOrders. ``after`` None: begin with a snapshot."""

    user_id: str
    symbols: frozenset[str]
    order_ids: frozenset[int]
    after: Position | None


class ExportQuestion(NamedTuple):
    """ExportOrderHistory. Times are in microseconds since 1970. ``until`` None: the applied position."""

    user_id: str
    symbols: frozenset[str]
    after: Position | None
    until: Position | None
    updated_from: int | None
    updated_until: int | None
    at_least: Position | None


def order_question(request: pb.GetOrderRequest) -> OrderQuestion:
    """GetOrder, checked. Raises CallError INVALID_ARGUMENT."""
    violations = Violations()
    violations.identifier("user_id", request.user_id)
    order = _order_name(violations, request)
    at_least = violations.position("at_least", request.at_least)
    as_of = violations.position("as_of", request.as_of)
    as_of_time = None
    if request.HasField("as_of_time"):
        violations.instant("as_of_time", request.as_of_time)
        as_of_time = microseconds_of(request.as_of_time)
        if request.as_of:
            violations.add("as_of_time", "does not go together with as_of")
    violations.raise_if_any()
    return OrderQuestion(request.user_id, order, at_least, as_of, as_of_time)


def active_orders_question(request: pb.ListActiveOrdersRequest) -> OrdersQuestion:
    """ListActiveOrders, checked. Raises CallError INVALID_ARGUMENT."""
    violations = Violations()
    violations.identifier("user_id", request.user_id)
    wanted = OrderFilter(symbols=_symbols(violations, request.symbols), side=_side(violations, request.side))
    page_size, cursor, at_least = _page(violations, request, 1)
    violations.raise_if_any()
    return OrdersQuestion(request.user_id, wanted, page_size, cursor, at_least)


def order_history_question(request: pb.ListOrderHistoryRequest) -> OrdersQuestion:
    """ListOrderHistory, checked. Raises CallError INVALID_ARGUMENT."""
    violations = Violations()
    violations.identifier("user_id", request.user_id)
    for status in request.statuses:
        violations.enum("statuses", status, order_pb2.OrderStatus)
    wanted = OrderFilter(
        symbols=_symbols(violations, request.symbols),
        statuses=frozenset(request.statuses),
        side=_side(violations, request.side),
        created_from=_bound(violations, request, "created_from"),
        created_until=_bound(violations, request, "created_until"),
        updated_from=_bound(violations, request, "updated_from"),
        updated_until=_bound(violations, request, "updated_until"),
    )
    page_size, cursor, at_least = _page(violations, request, 2)
    violations.raise_if_any()
    return OrdersQuestion(request.user_id, wanted, page_size, cursor, at_least)


def updates_question(request: pb.ListOrderUpdatesRequest) -> UpdatesQuestion:
    """ListOrderUpdates, checked. Raises CallError INVALID_ARGUMENT."""
    violations = Violations()
    violations.identifier("user_id", request.user_id)
    order = _order_name(violations, request)
    page_size, cursor, at_least = _page(violations, request, 2)
    violations.raise_if_any()
    return UpdatesQuestion(request.user_id, order, page_size, cursor, at_least)


def fills_question(request: pb.ListFillsRequest) -> FillsQuestion:
    """ListFills, checked. Raises CallError INVALID_ARGUMENT."""
    violations = Violations()
    violations.identifier("user_id", request.user_id)
    order_id = request.order_id if request.HasField("order_id") else None
    if order_id is not None:
        violations.sequence_number("order_id", order_id)
    wanted = FillFilter(
        symbols=_symbols(violations, request.symbols),
        order_id=order_id,
        traded_from=_bound(violations, request, "traded_from"),
        traded_until=_bound(violations, request, "traded_until"),
    )
    page_size, cursor, at_least = _page(violations, request, 1)
    violations.raise_if_any()
    return FillsQuestion(request.user_id, wanted, page_size, cursor, at_least)


def watch_question(request: pb.WatchOrdersRequest) -> WatchQuestion:
    """WatchOrders, checked. Raises CallError INVALID_ARGUMENT."""
    violations = Violations()
    violations.identifier("user_id", request.user_id)
    symbols = _symbols(violations, request.symbols)
    violations.filter_values("order_ids", request.order_ids)
    for order_id in request.order_ids:
        violations.sequence_number("order_ids", order_id)
    after = violations.position("after", request.after)
    if request.HasField("after") and not request.after:
        violations.add("after", "must be a position from an earlier answer; leave it out to begin with a snapshot")
    violations.raise_if_any()
    return WatchQuestion(request.user_id, symbols, frozenset(request.order_ids), after)


def export_question(request: pb.ExportOrderHistoryRequest) -> ExportQuestion:
    """ExportOrderHistory, checked. Raises CallError INVALID_ARGUMENT."""
    violations = Violations()
    violations.identifier("user_id", request.user_id)
    symbols = _symbols(violations, request.symbols)
    after = violations.position("after", request.after)
    if request.HasField("after") and not request.after:
        violations.add("after", "must be a position from an earlier answer; leave it out to begin with the first update")
    until = violations.position("until", request.until)
    if request.HasField("until") and not request.until:
        violations.add("until", "must be a position from an earlier answer; leave it out to end with what is there now")
    if after and until and after.ledger_id == until.ledger_id and until.sequence < after.sequence:
        violations.add("until", f"must not be before after ({request.after}), is {request.until}")
    updated_from = _bound(violations, request, "updated_from")
    updated_until = _bound(violations, request, "updated_until")
    at_least = violations.position("at_least", request.at_least)
    violations.raise_if_any()
    return ExportQuestion(request.user_id, symbols, after, until, updated_from, updated_until, at_least)


def status_question(request: pb.GetHistoryStatusRequest) -> Position | None:
    """GetHistoryStatus' at_least, checked. Raises CallError INVALID_ARGUMENT."""
    violations = Violations()
    at_least = violations.position("at_least", request.at_least)
    violations.raise_if_any()
    return at_least


QUESTIONS: Final[Mapping[type[Message], Callable[[Any], object]]] = {
    pb.GetOrderRequest: order_question,
    pb.ListActiveOrdersRequest: active_orders_question,
    pb.ListOrderHistoryRequest: order_history_question,
    pb.ListOrderUpdatesRequest: updates_question,
    pb.ListFillsRequest: fills_question,
    pb.WatchOrdersRequest: watch_question,
    pb.ExportOrderHistoryRequest: export_question,
    pb.GetHistoryStatusRequest: status_question,
}
"""The check of each request, for whoever does not answer it."""


_Paged: TypeAlias = pb.ListActiveOrdersRequest | pb.ListOrderHistoryRequest | pb.ListOrderUpdatesRequest | pb.ListFillsRequest


def _page(violations: Violations, request: _Paged, numbers: int) -> tuple[int, Cursor, Position | None]:
    """page_size, the cursor (of so many numbers) and at_least."""
    size = violations.page_size("page_size", request.page_size)
    at_least = violations.position("at_least", request.at_least)
    cursor: Cursor = None
    try:
        cursor = decode_page_token(request, request.page_token)
        if cursor is not None and len(cursor) != numbers:
            violations.add("page_token", "is none of this list")
    except ValueError as error:
        violations.add("page_token", str(error))
    return size, cursor, at_least


def _order_name(violations: Violations, request: pb.GetOrderRequest | pb.ListOrderUpdatesRequest) -> OrderName:
    match request.WhichOneof("order"):
        case "order_id":
            violations.sequence_number("order_id", request.order_id)
            return request.order_id
        case "client_order_id":
            violations.identifier("client_order_id", request.client_order_id)
            return request.client_order_id
        case _:
            violations.add("order", "is required: order_id or client_order_id")
            return 0


def _symbols(violations: Violations, symbols: Sequence[str]) -> frozenset[str]:
    violations.filter_values("symbols", symbols)
    for symbol in symbols:
        violations.identifier("symbols", symbol)
    return frozenset(symbols)


def _side(violations: Violations, side: int) -> int:
    violations.enum("side", side, order_pb2.Side, required=False)
    return side


_Bounded: TypeAlias = pb.ListOrderHistoryRequest | pb.ListFillsRequest | pb.ExportOrderHistoryRequest


def _bound(violations: Violations, request: _Bounded, field: str) -> int | None:
    """The field's time as whole microseconds, rounded up, so that "before" and "at or after" mean what they say."""
    if not request.HasField(field):  # type: ignore[arg-type]
        return None
    value: Timestamp = getattr(request, field)
    violations.instant(field, value)
    return microseconds_of(value) + (value.nanos % 1000 > 0)
