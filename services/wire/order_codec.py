"""OrderUpdate, both ways: the core's (integers) and the contract's (decimal text). Written field by field, since every order
passes here at least once and nothing is quicker.
"""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from ordertape.v1 import order_pb2
from services.domain.instrument import Instrument
from services.domain.kinds import (
    CancelReason,
    ExecType,
    ExpireReason,
    LiquiditySide,
    OrderStatus,
    OrderType,
    RejectReason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from services.domain.money import average_price, to_text, to_units
from services.domain.order import Fill, OrderTerms, OrderUpdate, PreventedMatch
from services.wire.fields import microseconds_of


def put_time(target: Timestamp, microseconds: int) -> None:
    """Write microseconds since 1970 into a Timestamp."""
    target.seconds, rest = divmod(microseconds, 1_000_000)
    target.nanos = rest * 1000


def encode_update(update: OrderUpdate, message: order_pb2.OrderUpdate) -> None:
    """Write the update into an empty message."""
    enums: Any = message  # the core's enums have the contract's numbers, which the stubs cannot know
    _encode_terms(update.terms, message)
    enums.status = update.status
    enums.exec_type = update.exec_type
    message.sequence = update.sequence
    put_time(message.timestamp, update.timestamp)
    if update.previous_status is None:
        message.created_at.CopyFrom(message.timestamp)
    else:
        put_time(message.created_at, update.terms.created_at)
        enums.previous_status = update.previous_status
    message.update_number = update.update_number
    message.user_update_number = update.user_update_number
    if update.queue_sequence:
        message.queue_sequence = update.queue_sequence
    instrument = update.terms.instrument
    if instrument is not None:
        _encode_amounts(update, instrument, message)
    else:
        _encode_nothing_filled(update, message)
    if update.reject_reason is not None:
        enums.reject_reason = update.reject_reason
    elif update.cancel_reason is not None:
        enums.cancel_reason = update.cancel_reason
    elif update.expire_reason is not None:
        enums.expire_reason = update.expire_reason
    if update.reason_text:
        message.reason_text = update.reason_text
    if update.request_id is not None:
        message.request_id = update.request_id


def _encode_terms(terms: OrderTerms, message: order_pb2.OrderUpdate) -> None:
    enums: Any = message
    message.order_id = terms.order_id
    if terms.client_order_id is not None:
        message.client_order_id = terms.client_order_id
    message.user_id = terms.user_id
    message.symbol = terms.symbol
    enums.side = terms.side
    enums.order_type = terms.order_type
    enums.time_in_force = terms.time_in_force
    enums.self_trade_prevention = terms.self_trade_prevention
    if terms.price_text is not None:
        message.price = terms.price_text
    if terms.qty_text is not None:
        message.qty = terms.qty_text
    if terms.quote_qty_text is not None:
        message.quote_qty = terms.quote_qty_text
    if terms.stop_price_text is not None:
        message.stop_price = terms.stop_price_text
    if terms.display_qty_text is not None:
        message.display_qty = terms.display_qty_text
    if terms.expire_time is not None:
        put_time(message.expire_time, terms.expire_time)
    if terms.post_only:
        message.post_only = True
    message.version = terms.version
    message.order_number = terms.order_number


def _encode_amounts(update: OrderUpdate, instrument: Instrument, message: order_pb2.OrderUpdate) -> None:
    terms = update.terms
    buys = terms.side == Side.BUY
    message.fee_asset = instrument.base_asset if buys else instrument.quote_asset
    if not update.filled:
        _encode_nothing_filled(update, message)
    else:
        fee_decimals = instrument.base_decimals if buys else instrument.quote_decimals
        message.filled_qty = to_text(update.filled, instrument.qty_decimals)
        message.cumulative_quote = to_text(update.cumulative_quote, instrument.quote_decimals)
        message.cumulative_fee = to_text(update.cumulative_fee, fee_decimals)
        message.avg_fill_price = average_price(
            update.cumulative_quote, instrument.quote_decimals, update.filled, instrument.qty_decimals
        )
        if update.leaves is not None:
            message.leaves_qty = to_text(update.leaves, instrument.qty_decimals)
        if update.leaves_quote is not None:
            message.leaves_quote_qty = to_text(update.leaves_quote, instrument.quote_decimals)
        if update.fill is not None:
            _encode_fill(update.fill, instrument, fee_decimals, message)
    if update.visible:
        whole = update.visible == update.leaves
        message.visible_qty = message.leaves_qty if whole else to_text(update.visible, instrument.qty_decimals)
    if update.triggered_at is not None:
        put_time(message.triggered_at, update.triggered_at)
    if update.prevented_match is not None:
        prevented = message.prevented_match
        prevented.order_id = update.prevented_match.order_id
        prevented.price = to_text(update.prevented_match.price, instrument.price_decimals)
        prevented.qty = to_text(update.prevented_match.qty, instrument.qty_decimals)


def _encode_nothing_filled(update: OrderUpdate, message: order_pb2.OrderUpdate) -> None:
    message.filled_qty = "0"
    message.cumulative_quote = "0"
    message.cumulative_fee = "0"
    terms = update.terms
    if terms.qty_text is not None:
        message.leaves_qty = terms.qty_text if update.leaves else "0"
    if terms.quote_qty_text is not None:
        message.leaves_quote_qty = terms.quote_qty_text if update.leaves_quote else "0"


def _encode_fill(fill: Fill, instrument: Instrument, fee_decimals: int, message: order_pb2.OrderUpdate) -> None:
    target: Any = message.fill
    target.trade_id = fill.trade_id
    target.price = to_text(fill.price, instrument.price_decimals)
    target.qty = to_text(fill.qty, instrument.qty_decimals)
    target.quote = to_text(fill.quote, instrument.quote_decimals)
    target.liquidity = fill.liquidity
    target.fee = to_text(fill.fee, fee_decimals)
    target.fee_asset = message.fee_asset


def decode_update(message: order_pb2.OrderUpdate, known: OrderTerms | None, instrument: Instrument | None) -> OrderUpdate:
    """The core's update. ``known`` are the order's terms where its last update is in memory and has the same version."""
    terms = known if known is not None else _decode_terms(message, instrument)
    fill = None
    base_decimals = quote_decimals = qty_decimals = fee_decimals = 0
    if instrument is not None:
        base_decimals, quote_decimals = instrument.base_decimals, instrument.quote_decimals
        qty_decimals = instrument.qty_decimals
        fee_decimals = base_decimals if terms.side == Side.BUY else quote_decimals
        if message.HasField("fill"):
            fill = _decode_fill(message.fill, instrument, fee_decimals)
    has = message.HasField
    return OrderUpdate(
        terms,
        OrderStatus(message.status),
        ExecType(message.exec_type),
        OrderStatus(message.previous_status) if has("previous_status") else None,
        message.sequence,
        microseconds_of(message.timestamp),
        message.update_number,
        message.user_update_number,
        message.queue_sequence,
        exact_units(message.visible_qty, qty_decimals) if has("visible_qty") else 0,
        exact_units(message.filled_qty, qty_decimals),
        exact_units(message.leaves_qty, qty_decimals) if has("leaves_qty") else None,
        exact_units(message.leaves_quote_qty, quote_decimals) if has("leaves_quote_qty") else None,
        exact_units(message.cumulative_quote, quote_decimals),
        exact_units(message.cumulative_fee, fee_decimals),
        fill,
        RejectReason(message.reject_reason) if has("reject_reason") else None,
        CancelReason(message.cancel_reason) if has("cancel_reason") else None,
        ExpireReason(message.expire_reason) if has("expire_reason") else None,
        message.reason_text,
        message.request_id if has("request_id") else None,
        microseconds_of(message.triggered_at) if has("triggered_at") else None,
        _decode_prevented(message.prevented_match, instrument) if instrument is not None and has("prevented_match") else None,
    )


def _decode_prevented(message: order_pb2.PreventedMatch, instrument: Instrument) -> PreventedMatch:
    return PreventedMatch(
        message.order_id,
        exact_units(message.price, instrument.price_decimals),
        exact_units(message.qty, instrument.qty_decimals),
    )


def exact_units(text: str, decimals: int) -> int:
    """Units of a text that the engine itself wrote. Raises ValueError where it is finer than it can be."""
    units = to_units(text, decimals)
    if units is None:
        raise ValueError(f"{text} has more than {decimals} decimals")
    return units


def _decode_terms(message: order_pb2.OrderUpdate, instrument: Instrument | None) -> OrderTerms:
    texts = {
        name: getattr(message, name) if message.HasField(name) else None
        for name in ("price", "qty", "quote_qty", "stop_price", "display_qty")
    }
    units: dict[str, int | None] = dict.fromkeys(texts)
    if instrument is not None:
        decimals = {
            "quote_qty": instrument.quote_decimals,
            "qty": instrument.qty_decimals,
            "display_qty": instrument.qty_decimals,
        }
        for name, text in texts.items():
            if text is not None:
                units[name] = to_units(text, decimals.get(name, instrument.price_decimals))
    return OrderTerms(
        order_id=message.order_id,
        client_order_id=message.client_order_id if message.HasField("client_order_id") else None,
        user_id=message.user_id,
        symbol=message.symbol,
        side=Side(message.side),
        order_type=OrderType(message.order_type),
        time_in_force=TimeInForce(message.time_in_force),
        post_only=message.post_only,
        self_trade_prevention=SelfTradePrevention(message.self_trade_prevention),
        order_number=message.order_number,
        created_at=microseconds_of(message.created_at),
        version=message.version,
        instrument=instrument,
        expire_time=microseconds_of(message.expire_time) if message.HasField("expire_time") else None,
        price_text=texts["price"],
        price=units["price"],
        qty_text=texts["qty"],
        qty=units["qty"],
        quote_qty_text=texts["quote_qty"],
        quote_qty=units["quote_qty"],
        stop_price_text=texts["stop_price"],
        stop_price=units["stop_price"],
        display_qty_text=texts["display_qty"],
        display_qty=units["display_qty"],
    )


def _decode_fill(message: order_pb2.Fill, instrument: Instrument, fee_decimals: int) -> Fill:
    return Fill(
        message.trade_id,
        exact_units(message.price, instrument.price_decimals),
        exact_units(message.qty, instrument.qty_decimals),
        exact_units(message.quote, instrument.quote_decimals),
        LiquiditySide(message.liquidity),
        exact_units(message.fee, fee_decimals),
    )
