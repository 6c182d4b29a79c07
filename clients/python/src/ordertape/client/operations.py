"""The table of calls: of each, how its request is made, which method it calls, and what its answer becomes. Both clients are
made of it, so that they have the same surface and neither is generated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, Literal, ParamSpec, TypeVar

from google.protobuf.message import Message

from ordertape.client import requests
from ordertape.client.enums import TradingStatus
from ordertape.client.errors import error_of_item
from ordertape.client.frames import Rows
from ordertape.client.results import Book, CancelledCount, Exported, ItemResult, Moved, News, OrderResult, Page, Submitted
from ordertape.client.session import key_of
from ordertape.client.values import Balance, BookLevel, HistoryStatus, Instrument, OrderFill, OrderUpdate
from ordertape.client.views import View
from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import order_history_pb2 as history_pb2

P = ParamSpec("P")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
T = TypeVar("T")
V = TypeVar("V", bound=View[Any])

Place = Literal["engine", "history"]


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Response]):
    """A method of a service, which is at one of the two addresses."""

    path: str
    at: Place
    request: type[Request]
    response: type[Response]


@dataclass(frozen=True, slots=True)
class Operation(Generic[P, Request, Response, T]):
    """A call. ``answer``: what is made of the request as it was sent and of the response."""

    request: Callable[P, Request]
    method: Method[Request, Response]
    answer: Callable[[Request, Response], T]
    writes: bool = False


def _engine(service: str, name: str, request: type[Request], response: type[Response]) -> Method[Request, Response]:
    return Method(f"/ordertape.v1.{service}/{name}", "engine", request, response)


def _history(name: str, request: type[Request], response: type[Response]) -> Method[Request, Response]:
    return Method(f"/ordertape.v1.OrderHistory/{name}", "history", request, response)


def _of_order(
    request: Any,
    response: "engine_pb2.PlaceOrderResponse | engine_pb2.ReplaceOrderResponse | engine_pb2.CancelOrderResponse"
    " | engine_pb2.SubmitOrdersResult",
) -> OrderResult:
    rows = Rows(OrderUpdate, [OrderUpdate(update) for update in response.updates], response.position)
    return OrderResult(key_of(request), rows, response.position, response.replayed, response.updates_omitted)


def _of_many(request: engine_pb2.SubmitOrdersRequest, response: engine_pb2.SubmitOrdersResponse) -> Submitted:
    def of_one(item: engine_pb2.SubmitOrdersItem, result: engine_pb2.SubmitOrdersResult) -> ItemResult:
        sent = getattr(item, item.WhichOneof("action") or "")
        if result.HasField("error"):
            return ItemResult(key_of(sent), None, error_of_item(result.error, key_of(sent)))
        return ItemResult(key_of(sent), _of_order(sent, result), None)

    return Submitted(tuple(map(of_one, request.items, response.results)), response.position)


def _of_cancel(request: engine_pb2.CancelOrdersRequest, response: engine_pb2.CancelOrdersResponse) -> CancelledCount:
    return CancelledCount(key_of(request), response.cancelled_count, response.position, response.replayed)


def _of_money(
    request: "engine_pb2.DepositRequest | engine_pb2.WithdrawRequest",
    response: "engine_pb2.DepositResponse | engine_pb2.WithdrawResponse",
) -> Moved:
    return Moved(key_of(request), Balance(response.balance), response.position, response.replayed)


def _of_book(_request: engine_pb2.GetOrderBookRequest, response: engine_pb2.GetOrderBookResponse) -> Book:
    return Book(
        Rows(BookLevel, [BookLevel(level) for level in response.bids], response.position),
        Rows(BookLevel, [BookLevel(level) for level in response.asks], response.position),
        response.position,
        Decimal(response.last_trade_price) if response.HasField("last_trade_price") else None,
        TradingStatus(response.trading_status),
    )


def _rows(view: type[V], field: str) -> Callable[[Any, Any], Rows[V]]:
    return lambda _request, response: Rows(view, [view(one) for one in getattr(response, field)], response.position)


def _page(view: type[V], field: str) -> Callable[[Any, Any], Page[V]]:
    def of(_request: Any, response: Any) -> Page[V]:
        rows = Rows(view, [view(one) for one in getattr(response, field)], response.position, bool(response.next_page_token))
        return Page(rows, response.next_page_token)

    return of


PLACE = Operation(
    requests.place,
    _engine("MatchingEngine", "PlaceOrder", engine_pb2.PlaceOrderRequest, engine_pb2.PlaceOrderResponse),
    _of_order,
    writes=True,
)
REPLACE = Operation(
    requests.replace,
    _engine("MatchingEngine", "ReplaceOrder", engine_pb2.ReplaceOrderRequest, engine_pb2.ReplaceOrderResponse),
    _of_order,
    writes=True,
)
CANCEL = Operation(
    requests.cancel,
    _engine("MatchingEngine", "CancelOrder", engine_pb2.CancelOrderRequest, engine_pb2.CancelOrderResponse),
    _of_order,
    writes=True,
)
CANCEL_ORDERS = Operation(
    requests.cancel_orders,
    _engine("MatchingEngine", "CancelOrders", engine_pb2.CancelOrdersRequest, engine_pb2.CancelOrdersResponse),
    _of_cancel,
    writes=True,
)
SUBMIT = Operation(
    requests.submit,
    _engine("MatchingEngine", "SubmitOrders", engine_pb2.SubmitOrdersRequest, engine_pb2.SubmitOrdersResponse),
    _of_many,
    writes=True,
)
DEPOSIT = Operation(
    requests.deposit,
    _engine("Operator", "Deposit", engine_pb2.DepositRequest, engine_pb2.DepositResponse),
    _of_money,
    writes=True,
)
WITHDRAW = Operation(
    requests.withdraw,
    _engine("Operator", "Withdraw", engine_pb2.WithdrawRequest, engine_pb2.WithdrawResponse),
    _of_money,
    writes=True,
)
BALANCES = Operation(
    requests.balances,
    _engine("Accounts", "ListBalances", engine_pb2.ListBalancesRequest, engine_pb2.ListBalancesResponse),
    _rows(Balance, "balances"),
)
BOOK = Operation(
    requests.book,
    _engine("MatchingEngine", "GetOrderBook", engine_pb2.GetOrderBookRequest, engine_pb2.GetOrderBookResponse),
    _of_book,
)
INSTRUMENTS = Operation(
    requests.instruments,
    _engine("MatchingEngine", "ListInstruments", engine_pb2.ListInstrumentsRequest, engine_pb2.ListInstrumentsResponse),
    _rows(Instrument, "instruments"),
)
ORDER = Operation(
    requests.order,
    _history("GetOrder", history_pb2.GetOrderRequest, history_pb2.GetOrderResponse),
    lambda _request, response: OrderUpdate(response.order),
)
STATUS = Operation(
    requests.status,
    _history("GetHistoryStatus", history_pb2.GetHistoryStatusRequest, history_pb2.GetHistoryStatusResponse),
    lambda _request, response: HistoryStatus(response),
)
ACTIVE_ORDERS = Operation(
    requests.active_orders,
    _history("ListActiveOrders", history_pb2.ListActiveOrdersRequest, history_pb2.ListActiveOrdersResponse),
    _page(OrderUpdate, "orders"),
)
ORDER_HISTORY = Operation(
    requests.order_history,
    _history("ListOrderHistory", history_pb2.ListOrderHistoryRequest, history_pb2.ListOrderHistoryResponse),
    _page(OrderUpdate, "orders"),
)
ORDER_UPDATES = Operation(
    requests.order_updates,
    _history("ListOrderUpdates", history_pb2.ListOrderUpdatesRequest, history_pb2.ListOrderUpdatesResponse),
    _page(OrderUpdate, "updates"),
)
FILLS = Operation(
    requests.fills,
    _history("ListFills", history_pb2.ListFillsRequest, history_pb2.ListFillsResponse),
    _page(OrderFill, "fills"),
)
WATCH = _history("WatchOrders", history_pb2.WatchOrdersRequest, history_pb2.WatchOrdersResponse)
EXPORT = _history("ExportOrderHistory", history_pb2.ExportOrderHistoryRequest, history_pb2.ExportOrderHistoryResponse)


def news_of(heard: list[history_pb2.WatchOrdersResponse]) -> News:
    """What the messages up to a position say."""
    found = [OrderUpdate(order) for one in heard for order in (*one.snapshot.orders, *one.updates.updates)]
    position = heard[-1].position
    return News(Rows(OrderUpdate, found, position), heard[-1].HasField("snapshot"), position)


def exported_of(heard: list[history_pb2.ExportOrderHistoryResponse]) -> Exported:
    """What the messages up to a position say."""
    last = heard[-1]
    found = [OrderUpdate(update) for one in heard for update in one.updates]
    return Exported(Rows(OrderUpdate, found, last.position), last.position, last.until, last.last_user_update_number)
