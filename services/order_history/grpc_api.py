"""The OrderHistory service at its gRPC end: checks the request, asks, answers. Failures are CallErrors, which the serving shell
turns into statuses.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_history_pb2_grpc
from services.order_history import requests
from services.order_history.queries import OrdersView, Queries, TimeRemaining


class Call(Protocol):
    """What the handlers use of grpc.aio's ServicerContext."""

    def time_remaining(self) -> float | None:
        """Seconds to the call's deadline, None where it has none."""
        ...

    async def write(self, message: pb.WatchOrdersResponse | pb.ExportOrderHistoryResponse, /) -> None:
        """Send one message of a stream; returns when there is room for the next."""
        ...


class OrderWatch(Protocol):
    """What follows orders as they change."""

    async def serve(self, question: requests.WatchQuestion, write: Callable[[pb.WatchOrdersResponse], Awaitable[None]]) -> None:
        """Write the answers of WatchOrders until the caller leaves. Raises CallError."""
        ...


class OrderExport(Protocol):
    """What sends all of a user's updates."""

    async def serve(
        self,
        question: requests.ExportQuestion,
        time_remaining: TimeRemaining,
        write: Callable[[pb.ExportOrderHistoryResponse], Awaitable[None]],
    ) -> None:
        """Write the answers of ExportOrderHistory to the end. Raises CallError."""
        ...


class OrderHistoryApi(order_history_pb2_grpc.OrderHistoryServicer):
    """Serves OrderHistory on a grpc.aio server."""

    def __init__(self, view: OrdersView, queries: Queries, watch: OrderWatch, export: OrderExport) -> None:
        self._view = view
        self._queries = queries
        self._watch = watch
        self._export = export

    async def GetOrder(self, request: pb.GetOrderRequest, context: Call) -> pb.GetOrderResponse:
        """See order_history.proto."""
        return await self._queries.order(requests.order_question(request), context.time_remaining)

    async def ListActiveOrders(self, request: pb.ListActiveOrdersRequest, context: Call) -> pb.ListActiveOrdersResponse:
        """See order_history.proto."""
        question = requests.active_orders_question(request)
        return await self._queries.active_orders(request, question, context.time_remaining)

    async def ListOrderHistory(self, request: pb.ListOrderHistoryRequest, context: Call) -> pb.ListOrderHistoryResponse:
        """See order_history.proto."""
        question = requests.order_history_question(request)
        return await self._queries.order_history(request, question, context.time_remaining)

    async def ListOrderUpdates(self, request: pb.ListOrderUpdatesRequest, context: Call) -> pb.ListOrderUpdatesResponse:
        """See order_history.proto."""
        question = requests.updates_question(request)
        return await self._queries.order_updates(request, question, context.time_remaining)

    async def ListFills(self, request: pb.ListFillsRequest, context: Call) -> pb.ListFillsResponse:
        """See order_history.proto."""
        return await self._queries.fills(request, requests.fills_question(request), context.time_remaining)

    # The generated stub knows generators only; grpc.aio takes a coroutine that writes as well, and that one ends at once when
    # its caller leaves.
    async def WatchOrders(self, request: pb.WatchOrdersRequest, context: Call) -> None:  # type: ignore[override]
        """See order_history.proto."""
        await self._watch.serve(requests.watch_question(request), context.write)

    async def ExportOrderHistory(self, request: pb.ExportOrderHistoryRequest, context: Call) -> None:  # type: ignore[override]
        """See order_history.proto."""
        await self._export.serve(requests.export_question(request), context.time_remaining, context.write)

    async def GetHistoryStatus(self, request: pb.GetHistoryStatusRequest, context: Call) -> pb.GetHistoryStatusResponse:
        """See order_history.proto."""
        at_least = requests.status_question(request)
        if at_least is not None:
            await self._view.reach(at_least, context.time_remaining())
        return self._view.status()
