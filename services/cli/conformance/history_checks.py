"""What is promised to whoever reads: docs/guarantees.md, each line as a check with traders of its own."""

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from ordertape.v1 import ledger_pb2 as feed_pb2
from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_pb2
from services.cli.conformance.expecting import expect, expect_refusal, line_of
from services.cli.conformance.stage import Stage, Trader

Update = order_pb2.OrderUpdate


def a_life(stage: Stage, trader: Trader, other: Trader) -> tuple[int, list[str]]:
    """An order that is placed, traded with, replaced and cancelled: its number, and the position after each of the four."""
    placed = trader.sell(10)
    order_id = placed.updates[0].order_id
    traded = other.buy(2)
    replaced = trader.replace(order_id, qty=stage.grid.qty(9))
    return order_id, [placed.position, traded.position, replaced.position, trader.cancel(order_id).position]


def every_state_is_there_and_numbered(stage: Stage) -> None:
    """update_number, user_update_number and order_number have no hole."""
    with stage.traders() as (trader, other):
        order_id, _ = a_life(stage, trader, other)
        second = trader.buy(1).updates[0].order_id
        updates = [*trader.timeline(order_id), *trader.timeline(second)]
        expect("update_number", [1, 2, 3, 4, 1], [update.update_number for update in updates])
        expect("user_update_number", [1, 2, 3, 4, 5], [update.user_update_number for update in updates])
        expect("order_number", [1, 1, 1, 1, 2], [update.order_number for update in updates])
        expect("version", [1, 1, 2, 2, 1], [update.version for update in updates])


def you_read_what_you_wrote(stage: Stage) -> None:
    """A write's position as at_least, right after it, twenty times."""
    with stage.traders(1) as (trader,):
        for _ in range(20):
            answer = trader.buy(1)
            update = answer.updates[-1]
            expect("the order that was just placed", update, trader.get(update.order_id, at_least=answer.position))


def the_past_can_be_asked_for(stage: Stage) -> None:
    """GetOrder as of each position, and as of each update's time."""
    with stage.traders() as (trader, other):
        before = stage.position()
        order_id, positions = a_life(stage, trader, other)
        life = trader.timeline(order_id)
        expect("the order as of each position", life, [trader.get(order_id, as_of=position) for position in positions])
        times = [trader.get(order_id, as_of_time=update.timestamp) for update in life]
        expect("the order as of each time", life, times)
        expect_refusal("the order before it was", lambda: trader.get(order_id, as_of=before), "NOT_FOUND", "ORDER_NOT_FOUND")


def the_future_cannot_be_asked_for(stage: Stage) -> None:
    """A time that has not come is INVALID_ARGUMENT."""
    with stage.traders(1) as (trader,):
        order_id = trader.buy(1).updates[0].order_id
        never = Timestamp(seconds=32_503_680_000)
        expect_refusal(
            "the order in the year 3000", lambda: trader.get(order_id, as_of_time=never), "INVALID_ARGUMENT", "INVALID_REQUEST",
            "as_of_time",
        )  # fmt: skip


def lists_are_complete_in_pages(stage: Stage) -> None:
    """ListOrderHistory and ListOrderUpdates in pages of one are what they are in one page; ListActiveOrders has what is open."""
    with stage.traders() as (trader, other):
        order_id, _ = a_life(stage, trader, other)
        still_open = [trader.buy(1, -1).updates[0].order_id for _ in range(2)]
        expect("the timeline in pages of one", trader.timeline(order_id), trader.timeline(order_id, page_size=1))
        orders = [[update.order_id for update in _history(stage, trader, size)] for size in (1, 500)]
        expect("the orders in pages of one, newest first", [*reversed(still_open), order_id], orders[0])
        expect("the orders in one page", orders[0], orders[1])
        request = history_pb2.ListActiveOrdersRequest(user_id=trader.user_id, at_least=stage.position())
        active = stage.history.ListActiveOrders(request, timeout=stage.timeout_seconds).orders
        expect("the open orders, newest first", [*reversed(still_open)], [update.order_id for update in active])


def _history(stage: Stage, trader: Trader, page_size: int) -> list[Update]:
    request = history_pb2.ListOrderHistoryRequest(user_id=trader.user_id, page_size=page_size, at_least=stage.position())
    found: list[Update] = []
    while True:
        page = stage.history.ListOrderHistory(request, timeout=stage.timeout_seconds)
        found += page.orders
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def every_fill_is_listed(stage: Stage) -> None:
    """ListFills has one for each of the user's sides of a trade, newest first."""
    with stage.traders() as (trader, other):
        order_id = trader.sell(10).updates[0].order_id
        for units in (1, 2, 3):
            other.buy(units)
        request = history_pb2.ListFillsRequest(user_id=trader.user_id, at_least=stage.position())
        fills = stage.history.ListFills(request, timeout=stage.timeout_seconds).fills
        expect("the fills' qty", [stage.grid.qty(units) for units in (3, 2, 1)], [each.fill.qty for each in fills])
        timeline = [update.fill for update in trader.timeline(order_id) if update.HasField("fill")]
        expect("the fills of the timeline", [each.fill for each in reversed(fills)], timeline)


def a_watch_begins_with_what_is_open(stage: Stage) -> None:
    """A snapshot in whole, then what happens."""
    with stage.traders() as (trader, other):
        order_id = trader.sell(10).updates[0].order_id
        trader.cancel(trader.buy(1, -1).updates[0].order_id)
        trader.get(order_id)  # the history is there now
        request = history_pb2.WatchOrdersRequest(user_id=trader.user_id)
        call = stage.history.WatchOrders(request, timeout=stage.timeout_seconds)
        shown, told = list[int](), list[str]()
        for message in call:
            shown += [order.order_id for order in message.snapshot.orders]
            if message.snapshot.last_page:
                expect("a position with the last page", True, bool(message.position))
                other.buy(2)
            told += [line_of(update) for update in message.updates.updates]
            if told:
                break
        call.cancel()
        expect("the snapshot", [order_id], shown)
        expect("what came then", [f"TRADE PARTIALLY_FILLED {stage.grid.qty(2)} {stage.grid.qty(8)}"], told)


def a_watch_resumes_after_any_position(stage: Stage) -> None:
    """From before the first order, and again after each position that it gave: ordered, unique, complete."""
    with stage.traders() as (trader, other):
        begin = stage.position()
        order_id, _ = a_life(stage, trader, other)
        whole = trader.timeline(order_id)
        heard = watched(stage, trader, begin, whole[-1].sequence)
        expect("the updates of a watch from the beginning", whole, [update for updates, _ in heard for update in updates])
        for number, (updates, position) in enumerate(heard[:-1], start=1):
            rest = [update for later, _ in heard[number:] for update in later]
            again = watched(stage, trader, position, whole[-1].sequence) if updates else heard[number:]
            expect("the updates of a watch that resumes", rest, [update for later, _ in again for update in later])


def watched(stage: Stage, trader: Trader, after: str, last_sequence: int) -> list[tuple[Sequence[Update], str]]:
    """What a watch tells up to the update with this sequence, each with the position after it."""
    request = history_pb2.WatchOrdersRequest(user_id=trader.user_id, after=after)
    call = stage.history.WatchOrders(request, timeout=stage.timeout_seconds)
    heard, pending = list[tuple[Sequence[Update], str]](), list[Update]()
    for message in call:
        pending += message.updates.updates
        if message.position:
            heard.append((pending, message.position))
            if pending and pending[-1].sequence >= last_sequence:
                break
            pending = []
    call.cancel()
    return heard


def an_export_is_everything_up_to_its_end(stage: Stage) -> None:
    """All updates in ledger order; it ends by itself, at the position that it named at its beginning."""
    with stage.traders() as (trader, other):
        order_id, positions = a_life(stage, trader, other)
        second = trader.buy(1).updates[0]
        request = history_pb2.ExportOrderHistoryRequest(user_id=trader.user_id, at_least=stage.position())
        messages = list(stage.history.ExportOrderHistory(request, timeout=stage.timeout_seconds))
        whole = [*trader.timeline(order_id), second]
        expect("the updates", whole, [update for message in messages for update in message.updates])
        expect("where it ends", messages[-1].until, messages[-1].position)
        resumed = history_pb2.ExportOrderHistoryRequest(user_id=trader.user_id, after=positions[1], until=messages[-1].until)
        rest = list(stage.history.ExportOrderHistory(resumed, timeout=stage.timeout_seconds))
        expect("the updates after the second position", whole[2:], [update for message in rest for update in message.updates])


def the_history_is_well(stage: Stage) -> None:
    """GetHistoryStatus: of the engine's ledger, not halted, and not behind a position that it was asked for."""
    ledger = stage.ledger.GetLedgerStatus(feed_pb2.GetLedgerStatusRequest(), timeout=stage.timeout_seconds)
    request = history_pb2.GetHistoryStatusRequest(at_least=stage.position())
    status = stage.history.GetHistoryStatus(request, timeout=stage.timeout_seconds)
    expect("halt_reason", "", status.halt_reason)
    expect("its ledger", ledger.ledger_id, status.ledger_id)
    expect("applied at least what was asked for", True, status.applied_sequence >= ledger.durable_sequence)
