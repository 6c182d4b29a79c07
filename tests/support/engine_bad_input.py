"""What clients can get wrong in one message, call by call, with the fields that the engine has to name."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from ordertape.v1 import ledger_pb2, order_pb2
from ordertape.v1 import matching_engine_pb2 as pb

NO_IDENTIFIERS: Final = {
    "empty": "",
    "too long": "x" * 65,
    "a blank": "a b",
    "a blank at the end": "a ",
    "a line's end": "a\n",
    "a slash": "a/b",
    "NUL": "a\0",
    "an umlaut": "ä",
    "an Arabic digit": "\u0661",
    "an emoji": "\U0001f600",
}
NO_AMOUNTS: Final = {
    "empty": "",
    "a minus": "-1",
    "a plus": "+1",
    "an exponent": "1e3",
    "a large exponent": "1E+3",
    "a blank before": " 1",
    "a blank after": "1 ",
    "a line's end": "1\n",
    "a tab": "\t1",
    "a point at the end": "1.",
    "a point at the beginning": ".5",
    "two points": "1.2.3",
    "a comma": "1,5",
    "thousands": "1,000.5",
    "an underscore": "1_000",
    "hexadecimal": "0x10",
    "a word": "one",
    "not a number": "NaN",
    "infinity": "Infinity",
    "NUL": "1\0",
    "Arabic digits": "\u0661\u0662",
    "wide digits": "\uff11",
    "superscript": "1\u00b2",
    "19 digits": "1234567890123456789",
    "19 decimals": "0.1234567890123456789",
    "a megabyte": "1" * 1_000_000,
    "zero": "0",
    "zero with decimals": "0.000",
}
UNKNOWN_NUMBERS: Final = (99, -1)


class BadRequest(NamedTuple):
    """A request, why it is bad, and every field that has to be named, in order."""

    why: str
    message: Message
    fields: list[str]


LIMIT: Final[dict[str, Any]] = {
    "user_id": "a",
    "client_order_id": "never-used",
    "symbol": "BTC-USD",
    "side": order_pb2.SIDE_BUY,
    "order_type": order_pb2.ORDER_TYPE_LIMIT,
    "price": "100",
    "qty": "1",
}
MARKET: Final = {name: value for name, value in LIMIT.items() if name != "price"} | {"order_type": order_pb2.ORDER_TYPE_MARKET}
CANCEL: Final = {"user_id": "a", "request_id": "never-used", "order_id": 1}
TRANSFER: Final = {"user_id": "a", "asset": "USD", "amount": "1", "request_id": "never-used"}

STOP, STOP_LIMIT = order_pb2.ORDER_TYPE_STOP, order_pb2.ORDER_TYPE_STOP_LIMIT
GTC, IOC, FOK = order_pb2.TIME_IN_FORCE_GTC, order_pb2.TIME_IN_FORCE_IOC, order_pb2.TIME_IN_FORCE_FOK
GTD, DAY = order_pb2.TIME_IN_FORCE_GTD, order_pb2.TIME_IN_FORCE_DAY
SOON: Final = Timestamp(seconds=4_000_000_000)
STOP_ORDER: Final = MARKET | {"order_type": STOP, "stop_price": "90"}
STOP_LIMIT_ORDER: Final = LIMIT | {"order_type": STOP_LIMIT, "stop_price": "90"}


def bad_places() -> Iterator[BadRequest]:
    """PlaceOrder."""
    for name in ("user_id", "symbol", "client_order_id"):
        yield from each_value(pb.PlaceOrderRequest, LIMIT, name, NO_IDENTIFIERS)
    for name in ("user_id", "symbol", "side", "order_type", "price", "qty"):
        yield BadRequest(f"no {name}", pb.PlaceOrderRequest(**without(LIMIT, name)), [name])
    for name in ("price", "qty", "display_qty"):
        yield from each_value(pb.PlaceOrderRequest, LIMIT, name, NO_AMOUNTS)
    yield from each_value(pb.PlaceOrderRequest, without(MARKET, "qty"), "quote_qty", NO_AMOUNTS)
    yield from each_value(pb.PlaceOrderRequest, STOP_ORDER, "stop_price", NO_AMOUNTS)
    for name in ("side", "order_type", "time_in_force", "self_trade_prevention"):
        for number in UNKNOWN_NUMBERS:
            yield BadRequest(f"{name} {number}", pb.PlaceOrderRequest(**LIMIT | {name: number}), [name])
    for why, plain, changes, fields in _COMBINATIONS:
        yield BadRequest(why, pb.PlaceOrderRequest(**plain | changes), fields)
    yield BadRequest("everything", pb.PlaceOrderRequest(**_EVERYTHING), [*_EVERYTHING, "expire_time", "display_qty"])
    yield BadRequest("nothing", pb.PlaceOrderRequest(), ["user_id", "symbol", "side", "order_type"])


_COMBINATIONS: Final[list[tuple[str, dict[str, Any], dict[str, Any], list[str]]]] = [
    ("LIMIT with quote_qty", LIMIT, {"quote_qty": "5"}, ["quote_qty"]),
    ("LIMIT without price and qty", {k: LIMIT[k] for k in ("user_id", "symbol", "side", "order_type")}, {}, ["price", "qty"]),
    ("LIMIT with stop_price", LIMIT, {"stop_price": "5"}, ["stop_price"]),
    ("LIMIT with a bad stop_price", LIMIT, {"stop_price": "x"}, ["stop_price", "stop_price"]),
    ("LIMIT with expire_time", LIMIT, {"expire_time": SOON}, ["expire_time"]),
    ("DAY with expire_time", LIMIT, {"expire_time": SOON, "time_in_force": DAY}, ["expire_time"]),
    ("GTD without expire_time", LIMIT, {"time_in_force": GTD}, ["expire_time"]),
    ("LIMIT with a time that is none", LIMIT, {"expire_time": Timestamp(nanos=-1)}, ["expire_time", "expire_time"]),
    ("GTD with a time that is none", LIMIT, {"time_in_force": GTD, "expire_time": Timestamp(nanos=10**9)}, ["expire_time"]),
    ("GTD beyond the years", LIMIT, {"time_in_force": GTD, "expire_time": Timestamp(seconds=1 << 60)}, ["expire_time"]),
    ("GTD before the years", LIMIT, {"time_in_force": GTD, "expire_time": Timestamp(seconds=-1 << 60)}, ["expire_time"]),
    ("post-only IOC", LIMIT, {"post_only": True, "time_in_force": IOC}, ["post_only"]),
    ("post-only FOK", LIMIT, {"post_only": True, "time_in_force": FOK}, ["post_only"]),
    ("iceberg IOC", LIMIT, {"display_qty": "0.5", "time_in_force": IOC}, ["display_qty"]),
    ("an iceberg that shows more than it has", LIMIT, {"display_qty": "1.0001"}, ["display_qty"]),
    ("an iceberg that shows a bit more than it has", LIMIT, {"display_qty": "1.000000000000000001"}, ["display_qty"]),
    ("MARKET with price", MARKET, {"price": "100"}, ["price"]),
    ("MARKET without an amount", _without_qty := {k: v for k, v in MARKET.items() if k != "qty"}, {}, ["qty"]),
    ("MARKET with both amounts", MARKET, {"quote_qty": "5"}, ["qty"]),
    ("MARKET SELL by money", _without_qty, {"quote_qty": "5", "side": order_pb2.SIDE_SELL}, ["quote_qty"]),
    ("MARKET GTC", MARKET, {"time_in_force": GTC}, ["time_in_force"]),
    ("MARKET DAY", MARKET, {"time_in_force": DAY}, ["time_in_force"]),
    ("MARKET GTD", MARKET, {"time_in_force": GTD, "expire_time": SOON}, ["time_in_force"]),
    ("MARKET with stop_price", MARKET, {"stop_price": "5"}, ["stop_price"]),
    ("post-only MARKET", MARKET, {"post_only": True}, ["post_only"]),
    ("iceberg MARKET", MARKET, {"display_qty": "0.5"}, ["display_qty"]),
    ("all that MARKET forbids", MARKET,
     {"price": "100", "quote_qty": "5", "side": order_pb2.SIDE_SELL, "time_in_force": GTC, "post_only": True},
     ["price", "qty", "quote_qty", "time_in_force", "post_only"]),
    ("STOP without stop_price", MARKET | {"order_type": STOP}, {}, ["stop_price"]),
    ("STOP with price", STOP_ORDER, {"price": "100"}, ["price"]),
    ("STOP IOC", STOP_ORDER, {"time_in_force": IOC}, ["time_in_force"]),
    ("STOP FOK", STOP_ORDER, {"time_in_force": FOK}, ["time_in_force"]),
    ("STOP with both amounts", STOP_ORDER, {"quote_qty": "5"}, ["qty"]),
    ("STOP SELL by money", STOP_ORDER, {"quote_qty": "5", "side": order_pb2.SIDE_SELL, "qty": None}, ["quote_qty"]),
    ("post-only STOP", STOP_ORDER, {"post_only": True}, ["post_only"]),
    ("iceberg STOP", STOP_ORDER, {"display_qty": "0.5"}, ["display_qty"]),
    ("STOP_LIMIT without any amount", {k: LIMIT[k] for k in ("user_id", "symbol", "side")}, {"order_type": STOP_LIMIT},
     ["stop_price", "price", "qty"]),
    ("STOP_LIMIT by money", STOP_LIMIT_ORDER, {"quote_qty": "5"}, ["quote_qty"]),
    ("post-only STOP_LIMIT", STOP_LIMIT_ORDER, {"post_only": True}, ["post_only"]),
    ("iceberg STOP_LIMIT", STOP_LIMIT_ORDER, {"display_qty": "0.5"}, ["display_qty"]),
    ("all that STOP_LIMIT forbids", STOP_LIMIT_ORDER,
     {"quote_qty": "5", "time_in_force": FOK, "expire_time": SOON, "post_only": True, "display_qty": "2"},
     ["expire_time", "quote_qty", "time_in_force", "post_only", "display_qty"]),
]  # fmt: skip

# Each field is wrong in itself, so that nothing else can be.
_EVERYTHING: Final[dict[str, Any]] = {
    "user_id": "a b",
    "client_order_id": "",
    "symbol": "x" * 65,
    "side": 99,
    "order_type": 99,
    "time_in_force": 99,
    "self_trade_prevention": 99,
    "price": "-1",
    "qty": "1e3",
    "quote_qty": "0",
    "stop_price": "1.",
    "display_qty": ".1",
    "expire_time": Timestamp(nanos=-1),
}


def bad_cancels() -> Iterator[BadRequest]:
    """CancelOrder."""
    for name in ("user_id", "request_id"):
        yield from each_value(pb.CancelOrderRequest, CANCEL, name, NO_IDENTIFIERS)
    yield from each_value(pb.CancelOrderRequest, without(CANCEL, "order_id"), "client_order_id", NO_IDENTIFIERS)
    for number in (0, -1, -(1 << 63)):
        yield BadRequest(f"order_id {number}", pb.CancelOrderRequest(**CANCEL | {"order_id": number}), ["order_id"])
    yield BadRequest("no order", pb.CancelOrderRequest(**without(CANCEL, "order_id")), ["order"])
    yield BadRequest("nothing", pb.CancelOrderRequest(), ["user_id", "order"])
    everything = pb.CancelOrderRequest(user_id="a b", request_id="", order_id=0)
    yield BadRequest("everything", everything, ["user_id", "request_id", "order_id"])


def bad_transfers(kind: type[pb.DepositRequest | pb.WithdrawRequest]) -> Iterator[BadRequest]:
    """Deposit and Withdraw."""
    for name in ("user_id", "asset", "request_id"):
        yield from each_value(kind, TRANSFER, name, NO_IDENTIFIERS)
    yield from each_value(kind, TRANSFER, "amount", NO_AMOUNTS)
    yield BadRequest("nothing", kind(), ["user_id", "asset", "amount", "request_id"])
    everything = kind(user_id="a b", asset="\n", amount="-1", request_id="x" * 65)
    yield BadRequest("everything", everything, ["user_id", "asset", "amount", "request_id"])


def bad_reads() -> Iterator[BadRequest]:
    """GetOrderBook, ListBalances and ReplayLedger."""
    yield from each_value(pb.GetOrderBookRequest, {"depth": 5}, "symbol", NO_IDENTIFIERS)
    for depth in (-1, 501, -(1 << 31)):
        yield BadRequest(f"depth {depth}", pb.GetOrderBookRequest(symbol="BTC-USD", depth=depth), ["depth"])
    yield BadRequest("everything", pb.GetOrderBookRequest(symbol="a b", depth=-1), ["symbol", "depth"])
    yield from each_value(pb.ListBalancesRequest, {}, "user_id", NO_IDENTIFIERS)
    for sequence in (-1, -(1 << 63)):
        yield BadRequest(f"after {sequence}", ledger_pb2.ReplayLedgerRequest(after_sequence=sequence), ["after_sequence"])


def bad_submits() -> Iterator[BadRequest]:
    """SubmitOrders as a whole; each item is checked like a call of its own."""
    good = pb.SubmitOrdersItem(place=pb.PlaceOrderRequest(**LIMIT))
    yield BadRequest("no item", pb.SubmitOrdersRequest(), ["items"])
    yield BadRequest("501 items", pb.SubmitOrdersRequest(items=[good] * 501), ["items"])


def each_value(kind: type[Message], plain: dict[str, Any], name: str, values: dict[str, str]) -> Iterator[BadRequest]:
    """The plain request with each of the values in one field."""
    for why, value in values.items():
        yield BadRequest(f"{name}: {why}", kind(**plain | {name: value}), [name])


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """The fields but for one."""
    return {key: value for key, value in fields.items() if key != name}
