"""Every combination of order type, time in force and optional fields of a PlaceOrderRequest, and what the contract's comment
says of each: written down here a second time, as sets of names, so that it shares nothing with the engine's check.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, Final, NamedTuple

from ordertape.v1 import matching_engine_pb2 as pb
from ordertape.v1 import order_pb2
from tests.support.engine_bad_input import SOON

LIMIT, MARKET = order_pb2.ORDER_TYPE_LIMIT, order_pb2.ORDER_TYPE_MARKET
STOP, STOP_LIMIT = order_pb2.ORDER_TYPE_STOP, order_pb2.ORDER_TYPE_STOP_LIMIT
BUY, SELL = order_pb2.SIDE_BUY, order_pb2.SIDE_SELL
UNSPECIFIED, GTD = order_pb2.TIME_IN_FORCE_UNSPECIFIED, order_pb2.TIME_IN_FORCE_GTD
IMMEDIATE: Final = (order_pb2.TIME_IN_FORCE_IOC, order_pb2.TIME_IN_FORCE_FOK)

# Amounts beside price: (those that are required, those that are forbidden); qty or quote_qty is a rule of its own.
_AMOUNTS: Final = {
    LIMIT: ({"price", "qty"}, {"quote_qty", "stop_price"}),
    MARKET: (set[str](), {"price", "stop_price"}),
    STOP: ({"stop_price"}, {"price"}),
    STOP_LIMIT: ({"stop_price", "price", "qty"}, {"quote_qty"}),
}
_VALUES: Final[dict[str, Any]] = {"price": "100", "qty": "2", "quote_qty": "50", "stop_price": "90", "expire_time": SOON}


class Combination(NamedTuple):
    """A request, and the fields that the contract has against it, sorted, each as often as a rule names it."""

    request: pb.PlaceOrderRequest
    fields: list[str]


def every_combination(user_id: str) -> Iterator[Combination]:
    """All of them, the allowed ones too."""
    given = [[name for name, there in zip(_VALUES, which, strict=True) if there] for which in product((0, 1), repeat=5)]
    for order_type, time_in_force, side, names, display_qty, post_only in product(
        _AMOUNTS, order_pb2.TimeInForce.values(), (BUY, SELL), given, (None, "1", "2", "3"), (False, True)
    ):
        request = pb.PlaceOrderRequest(
            user_id=user_id, symbol="BTC-USD", side=side, order_type=order_type, time_in_force=time_in_force,
            post_only=post_only, display_qty=display_qty, **{name: _VALUES[name] for name in names},
        )  # fmt: skip
        yield Combination(request, sorted(_wrong(request, set(names))))


def _wrong(request: pb.PlaceOrderRequest, given: set[str]) -> Iterator[str]:
    kind = request.order_type
    immediate = request.time_in_force in IMMEDIATE or (kind == MARKET and request.time_in_force == UNSPECIFIED)
    required, forbidden = _AMOUNTS[kind]
    yield from required - given
    yield from forbidden & given
    if kind in (MARKET, STOP):
        if len({"qty", "quote_qty"} & given) != 1:
            yield "qty"
        if "quote_qty" in given and request.side == SELL:
            yield "quote_qty"
    if kind != LIMIT and immediate != (kind == MARKET):
        yield "time_in_force"
    if ("expire_time" in given) != (request.time_in_force == GTD):
        yield "expire_time"
    may_rest = kind == LIMIT and not immediate
    if request.post_only and not may_rest:
        yield "post_only"
    if request.HasField("display_qty") and (not may_rest or ("qty" in given and request.display_qty > "2")):
        yield "display_qty"
