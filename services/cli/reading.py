"""The commands that read the history: what is open, what happened, one order's whole life."""

from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.naming import order_named, side_of
from services.cli.options import (
    HISTORY_DEFAULT,
    LIMIT_DEFAULT,
    TIMEOUT_DEFAULT,
    AtLeast,
    ByClientId,
    Fields,
    Format,
    HistoryAddress,
    Limit,
    OrderArgument,
    SideFilter,
    Symbols,
    Timeout,
    User,
)
from services.cli.output import FILL_COLUMNS, ORDER_COLUMNS, UPDATE_COLUMNS, Output, document_of, show, show_one
from services.cli.times import TIME_HELP, instant

if TYPE_CHECKING:
    from services.cli.paging import ListRequest


class StatusName(StrEnum):
    """Where an order is."""

    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"


def orders(
    user: User,
    symbol: Symbols = None,
    side: SideFilter = None,
    limit: Limit = LIMIT_DEFAULT,
    at_least: AtLeast = "",
    output: Format = Output.TABLE,
    fields: Fields = None,
    history: HistoryAddress = HISTORY_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Open orders, newest first."""
    from ordertape.v1 import order_history_pb2 as history_pb2
    from services.cli.client import History

    request = history_pb2.ListActiveOrdersRequest(user_id=user, symbols=symbol or (), side=side_of(side), at_least=at_least)
    with History(history, timeout) as service:
        answer = _listed(service, service.orders.ListActiveOrders, request, "orders", limit)
    show(output, answer, "orders", ORDER_COLUMNS, fields)


def history(
    user: User,
    symbol: Symbols = None,
    status: Annotated[
        list[StatusName] | None, typer.Option("--status", case_sensitive=False, help="Only this status; can be repeated.")
    ] = None,
    side: SideFilter = None,
    created_from: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help=f"Created then or later. {TIME_HELP}")
    ] = None,
    created_until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Created before.")] = None,
    updated_from: Annotated[str | None, typer.Option("--updated-from", metavar="TIME", help="Last update then or later.")] = None,
    updated_until: Annotated[str | None, typer.Option("--updated-until", metavar="TIME", help="Last update before.")] = None,
    limit: Limit = LIMIT_DEFAULT,
    at_least: AtLeast = "",
    output: Format = Output.TABLE,
    fields: Fields = None,
    history: HistoryAddress = HISTORY_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """All orders, open, ended and rejected, newest first."""
    from ordertape.v1 import order_history_pb2 as history_pb2
    from ordertape.v1 import order_pb2
    from services.cli.client import History

    request = history_pb2.ListOrderHistoryRequest(
        user_id=user,
        symbols=symbol or (),
        statuses=[order_pb2.OrderStatus.Value(f"ORDER_STATUS_{one.name}") for one in status or ()],
        side=side_of(side),
        created_from=instant("--from", created_from),
        created_until=instant("--until", created_until),
        updated_from=instant("--updated-from", updated_from),
        updated_until=instant("--updated-until", updated_until),
        at_least=at_least,
    )
    with History(history, timeout) as service:
        answer = _listed(service, service.orders.ListOrderHistory, request, "orders", limit)
    show(output, answer, "orders", ORDER_COLUMNS, fields)


def order(
    order_id: OrderArgument,
    *,
    user: User,
    by_client_id: ByClientId = False,
    as_of: Annotated[str, typer.Option("--as-of", metavar="POSITION", help="As the order stood at this position.")] = "",
    as_of_time: Annotated[
        str | None, typer.Option("--as-of-time", metavar="TIME", help=f"As the order stood at this time. {TIME_HELP}")
    ] = None,
    at_least: AtLeast = "",
    output: Format = Output.TABLE,
    fields: Fields = None,
    history: HistoryAddress = HISTORY_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """One order: how it stands, and every step that brought it there."""
    from ordertape.v1 import order_history_pb2 as history_pb2
    from services.cli.client import History

    request = history_pb2.GetOrderRequest(
        user_id=user,
        at_least=at_least,
        as_of=as_of,
        as_of_time=instant("--as-of-time", as_of_time),
        **order_named(order_id, by_client_id),
    )
    with History(history, timeout) as service:
        found = service.ask(service.orders.GetOrder, request)
        timeline = history_pb2.ListOrderUpdatesRequest(user_id=user, order_id=found.order.order_id, at_least=found.position)
        # The order as it stood then has had only so many updates.
        steps = _listed(service, service.orders.ListOrderUpdates, timeline, "updates", found.order.update_number)
    answer = document_of(found)
    if output is Output.TABLE and not fields:
        show_one(output, answer["order"])
        print()
        show(output, {"updates": steps["updates"], "position": answer["position"]}, "updates", UPDATE_COLUMNS)
    else:
        show(output, {**answer, "updates": steps["updates"]}, "updates", UPDATE_COLUMNS, fields)


def fills(
    user: User,
    symbol: Symbols = None,
    order_id: Annotated[int | None, typer.Option("--order", metavar="ORDER_ID", min=1, help="Only of this order.")] = None,
    traded_from: Annotated[str | None, typer.Option("--from", metavar="TIME", help=f"Traded then or later. {TIME_HELP}")] = None,
    traded_until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Traded before.")] = None,
    limit: Limit = LIMIT_DEFAULT,
    at_least: AtLeast = "",
    output: Format = Output.TABLE,
    fields: Fields = None,
    history: HistoryAddress = HISTORY_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Fills, newest first."""
    from ordertape.v1 import order_history_pb2 as history_pb2
    from services.cli.client import History

    request = history_pb2.ListFillsRequest(
        user_id=user,
        symbols=symbol or (),
        order_id=order_id,
        traded_from=instant("--from", traded_from),
        traded_until=instant("--until", traded_until),
        at_least=at_least,
    )
    with History(history, timeout) as service:
        answer = _listed(service, service.orders.ListFills, request, "fills", limit)
    show(output, answer, "fills", FILL_COLUMNS, fields)


def _listed(service: Any, method: Any, request: "ListRequest", listed: str, limit: int) -> dict[str, Any]:
    """The answer with the first ``limit`` (0: all) of what it lists, read over as many pages as that takes."""
    from services.cli.paging import pages

    request.page_size = limit
    found: list[Any] = []
    for page in pages(service, method, request):
        found.extend(getattr(page, listed))
        if limit and len(found) >= limit:
            break
    answer = document_of(page)
    answer.pop("nextPageToken")
    more = bool(page.next_page_token) or len(found) > limit > 0
    return {**answer, listed: [document_of(one) for one in islice(found, limit or None)], "more": more}
