"""What clients can get wrong in one message that changes orders, ends many, opens a session or controls the exchange."""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import Message

from ordertape.v1 import instrument_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from tests.support.engine_bad_input import (
    NO_AMOUNTS,
    NO_IDENTIFIERS,
    UNKNOWN_NUMBERS,
    BadRequest,
    each_value,
    without,
)
from tests.support.engine_exchange import BTC_USD

HALTED, SUSPENDED = instrument_pb2.TRADING_STATUS_HALTED, instrument_pb2.USER_STATUS_SUSPENDED
REPLACE: Final[dict[str, Any]] = {"user_id": "a", "request_id": "never-used", "order_id": 1, "price": "100"}
MASS_CANCEL: Final[dict[str, Any]] = {"user_id": "a", "request_id": "never-used"}
HALT: Final[dict[str, Any]] = {"symbol": "BTC-USD", "status": HALTED, "request_id": "never-used"}
SUSPEND: Final[dict[str, Any]] = {"user_id": "a", "status": SUSPENDED, "request_id": "never-used"}
FORCE_CANCEL: Final[dict[str, Any]] = {"order_id": 1, "request_id": "never-used"}
INSTRUMENT: Final = {"instrument": instrument_pb2.Instrument(**BTC_USD), "request_id": "never-used"}
TOO_MANY_WORDS: Final = "\u00e4" * 1001


def bad_replaces() -> Iterator[BadRequest]:
    """ReplaceOrder."""
    kind = pb.ReplaceOrderRequest
    for name in ("user_id", "request_id"):
        yield from each_value(kind, REPLACE, name, NO_IDENTIFIERS)
    yield from each_value(kind, without(REPLACE, "order_id"), "client_order_id", NO_IDENTIFIERS)
    for name in ("price", "qty", "stop_price", "display_qty"):
        yield from each_value(kind, REPLACE, name, NO_AMOUNTS)
    for number in (0, -1, -(1 << 63)):
        yield BadRequest(f"order_id {number}", kind(**REPLACE | {"order_id": number}), ["order_id"])
        yield BadRequest(f"version {number}", kind(**REPLACE | {"expected_version": number}), ["expected_version"])
    yield BadRequest("no user_id", kind(**without(REPLACE, "user_id")), ["user_id"])
    yield BadRequest("no order", kind(**without(REPLACE, "order_id")), ["order"])
    yield BadRequest("no new term", kind(**without(REPLACE, "price")), ["price"])
    yield BadRequest("a version and no new term", kind(**without(REPLACE, "price"), expected_version=1), ["price"])
    yield BadRequest("nothing", kind(), ["user_id", "order", "price"])
    everything = kind(
        user_id="a b", request_id="", order_id=0, price="-1", qty="", stop_price="0", display_qty="x", expected_version=0
    )
    fields = ["user_id", "request_id", "order_id", "price", "qty", "stop_price", "display_qty", "expected_version"]
    yield BadRequest("everything", everything, fields)


def bad_mass_cancels() -> Iterator[BadRequest]:
    """CancelOrders."""
    kind = pb.CancelOrdersRequest
    for name in ("user_id", "request_id"):
        yield from each_value(kind, MASS_CANCEL, name, NO_IDENTIFIERS)
    for why, value in NO_IDENTIFIERS.items():
        yield BadRequest(f"symbols: {why}", kind(**MASS_CANCEL, symbols=["BTC-USD", value]), ["symbols[1]"])
    for number in UNKNOWN_NUMBERS:
        yield BadRequest(f"side {number}", kind(**MASS_CANCEL, side=number), ["side"])  # type: ignore[arg-type]
    yield BadRequest("101 symbols", kind(**MASS_CANCEL, symbols=["BTC-USD"] * 101), ["symbols"])
    yield BadRequest("nothing", kind(), ["user_id"])
    yield BadRequest("a dry run of nothing", kind(dry_run=True), ["user_id"])
    everything = kind(user_id="", request_id="a b", symbols=["", "\n"], side=99, dry_run=True)  # type: ignore[arg-type]
    yield BadRequest("everything", everything, ["user_id", "request_id", "symbols[0]", "symbols[1]", "side"])


def bad_sessions() -> Iterator[BadRequest]:
    """The first message of an OrderSession as a whole; each item is checked like a call of its own."""
    kind, wish = pb.OrderSessionRequest, pb.CancelOnDisconnect
    user, grace = "cancel_on_disconnect.user_id", "cancel_on_disconnect.grace_seconds"
    item = pb.SubmitOrdersItem(cancel=pb.CancelOrderRequest(user_id="a", order_id=1))
    yield BadRequest("501 items", kind(items=[item] * 501), ["items"])
    for why, value in NO_IDENTIFIERS.items():
        yield BadRequest(f"user_id: {why}", kind(cancel_on_disconnect=wish(user_id=value)), [user])
    for seconds in (-1, 3601, -(1 << 31), (1 << 31) - 1):
        yield BadRequest(f"grace {seconds}", kind(cancel_on_disconnect=wish(user_id="a", grace_seconds=seconds)), [grace])
    everything = kind(items=[item] * 501, cancel_on_disconnect=wish(grace_seconds=-1))
    yield BadRequest("everything", everything, ["items", user, grace])


def bad_controls() -> Iterator[BadRequest]:
    """SetTradingStatus, SetUserStatus and ForceCancelOrder."""
    plain: list[tuple[type[Message], dict[str, Any], list[str]]] = [
        (pb.SetTradingStatusRequest, HALT, ["symbol"]),
        (pb.SetUserStatusRequest, SUSPEND, ["user_id"]),
        (pb.ForceCancelOrderRequest, FORCE_CANCEL, []),
    ]
    for kind, fields, names in plain:
        for name in [*names, "request_id"]:
            yield from each_value(kind, fields, name, NO_IDENTIFIERS)
        for name in fields:
            yield BadRequest(f"no {name}", kind(**without(fields, name)), [name])
        yield BadRequest("too many words", kind(**fields, reason_text=TOO_MANY_WORDS), ["reason_text"])
        yield BadRequest("nothing", kind(), list(fields))
        if "status" in fields:
            for number in UNKNOWN_NUMBERS:
                yield BadRequest(f"status {number}", kind(**fields | {"status": number}), ["status"])
        wrong = {name: -1 if name in ("status", "order_id") else "a b" for name in fields}
        everything = kind(**wrong, reason_text=TOO_MANY_WORDS)
        yield BadRequest("everything", everything, [*list(fields)[:-1], "reason_text", "request_id"])
    for number in (0, -1, -(1 << 63)):
        yield BadRequest(f"order_id {number}", pb.ForceCancelOrderRequest(**FORCE_CANCEL | {"order_id": number}), ["order_id"])
    readmits = SUSPEND | {"status": instrument_pb2.USER_STATUS_ACTIVE, "cancel_open_orders": True}
    yield BadRequest("a cancel of who is readmitted", pb.SetUserStatusRequest(**readmits), ["cancel_open_orders"])


_NAMES: Final = ("symbol", "base_asset", "quote_asset")
_ABOVE_ZERO: Final = ("price_step", "qty_step", "price_min", "price_max", "qty_min", "qty_max")
_FROM_ZERO: Final = ("notional_min", "maker_fee_rate", "taker_fee_rate")
_ZEROS: Final = ("zero", "zero with decimals")


def bad_instruments() -> Iterator[BadRequest]:
    """SetInstrument."""
    for name in _NAMES:
        yield from _each_rule(name, NO_IDENTIFIERS)
    for name in _ABOVE_ZERO:
        yield from _each_rule(name, NO_AMOUNTS)
    for name in (*_FROM_ZERO, "price_band_rate"):
        yield from _each_rule(name, {why: value for why, value in NO_AMOUNTS.items() if why not in _ZEROS})
    yield from each_value(pb.SetInstrumentRequest, INSTRUMENT, "request_id", NO_IDENTIFIERS)
    rules = [f"instrument.{name}" for name in (*_NAMES, *_ABOVE_ZERO, *_FROM_ZERO)]
    yield BadRequest("no instrument", pb.SetInstrumentRequest(request_id="r"), rules)
    yield BadRequest("no request_id", pb.SetInstrumentRequest(**without(INSTRUMENT, "request_id")), ["request_id"])
    yield BadRequest("nothing", pb.SetInstrumentRequest(), [*rules, "request_id"])
    wrong = instrument_pb2.Instrument(**dict.fromkeys((*_NAMES, *_ABOVE_ZERO, *_FROM_ZERO, "price_band_rate"), "\u00e4"))
    everything = pb.SetInstrumentRequest(instrument=wrong, request_id="a b")
    yield BadRequest("everything", everything, [*rules, "instrument.price_band_rate", "request_id"])


def _each_rule(name: str, values: dict[str, str]) -> Iterator[BadRequest]:
    for why, value in values.items():
        instrument = instrument_pb2.Instrument(**BTC_USD | {name: value})
        request = pb.SetInstrumentRequest(instrument=instrument, request_id="never-used")
        yield BadRequest(f"{name}: {why}", request, [f"instrument.{name}"])


def worst_place() -> pb.PlaceOrderRequest:
    """As wrong as an order can be, in as many characters as a violation shows."""
    horror = "\U000e0001" * 100
    names = ("user_id", "client_order_id", "symbol", "price", "qty", "quote_qty", "stop_price", "display_qty")
    enums = ("side", "order_type", "time_in_force", "self_trade_prevention")
    return pb.PlaceOrderRequest(**dict.fromkeys(names, horror), **dict.fromkeys(enums, 99), post_only=True)


def worst_replace() -> pb.ReplaceOrderRequest:
    """As wrong as a replace can be."""
    horror = "\U000e0001" * 100
    names = ("user_id", "request_id", "client_order_id", "price", "qty", "stop_price", "display_qty")
    return pb.ReplaceOrderRequest(**dict.fromkeys(names, horror), expected_version=-1)
