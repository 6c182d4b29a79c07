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
from services.domain.order import Fill, OrderTerms, OrderUpdate
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
    if update.previous_status is not None:
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
    if terms.post_only:
        message.post_only = True
    message.version = terms.version
    message.order_number = terms.order_number
    put_time(message.created_at, terms.created_at)


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
    if update.in_book:
        message.visible_qty = message.leaves_qty


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
        has("visible_qty"),
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
    )


def exact_units(text: str, decimals: int) -> int:
    """Units of a text that the engine itself wrote. Raises ValueError where it is finer than it can be."""
    units = to_units(text, decimals)
    if units is None:
        raise ValueError(f"{text} has more than {decimals} decimals")
    return units


def _decode_terms(message: order_pb2.OrderUpdate, instrument: Instrument | None) -> OrderTerms:
    has = message.HasField
    price = message.price if has("price") else None
    qty = message.qty if has("qty") else None
    quote_qty = message.quote_qty if has("quote_qty") else None
    return OrderTerms(
        order_id=message.order_id,
        client_order_id=message.client_order_id if has("client_order_id") else None,
        user_id=message.user_id,
        symbol=message.symbol,
        side=Side(message.side),
        order_type=OrderType(message.order_type),
        time_in_force=TimeInForce(message.time_in_force),
        price_text=price,
        qty_text=qty,
        quote_qty_text=quote_qty,
        post_only=message.post_only,
        self_trade_prevention=SelfTradePrevention(message.self_trade_prevention),
        order_number=message.order_number,
        created_at=microseconds_of(message.created_at),
        version=message.version,
        instrument=instrument,
        price=to_units(price, instrument.price_decimals) if instrument is not None and price is not None else None,
        qty=to_units(qty, instrument.qty_decimals) if instrument is not None and qty is not None else None,
        quote_qty=(to_units(quote_qty, instrument.quote_decimals) if instrument is not None and quote_qty is not None else None),
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
