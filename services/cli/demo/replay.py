"""Sends the flow through SubmitOrders and compares each answer with what the venue did. One message is under way at a time, since
the order of the items is the order of the market and only a finished call says that it came first.

A message whose answer was lost is sent again as it was: each place carries the venue's id as client_order_id, and each cancel
one made from it as request_id, so what was booked already gives its first answer again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import grpc

from ordertape.client.attempts import pauses
from ordertape.client.errors import error_of
from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import order_pb2
from services.cli.client import Engine, failure_of
from services.cli.demo.checks import Check
from services.cli.demo.flow import Cancel, Place
from services.cli.failures import GRPC_BASE, Failure

BIDS, ASKS = "bids", "asks"
ITEMS_PER_MESSAGE_MAX = 500
# The ways in which an answer goes missing; anything else is an answer.
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
_UNAVAILABLE: int = grpc.StatusCode.UNAVAILABLE.value[0]


@dataclass(slots=True)
class Replay:
    """What came of sending the flow: comparisons with the venue, and figures."""

    refused: Check = field(default_factory=lambda: Check("post-only orders refused"))
    remaining: Check = field(default_factory=lambda: Check("remaining size at cancel"))
    accepted: Check = field(default_factory=lambda: Check("other orders accepted"))
    position: str = ""
    seconds: float = 0.0
    items: int = 0
    messages: int = 0
    repeats: int = 0  # messages that were sent again because their answer was lost
    replayed: int = 0  # answers that were given before, to an earlier sending


@dataclass(frozen=True, slots=True)
class Sending:
    """How to send: items a message, times real time (None: as fast as it goes), and how long to wait for a lost engine."""

    symbol: str
    items_per_message: int = 100
    speed: float | None = None
    patience_seconds: float = 60.0
    while_away: Callable[[], None] = lambda: None  # asked before each new attempt; raises Failure where there is no hope


def send(
    engine: Engine,
    items: Sequence[Place | Cancel],
    sending: Sending,
    progress: Callable[[int], None],
) -> Replay:
    """Send all items in their order; ``progress`` is told how many more are done. Raises Failure where the engine stays away."""
    replay = Replay()
    begun = time.monotonic()
    for chunk in _paced(items, sending, begun):
        request = engine_pb2.SubmitOrdersRequest(items=[_item(item, sending.symbol) for item in chunk])
        response = _submit(engine, request, sending, replay)
        replay.messages += 1
        replay.position = response.position or replay.position
        for item, result in zip(chunk, response.results, strict=True):
            replay.replayed += result.replayed
            if isinstance(item, Place):
                _compare_place(replay, item, result)
            else:
                _compare_cancel(replay, item, result)
        replay.items += len(chunk)
        progress(len(chunk))
    replay.seconds = time.monotonic() - begun
    return replay


def _paced(items: Sequence[Place | Cancel], sending: Sending, begun: float) -> Iterator[Sequence[Place | Cancel]]:
    """The items in messages: as many as are due by now, never more than ``items_per_message``."""
    at = 0
    while at < len(items):
        end = min(at + sending.items_per_message, len(items))
        if sending.speed is not None:
            wait_seconds = begun + items[at].at_ms / 1000 / sending.speed - time.monotonic()
            if wait_seconds > 0:
                time.sleep(wait_seconds)
            now_ms = (time.monotonic() - begun) * 1000 * sending.speed
            end = next((index for index in range(at + 1, end) if items[index].at_ms > now_ms), end)
        yield items[at:end]
        at = end


def _submit(
    engine: Engine, request: engine_pb2.SubmitOrdersRequest, sending: Sending, replay: Replay
) -> engine_pb2.SubmitOrdersResponse:
    """The answer to the message, sent again as it is while the engine is away."""
    deadline = time.monotonic() + sending.patience_seconds
    for pause in pauses():
        failure: Failure | None = None
        try:
            response = engine.orders.SubmitOrders(request, timeout=engine.timeout_seconds)
        except grpc.RpcError as error:
            failure = failure_of(error_of(error), engine.address)
            if error.code() not in _LOST:
                raise failure from error
        if failure is None and not any(result.error.code == _UNAVAILABLE for result in response.results):
            return response
        if time.monotonic() + pause > deadline:
            raise failure or Failure(GRPC_BASE + _UNAVAILABLE, "the engine went on answering UNAVAILABLE to some items")
        sending.while_away()
        replay.repeats += 1
        time.sleep(pause)
    raise AssertionError("pauses never end")


def user_of(item: Place | Cancel) -> str:
    """All bids are one user's orders, all asks another's."""
    return BIDS if item.is_bid else ASKS


def _item(item: Place | Cancel, symbol: str) -> engine_pb2.SubmitOrdersItem:
    if isinstance(item, Cancel):
        cancel = engine_pb2.CancelOrderRequest(
            user_id=user_of(item), request_id=f"cancel-{item.venue_id}", client_order_id=item.venue_id
        )
        return engine_pb2.SubmitOrdersItem(cancel=cancel)
    place = engine_pb2.PlaceOrderRequest(
        user_id=user_of(item),
        client_order_id=item.venue_id,
        symbol=symbol,
        side=order_pb2.SIDE_BUY if item.is_bid else order_pb2.SIDE_SELL,
        order_type=order_pb2.ORDER_TYPE_LIMIT if item.price else order_pb2.ORDER_TYPE_MARKET,
        price=item.price,
        qty=item.qty,
        quote_qty=item.quote_qty,
        post_only=item.post_only,
    )
    return engine_pb2.SubmitOrdersItem(place=place)


def _compare_place(replay: Replay, place: Place, result: engine_pb2.SubmitOrdersResult) -> None:
    if result.HasField("error"):
        outcome = _error_text(result.error)
    else:
        update = result.updates[-1]
        outcome = order_pb2.RejectReason.Name(update.reject_reason) if update.HasField("reject_reason") else "accepted"
    if place.refused:
        replay.refused.compare(place.venue_id, "REJECT_REASON_POST_ONLY_WOULD_TAKE", outcome)
    else:
        replay.accepted.compare(place.venue_id, "accepted", outcome)


def _compare_cancel(replay: Replay, cancel: Cancel, result: engine_pb2.SubmitOrdersResult) -> None:
    if result.HasField("error"):
        replay.remaining.compare(cancel.venue_id, cancel.remaining, _error_text(result.error))
    else:
        update = result.updates[-1]
        replay.remaining.compare(cancel.venue_id, cancel.remaining, Decimal(update.qty) - Decimal(update.filled_qty))


def _error_text(error: engine_pb2.ItemError) -> str:
    return f"error {error.code}: {error.message}"
