"""PlaceOrderRequest: which fields go together, checked all at once, and made a command of the core.

A request that passes is left in the one form in which it is journaled and compared: defaults filled in, decimals canonical.
"""

import re
from decimal import Decimal
from typing import Final

from ordertape.v1 import matching_engine_pb2, order_pb2
from services.domain.commands import Place
from services.domain.kinds import OrderType, SelfTradePrevention, Side, TimeInForce
from services.domain.money import canonical
from services.wire.fields import DECIMAL, IDENTIFIER, Violations, is_given, microseconds_of

_CANONICAL_ABOVE_ZERO = re.compile(r"(?!0$)(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{0,17}[1-9])?", re.ASCII)
_IMMEDIATE = (order_pb2.TIME_IN_FORCE_IOC, order_pb2.TIME_IN_FORCE_FOK)
_PLAIN_TIMES = (TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK)
_AMOUNTS = ("price", "qty", "quote_qty", "stop_price", "display_qty")
_SIDES: Final = {int(side): side for side in Side}
_ORDER_TYPES: Final = {int(kind): kind for kind in OrderType}
_TIMES_IN_FORCE: Final = {int(time): time for time in TimeInForce}
_PREVENTIONS: Final = {int(mode): mode for mode in SelfTradePrevention}


def place_command(request: matching_engine_pb2.PlaceOrderRequest, path: str = "") -> Place:
    """Check a place and fill in its defaults. Raises CallError INVALID_ARGUMENT with every rule that it breaks."""
    if request.time_in_force == 0:
        market = request.order_type == order_pb2.ORDER_TYPE_MARKET
        request.time_in_force = order_pb2.TIME_IN_FORCE_IOC if market else order_pb2.TIME_IN_FORCE_GTC
    if request.self_trade_prevention == 0:
        request.self_trade_prevention = order_pb2.SELF_TRADE_PREVENTION_NONE
    plain = _plain_limit(request)
    if plain is not None:
        return plain
    _check(request, Violations(path))
    price, qty, quote_qty, stop_price, display_qty = _canonical_amounts(request)
    expire_time = None
    if request.HasField("expire_time"):
        request.expire_time.nanos -= request.expire_time.nanos % 1000
        expire_time = microseconds_of(request.expire_time)
    return Place(
        request.user_id,
        request.client_order_id if request.HasField("client_order_id") else None,
        request.symbol,
        _SIDES[request.side],
        _ORDER_TYPES[request.order_type],
        _TIMES_IN_FORCE[request.time_in_force],
        price,
        qty,
        quote_qty,
        request.post_only,
        _PREVENTIONS[request.self_trade_prevention],
        stop_price,
        display_qty,
        expire_time,
    )


def _plain_limit(request: matching_engine_pb2.PlaceOrderRequest) -> Place | None:
    """The command of a plain LIMIT order with nothing to mend, which nearly all are and which needs no closer look; None for any
    other, be it right or wrong.
    """
    has = request.HasField
    if (
        request.order_type != order_pb2.ORDER_TYPE_LIMIT
        or has("quote_qty")
        or has("stop_price")
        or has("display_qty")
        or has("expire_time")
    ):
        return None
    user_id, symbol, price, qty = request.user_id, request.symbol, request.price, request.qty
    client_order_id = request.client_order_id if has("client_order_id") else None
    side, time_in_force = _SIDES.get(request.side), _TIMES_IN_FORCE.get(request.time_in_force)
    prevention, post_only = _PREVENTIONS.get(request.self_trade_prevention), request.post_only
    if (
        side is None
        or prevention is None
        or time_in_force not in _PLAIN_TIMES
        or (post_only and time_in_force != TimeInForce.GTC)
        or not _CANONICAL_ABOVE_ZERO.fullmatch(price)
        or not _CANONICAL_ABOVE_ZERO.fullmatch(qty)
        or not IDENTIFIER.fullmatch(user_id)
        or not IDENTIFIER.fullmatch(symbol)
        or not (client_order_id is None or IDENTIFIER.fullmatch(client_order_id))
    ):
        return None
    return Place(user_id, client_order_id, symbol, side, OrderType.LIMIT, time_in_force, price, qty, None, post_only, prevention)


def _check(request: matching_engine_pb2.PlaceOrderRequest, violations: Violations) -> None:
    violations.identifier("user_id", request.user_id)
    if request.HasField("client_order_id"):
        violations.identifier("client_order_id", request.client_order_id)
    violations.identifier("symbol", request.symbol)
    violations.enum("side", request.side, order_pb2.Side)
    violations.enum("order_type", request.order_type, order_pb2.OrderType)
    violations.enum("time_in_force", request.time_in_force, order_pb2.TimeInForce)
    violations.enum("self_trade_prevention", request.self_trade_prevention, order_pb2.SelfTradePrevention)
    for name in _AMOUNTS:
        if is_given(request, name):
            violations.amount(name, getattr(request, name))
    _check_expiry(request, violations)
    _check_shape(request, violations)
    _check_display(request, violations)
    violations.raise_if_any()


def _check_expiry(request: matching_engine_pb2.PlaceOrderRequest, violations: Violations) -> None:
    is_gtd = request.time_in_force == order_pb2.TIME_IN_FORCE_GTD
    if request.HasField("expire_time"):
        violations.instant("expire_time", request.expire_time)
        if not is_gtd:
            violations.add("expire_time", "goes with GTD alone")
    elif is_gtd:
        violations.add("expire_time", "is required for GTD")


class _Shape:
    """Which amounts an order type has, and when it may be in force."""

    def __init__(self, *, has: tuple[str, ...], not_has: tuple[str, ...], qty_or_money: bool, immediate: bool | None) -> None:
        self.has = has
        self.not_has = not_has
        self.qty_or_money = qty_or_money
        self.immediate = immediate


_SHAPES: Final = {
    order_pb2.ORDER_TYPE_LIMIT: _Shape(
        has=("price", "qty"), not_has=("quote_qty", "stop_price"), qty_or_money=False, immediate=None
    ),
    order_pb2.ORDER_TYPE_MARKET: _Shape(has=(), not_has=("price", "stop_price"), qty_or_money=True, immediate=True),
    order_pb2.ORDER_TYPE_STOP: _Shape(has=("stop_price",), not_has=("price",), qty_or_money=True, immediate=False),
    order_pb2.ORDER_TYPE_STOP_LIMIT: _Shape(
        has=("stop_price", "price", "qty"), not_has=("quote_qty",), qty_or_money=False, immediate=False
    ),
}


def _check_shape(request: matching_engine_pb2.PlaceOrderRequest, violations: Violations) -> None:
    shape = _SHAPES.get(request.order_type)
    if shape is None:
        return
    kind = OrderType(request.order_type).name
    for name in shape.has:
        if not is_given(request, name):
            violations.add(name, f"is required for {kind}")
    for name in shape.not_has:
        if is_given(request, name):
            violations.add(name, f"does not go with {kind}")
    if shape.qty_or_money:
        if request.HasField("qty") == request.HasField("quote_qty"):
            violations.add("qty", f"exactly one of qty and quote_qty is required for {kind}")
        if request.HasField("quote_qty") and request.side == order_pb2.SIDE_SELL:
            violations.add("quote_qty", "goes with BUY alone")
    known = _TIMES_IN_FORCE.get(request.time_in_force)
    if known is not None and shape.immediate is not None and (request.time_in_force in _IMMEDIATE) != shape.immediate:
        allowed = "IOC or FOK" if shape.immediate else "GTC, GTD or DAY"
        violations.add("time_in_force", f"must be {allowed} for {kind}, is {known.name}")


def _check_display(request: matching_engine_pb2.PlaceOrderRequest, violations: Violations) -> None:
    """post_only and display_qty are for LIMIT orders that may rest."""
    rests = request.order_type == order_pb2.ORDER_TYPE_LIMIT and request.time_in_force not in _IMMEDIATE
    if request.post_only and not rests:
        violations.add("post_only", "goes with LIMIT and GTC, GTD or DAY alone")
    if not request.HasField("display_qty"):
        return
    if not rests:
        violations.add("display_qty", "goes with LIMIT and GTC, GTD or DAY alone")
    elif _are_decimals(request.display_qty, request.qty) and Decimal(request.display_qty) > Decimal(request.qty):
        violations.add("display_qty", f"must be at most qty ({request.qty}), is {request.display_qty}")


def _are_decimals(*texts: str) -> bool:
    return all(DECIMAL.fullmatch(text) for text in texts)


def _canonical_amounts(request: matching_engine_pb2.PlaceOrderRequest) -> list[str | None]:
    texts: list[str | None] = []
    for name in _AMOUNTS:
        text = canonical(getattr(request, name)) if is_given(request, name) else None
        if text is not None:
            setattr(request, name, text)
        texts.append(text)
    return texts
