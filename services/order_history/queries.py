"""Answers the reads, from the store and from the memory of open orders.

An answer's position is taken before anything is read, so it is a lower bound. Lists that merge both sources copy the memory
first and read the store then: an order leaves memory only after its end is stored, so none can be missed in between.
"""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Protocol, TypeAlias

import grpc

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_pb2
from services.domain.lifecycle import OPEN_STATUSES
from services.order_history.order_processor import StoredUpdate
from services.order_history.requests import (
    FillsQuestion,
    OrderName,
    OrderQuestion,
    OrdersQuestion,
    UpdatesQuestion,
)
from services.order_history.stores import (
    SCANNED_ORDERS_MAX,
    OrderFilter,
    OrderHistoryRepository,
    OrderKey,
    OrderPage,
    StoreDamaged,
    StoreUnavailable,
    UpdatePlace,
)
from services.wire.errors import CallError, Violation, invalid_request
from services.wire.fields import microseconds_of
from services.wire.page_token import encode_page_token
from services.wire.position import Position, encode_position

TimeRemaining: TypeAlias = Callable[[], float | None]
"""Seconds to the call's deadline, None where it has none."""

# A store that hangs is told of so long before the call's deadline, so that the caller still hears of it.
_DEADLINE_MARGIN_SECONDS: Final = 0.2
_OPEN: Final = frozenset(int(status) for status in OPEN_STATUSES)
_NOTHING_MORE: Final = OrderPage([], None)


class OrdersView(Protocol):
    """What the reads need of the running history; lives in the loop's thread. What it shows is always stored already."""

    @property
    def ledger_id(self) -> str:
        """The ledger that the history follows; empty before it met one."""
        ...

    @property
    def applied_sequence(self) -> int:
        """The end of the last applied batch."""
        ...

    @property
    def position(self) -> str:
        """The applied position, as clients carry it."""
        ...

    def ensure_readable(self) -> None:
        """Raise CallError DATA_LOSS (HALTED) where the history has halted."""
        ...

    def open_orders(self, user_id: str) -> Mapping[int, order_pb2.OrderUpdate]:
        """The user's open orders by order_id, in rising order; not to be kept or changed."""
        ...

    async def reach(self, position: Position, timeout_seconds: float | None) -> None:
        """Return once the position is applied.

        Raises CallError UNAVAILABLE (NOT_YET_APPLIED) just before ``timeout_seconds`` have passed, OUT_OF_RANGE for a
        position of another ledger. None: the caller set no deadline, a configured time counts.
        """
        ...

    async def engine_durable_sequence(self, timeout_seconds: float | None) -> int:
        """The engine's durable sequence now, asked of the engine. Raises CallError UNAVAILABLE (DEPENDENCY_DOWN)."""
        ...

    def status(self) -> pb.GetHistoryStatusResponse:
        """The whole answer of GetHistoryStatus."""
        ...


@contextmanager
def store_errors_as_call_errors() -> Iterator[None]:
    """The store's trouble as what a caller hears: UNAVAILABLE to try again, DATA_LOSS where an operator has to look."""
    try:
        yield
    except StoreUnavailable as error:
        message = f"the store cannot answer now: {error}"
        raise CallError(grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DEPENDENCY_DOWN, message) from error
    except StoreDamaged as error:
        message = f"the store is damaged: {error}"
        raise CallError(grpc.StatusCode.DATA_LOSS, reasons.ERROR_REASON_HALTED, message) from error


@asynccontextmanager
async def _store_asked(time_remaining: TimeRemaining) -> AsyncIterator[None]:
    """As ``store_errors_as_call_errors``; a store that does not answer before the call's deadline cannot answer now."""
    remaining = time_remaining()
    patience = None if remaining is None else max(remaining - _DEADLINE_MARGIN_SECONDS, remaining / 2)
    with store_errors_as_call_errors():
        try:
            async with asyncio.timeout(patience):
                yield
        except TimeoutError as late:
            raise StoreUnavailable("it does not answer within the call's deadline") from late


class Queries:
    """The reads, for requests that are checked already. ``clock``: microseconds since 1970.

    Every read raises CallError: what OrdersView says, and what ``store_errors_as_call_errors`` does.
    """

    def __init__(self, view: OrdersView, orders: OrderHistoryRepository, clock: Callable[[], int]) -> None:
        self._view = view
        self._orders = orders
        self._clock = clock

    async def order(self, question: OrderQuestion, time_remaining: TimeRemaining) -> pb.GetOrderResponse:
        """One order as it stands, or stood. Raises CallError NOT_FOUND; INVALID_ARGUMENT for a time to come."""
        if question.as_of_time is not None and question.as_of_time > self._clock():
            raise invalid_request([Violation("as_of_time", "must not be later than now")])
        await self._reach(question.at_least, time_remaining)
        position, until_sequence = self._view.position, None
        if question.as_of is not None:
            await self._reach(question.as_of, time_remaining)
            position, until_sequence = encode_position(*question.as_of), question.as_of.sequence
        elif question.as_of_time is not None:
            await self._reach_present(time_remaining)
            async with _store_asked(time_remaining):
                point = await self._orders.point_in_time(question.user_id, question.as_of_time)
            position, until_sequence = encode_position(self._view.ledger_id, point.position), point.sequence
        async with _store_asked(time_remaining):
            order_id = await self._order_id(question.user_id, question.order)
            update = await self._orders.latest_update(order_id, until_sequence)
        if update is None or update.user_id != question.user_id:
            raise _not_found(question.user_id, question.order)
        return pb.GetOrderResponse(order=update.message, position=position)

    async def active_orders(
        self, request: pb.ListActiveOrdersRequest, question: OrdersQuestion, time_remaining: TimeRemaining
    ) -> pb.ListActiveOrdersResponse:
        """A page of the user's open orders, by order_id descending; the cursor is the last one's order_id."""
        await self._reach(question.at_least, time_remaining)
        before = question.cursor[0] if question.cursor else None
        size = question.page_size
        orders, looked_to = _newest_open(self._view.open_orders(question.user_id), question.wanted, before, size + 1)
        response = pb.ListActiveOrdersResponse(orders=orders[:size], position=self._view.position)
        if len(orders) > size:
            response.next_page_token = encode_page_token(request, (orders[size - 1].order_id,))
        elif looked_to is not None:
            response.next_page_token = encode_page_token(request, looked_to[1:])
        return response

    async def order_history(
        self, request: pb.ListOrderHistoryRequest, question: OrdersQuestion, time_remaining: TimeRemaining
    ) -> pb.ListOrderHistoryResponse:
        """A page of the user's orders, newest first; the cursor is the last one's OrderKey."""
        await self._reach(question.at_least, time_remaining)
        user_id, wanted, size = question.user_id, question.wanted, question.page_size
        before = None if question.cursor is None else (question.cursor[0], question.cursor[1])
        response = pb.ListOrderHistoryResponse(position=self._view.position)
        found: dict[OrderKey, order_pb2.OrderUpdate | bytes] = {}
        looked_to: list[OrderKey] = []
        if not wanted.statuses or not _OPEN.isdisjoint(wanted.statuses):
            orders, open_looked_to = _newest_open(self._view.open_orders(user_id), wanted, before and before[1], size + 1)
            found.update((_key(order), order) for order in orders)
            looked_to += [open_looked_to] if open_looked_to else []
        if not wanted.statuses or not _OPEN.issuperset(wanted.statuses):
            async with _store_asked(time_remaining):
                ended = await self._orders.ended_orders(user_id, wanted, before, size + 1)
            found.update(ended.rows)
            looked_to += [ended.looked_to] if ended.looked_to else []
        # Beyond where one of the sources has looked, orders of the other might not be the next ones.
        end = max(looked_to, default=None)
        keys = sorted((key for key in found if end is None or key >= end), reverse=True)
        for key in keys[:size]:
            order = found[key]
            response.orders.append(order_pb2.OrderUpdate.FromString(order) if isinstance(order, bytes) else order)
        cursor = keys[size - 1] if len(keys) > size else end
        if cursor is not None:
            response.next_page_token = encode_page_token(request, cursor)
        return response

    async def order_updates(
        self, request: pb.ListOrderUpdatesRequest, question: UpdatesQuestion, time_remaining: TimeRemaining
    ) -> pb.ListOrderUpdatesResponse:
        """A page of one order's timeline; the cursor is the last one's UpdatePlace. Raises CallError NOT_FOUND."""
        await self._reach(question.at_least, time_remaining)
        size = question.page_size
        position = self._view.position
        async with _store_asked(time_remaining):
            order_id = await self._order_id(question.user_id, question.order)
            after = UpdatePlace(question.cursor[0], question.cursor[1]) if question.cursor else UpdatePlace(0, 0)
            updates = await self._orders.order_updates(order_id, after, size + 1)
        if not updates or updates[0].user_id != question.user_id:
            raise _not_found(question.user_id, question.order)
        response = pb.ListOrderUpdatesResponse(updates=[update.message for update in updates[:size]], position=position)
        if len(updates) > size:
            last = response.updates[-1]
            response.next_page_token = encode_page_token(request, (last.sequence, last.update_number))
        return response

    async def fills(
        self, request: pb.ListFillsRequest, question: FillsQuestion, time_remaining: TimeRemaining
    ) -> pb.ListFillsResponse:
        """A page of the user's fills, newest first; the cursor is the last one's sequence."""
        await self._reach(question.at_least, time_remaining)
        size = question.page_size
        position = self._view.position
        before_sequence = question.cursor[0] if question.cursor else None
        async with _store_asked(time_remaining):
            updates, looked_to = await self._orders.fills(question.user_id, question.wanted, before_sequence, size + 1)
        response = pb.ListFillsResponse(fills=[_order_fill(update) for update in updates[:size]], position=position)
        cursor = updates[size - 1].sequence if len(updates) > size else looked_to
        if cursor is not None:
            response.next_page_token = encode_page_token(request, (cursor,))
        return response

    async def _reach(self, position: Position | None, time_remaining: TimeRemaining) -> None:
        self._view.ensure_readable()
        if position is not None:
            await self._view.reach(position, time_remaining())

    async def _reach_present(self, time_remaining: TimeRemaining) -> None:
        """Wait until all that the engine has synced by now is applied."""
        durable_sequence = await self._view.engine_durable_sequence(time_remaining())
        if not self._view.ledger_id:
            message = "the history has not met its ledger yet: call again later"
            raise CallError(grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_NOT_YET_APPLIED, message)
        await self._view.reach(Position(self._view.ledger_id, durable_sequence), time_remaining())

    async def _order_id(self, user_id: str, order: OrderName) -> int:
        if isinstance(order, int):
            return order
        order_id = await self._orders.find_order_id(user_id, order)
        if order_id is None:
            raise _not_found(user_id, order)
        return order_id


def _newest_open(
    orders: Mapping[int, order_pb2.OrderUpdate], wanted: OrderFilter, before_order_id: int | None, limit: int
) -> tuple[list[order_pb2.OrderUpdate], OrderKey | None]:
    """The wanted ones, newest first, and down to which key (inclusive) all was looked at; None: to the end.

    The mapping's order_ids rise, and created_at with them, so both ends of the range are found by halving.
    """
    order_ids = list(orders)
    end = len(order_ids) if before_order_id is None else bisect_left(order_ids, before_order_id)

    def created_at(order_id: int) -> int:
        return microseconds_of(orders[order_id].created_at)

    begin = 0
    if wanted.created_from is not None:
        begin = bisect_left(order_ids, wanted.created_from, hi=end, key=created_at)
    if wanted.created_until is not None:
        end = bisect_left(order_ids, wanted.created_until, lo=begin, hi=max(begin, end), key=created_at)
    found: list[order_pb2.OrderUpdate] = []
    bound = max(begin, end - SCANNED_ORDERS_MAX)
    for index in range(end - 1, bound - 1, -1):
        order = orders[order_ids[index]]
        if _is_wanted(order, wanted):
            found.append(order)
            if len(found) == limit:
                return found, _key(order)
    return found, _key(orders[order_ids[bound]]) if bound > begin else None


def _is_wanted(order: order_pb2.OrderUpdate, wanted: OrderFilter) -> bool:
    """Whether the order passes the rules that need a look at it: all but the time of its creation."""
    if wanted.symbols and order.symbol not in wanted.symbols:
        return False
    if wanted.statuses and order.status not in wanted.statuses:
        return False
    if wanted.side and order.side != wanted.side:
        return False
    if wanted.updated_from is None and wanted.updated_until is None:
        return True
    updated_at = microseconds_of(order.timestamp)
    return (wanted.updated_from is None or updated_at >= wanted.updated_from) and (
        wanted.updated_until is None or updated_at < wanted.updated_until
    )


def _key(order: order_pb2.OrderUpdate) -> OrderKey:
    return microseconds_of(order.created_at), order.order_id


def _order_fill(update: StoredUpdate) -> pb.OrderFill:
    order = update.message
    return pb.OrderFill(
        fill=order.fill,
        order_id=order.order_id,
        client_order_id=order.client_order_id if order.HasField("client_order_id") else None,
        symbol=order.symbol,
        side=order.side,
        sequence=order.sequence,
        timestamp=order.timestamp,
    )


def _not_found(user_id: str, order: OrderName) -> CallError:
    name = f"order {order}" if isinstance(order, int) else f"order with the client_order_id {order}"
    message = f"{user_id} has no {name} at the position or time asked for"
    return CallError(grpc.StatusCode.NOT_FOUND, reasons.ERROR_REASON_ORDER_NOT_FOUND, message)
