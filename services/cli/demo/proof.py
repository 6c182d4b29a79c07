"""The proof at the demo's end: what the history stored, the engine's book and the balances, each compared with what the venue's
recording says. Everything is read back through the services; nothing is taken from what the sender remembers.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_pb2
from services.cli.client import Engine, History
from services.cli.demo.checks import Check
from services.cli.demo.flow import Cancel, Flow, canonical
from services.cli.demo.replay import ASKS, BIDS
from services.cli.following import follow
from services.cli.paging import pages
from services.wire.position import decode_position

BOOK_LEVELS = 500

# What a trade is compared by: buyer's and seller's venue id, price, size.
TradeKey = tuple[str, str, Decimal, Decimal]


@dataclass(slots=True)
class StoredOrders:
    """One user's orders as the history lists them, and all of their updates as it streams them again."""

    user_id: str
    latest: dict[int, order_pb2.OrderUpdate] = field(default_factory=dict)
    updates: int = 0
    fills: list[tuple[order_pb2.Fill, str]] = field(default_factory=list)  # with the order's venue id


def prove(
    engine: Engine, history: History, symbol: str, flow: Flow, funds: dict[tuple[str, str], Decimal], after: str, position: str
) -> list[Check]:
    """Every check. ``after`` is the position before the first order, ``position`` the one after the last; ``funds`` what each
    user was given of each asset. Raises Failure where a service does not answer.
    """
    orders, updates, fills = Check("orders stored"), Check("updates stored"), Check("fills stored")
    stored = [_stored(history, user_id, after, position, updates) for user_id in (BIDS, ASKS)]
    statuses = _final_statuses(flow)
    orders.count(len(statuses), sum(len(user.latest) for user in stored))
    # One update says NEW or REJECTED, one ends a cancelled order, and each trade makes one on either side.
    updates.count(len(statuses) + len(flow.cancels) + 2 * len(flow.trades), sum(user.updates for user in stored))
    _check_fills(fills, history, stored, 2 * len(flow.trades), position)
    return [
        _check_trades(flow, stored),
        _check_statuses(statuses, stored),
        _check_open_orders(history, flow, position),
        _check_levels(engine, symbol, flow),
        orders,
        updates,
        fills,
        _check_balances(engine, flow, funds),
    ]


def _stored(history: History, user_id: str, after: str, position: str, check: Check) -> StoredOrders:
    """Reads the user's orders page by page, then streams every update since ``after`` and holds the one against the other."""
    user = StoredOrders(user_id)
    request = history_pb2.ListOrderHistoryRequest(user_id=user_id, at_least=position)
    for page in pages(history, history.orders.ListOrderHistory, request):
        for order in page.orders:
            if order.order_id in user.latest:
                check.differ(f"order {order.order_id} of {user_id} is listed twice")
            user.latest[order.order_id] = order
    # Each order counts its updates from 1, so its newest tells how many there are in all.
    expected = sum(order.update_number for order in user.latest.values())
    streamed: dict[int, int] = {}
    watch = history_pb2.WatchOrdersRequest(user_id=user_id, after=after)
    for news in follow(history, watch, patience_seconds=history.retry_seconds):
        for update in news.orders:
            user.updates += 1
            if update.user_update_number != user.updates:
                check.differ(f"update {user.updates} of {user_id} has user_update_number {update.user_update_number}")
            if update.update_number != streamed.get(update.order_id, 0) + 1:
                check.differ(f"order {update.order_id} of {user_id} jumps to update {update.update_number}")
            streamed[update.order_id] = update.update_number
            if update.HasField("fill"):
                user.fills.append((update.fill, update.client_order_id))
        if user.updates >= expected:
            break
        if _reached(news.position, position):
            check.differ(f"the stream of {user_id} has {user.updates} updates where the orders count {expected}")
            break
    if streamed != {order_id: order.update_number for order_id, order in user.latest.items()}:
        check.differ(f"the orders of {user_id} do not stand as their last streamed updates say")
    return user


def _check_trades(flow: Flow, stored: list[StoredOrders]) -> Check:
    """Both sides' fills joined by trade_id, in the order of the trade ids, against the venue's trades in theirs."""
    check = Check("trades")
    sides: defaultdict[int, dict[str, tuple[order_pb2.Fill, str]]] = defaultdict(dict)
    for user in stored:
        for fill, venue_id in user.fills:
            sides[fill.trade_id][user.user_id] = (fill, venue_id)
    actual: list[TradeKey | str] = []
    for trade_id, side in sorted(sides.items()):
        if set(side) != {BIDS, ASKS}:
            actual.append(f"trade {trade_id} with one side only")
            continue
        (bought, buy_id), (sold, sell_id) = side[BIDS], side[ASKS]
        if (bought.price, bought.qty) != (sold.price, sold.qty):
            check.differ(f"the two sides of trade {trade_id} differ")
        actual.append((buy_id, sell_id, Decimal(bought.price), Decimal(bought.qty)))
    for index, trade in enumerate(flow.trades):
        came = actual[index] if index < len(actual) else "none"
        check.compare(f"trade {index + 1}", (trade.buy_id, trade.sell_id, trade.price, trade.qty), came)
    for extra in actual[len(flow.trades) :]:
        check.differ(f"a trade that the venue does not know: {extra}")
    return check


def _final_statuses(flow: Flow) -> dict[str, "order_pb2.OrderStatus.ValueType"]:
    """How each order must stand at the end, by the venue's id."""
    cancelled = {item.venue_id for item in flow.items if isinstance(item, Cancel)}
    statuses: dict[str, order_pb2.OrderStatus.ValueType] = {}
    for place in flow.places:
        still_open = flow.open_orders.get(place.venue_id)
        if place.refused:
            status = order_pb2.ORDER_STATUS_REJECTED
        elif place.venue_id in cancelled:
            status = order_pb2.ORDER_STATUS_CANCELLED
        elif still_open is None:
            status = order_pb2.ORDER_STATUS_FILLED
        elif place.qty is not None and still_open.leaves == Decimal(place.qty):
            status = order_pb2.ORDER_STATUS_NEW
        else:
            status = order_pb2.ORDER_STATUS_PARTIALLY_FILLED
        statuses[place.venue_id] = status
    return statuses


def _check_statuses(statuses: dict[str, "order_pb2.OrderStatus.ValueType"], stored: list[StoredOrders]) -> Check:
    check = Check("final status of each order")
    actual = {order.client_order_id: order.status for user in stored for order in user.latest.values()}
    name = order_pb2.OrderStatus.Name
    for venue_id, status in statuses.items():
        came = actual.get(venue_id)
        check.compare(venue_id, name(status), "no order" if came is None else name(came))
    return check


def _check_open_orders(history: History, flow: Flow, position: str) -> Check:
    """Every order that is open at the end: side, price and what is left of it."""
    check = Check("orders in the book")
    actual: dict[str, tuple[str, str, str]] = {}
    for user_id in (BIDS, ASKS):
        request = history_pb2.ListActiveOrdersRequest(user_id=user_id, at_least=position)
        for page in pages(history, history.orders.ListActiveOrders, request):
            for order in page.orders:
                actual[order.client_order_id] = (user_id, order.price, order.leaves_qty)
    for venue_id, left in flow.open_orders.items():
        expected = (BIDS if left.is_bid else ASKS, canonical(left.price), canonical(left.leaves))
        check.compare(venue_id, expected, actual.pop(venue_id, "no open order"))
    for venue_id, came in actual.items():
        check.differ(f"{venue_id} is open and should not be: {came}")
    return check


def _check_levels(engine: Engine, symbol: str, flow: Flow) -> Check:
    """The best levels of the engine's own book: price, size and number of orders."""
    check = Check("book levels")
    book = engine.call(engine.orders.GetOrderBook, engine_pb2.GetOrderBookRequest(symbol=symbol, depth=BOOK_LEVELS))
    for is_bid, levels in ((True, book.bids), (False, book.asks)):
        sums: defaultdict[Decimal, Decimal] = defaultdict(Decimal)
        counts: defaultdict[Decimal, int] = defaultdict(int)
        for order in flow.open_orders.values():
            if order.is_bid is is_bid:
                sums[order.price] += order.leaves
                counts[order.price] += 1
        best = sorted(sums, reverse=is_bid)[:BOOK_LEVELS]
        came = [(level.price, level.qty, level.order_count) for level in levels]
        for index, price in enumerate(best):
            expected = (canonical(price), canonical(sums[price]), counts[price])
            actual = came[index] if index < len(came) else "no level"
            check.compare(f"{'bid' if is_bid else 'ask'} level {index + 1}", expected, actual)
        for extra in came[len(best) :]:
            check.differ(f"a level that the venue does not have: {extra}")
    return check


def _check_fills(check: Check, history: History, stored: list[StoredOrders], expected: int, position: str) -> None:
    """ListFills must list exactly the fills that the updates carried, newest first."""
    listed = 0
    for user in stored:
        request = history_pb2.ListFillsRequest(user_id=user.user_id, at_least=position)
        fills = [line for page in pages(history, history.orders.ListFills, request) for line in page.fills]
        listed += len(fills)
        if [(line.fill, line.client_order_id) for line in reversed(fills)] != user.fills:
            check.differ(f"the fills of {user.user_id} are not those of its updates")
    check.count(expected, listed)


def _check_balances(engine: Engine, flow: Flow, funds: dict[tuple[str, str], Decimal]) -> Check:
    """What each user owns = what it was given + what the venue's trades brought and took; there are no fees."""
    check = Check("balances")
    spent = sum((trade.price * trade.qty for trade in flow.trades), Decimal())
    bought = sum((trade.qty for trade in flow.trades), Decimal())
    changes = {(BIDS, "USD"): -spent, (BIDS, "BTC"): bought, (ASKS, "USD"): spent, (ASKS, "BTC"): -bought}
    for user_id in (BIDS, ASKS):
        response = engine.call(engine.accounts.ListBalances, engine_pb2.ListBalancesRequest(user_id=user_id))
        owned = {line.asset: Decimal(line.available) + Decimal(line.held) for line in response.balances}
        for asset in ("USD", "BTC"):
            expected = funds.get((user_id, asset), Decimal()) + changes[user_id, asset]
            check.compare(f"{asset} of {user_id}", expected, owned.get(asset, Decimal()))
    return check


def _reached(position: str, target: str) -> bool:
    reached, wanted = decode_position(position), decode_position(target)
    return reached.sequence >= wanted.sequence
