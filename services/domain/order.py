"""An order, whole, as it stands after one event. The live order in the exchange *is* its last update.

Plain classes with slots, made only by the core and never changed after: they are made several times for every order, where a
frozen dataclass costs four times as much.
"""

from typing import NamedTuple

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
from services.domain.lifecycle import OPEN_STATUSES


class Fill(NamedTuple):
    """One side's view of one trade: price, qty and quote in the instrument's units, fee in units of the asset received."""

    trade_id: int
    price: int
    qty: int
    quote: int
    liquidity: LiquiditySide
    fee: int


class PreventedMatch(NamedTuple):
    """A trade with an own order that self-trade prevention kept from happening; price and qty in the instrument's units."""

    order_id: int
    price: int
    qty: int


class OrderTerms:
    """What does not change over the life of one version of an order. Texts are as sent, canonical; units are None where the
    text is absent, or the order is refused before they are known. ``created_at`` is set with the order's first update,
    ``instrument`` anew where the rules of an open order's instrument change."""

    __slots__ = (
        "client_order_id",
        "created_at",
        "display_qty",
        "display_qty_text",
        "expire_time",
        "instrument",
        "order_id",
        "order_number",
        "order_type",
        "post_only",
        "price",
        "price_text",
        "qty",
        "qty_text",
        "quote_qty",
        "quote_qty_text",
        "self_trade_prevention",
        "side",
        "stop_price",
        "stop_price_text",
        "symbol",
        "time_in_force",
        "user_id",
        "version",
    )

    def __init__(
        self,
        order_id: int,
        client_order_id: str | None,
        user_id: str,
        symbol: str,
        side: Side,
        order_type: OrderType,
        time_in_force: TimeInForce,
        price_text: str | None,
        qty_text: str | None,
        quote_qty_text: str | None,
        post_only: bool,
        self_trade_prevention: SelfTradePrevention,
        order_number: int,
        created_at: int,
        version: int,
        instrument: Instrument | None,
        price: int | None,
        qty: int | None,
        quote_qty: int | None,
        stop_price_text: str | None = None,
        stop_price: int | None = None,
        display_qty_text: str | None = None,
        display_qty: int | None = None,
        expire_time: int | None = None,
    ) -> None:
        self.order_id = order_id
        self.client_order_id = client_order_id
        self.user_id = user_id
        self.symbol = symbol
        self.side = side
        self.order_type = order_type
        self.time_in_force = time_in_force
        self.price_text = price_text
        self.qty_text = qty_text
        self.quote_qty_text = quote_qty_text
        self.post_only = post_only
        self.self_trade_prevention = self_trade_prevention
        self.order_number = order_number
        self.created_at = created_at
        self.version = version
        self.instrument = instrument
        self.price = price
        self.qty = qty
        self.quote_qty = quote_qty
        self.stop_price_text = stop_price_text
        self.stop_price = stop_price
        self.display_qty_text = display_qty_text
        self.display_qty = display_qty
        self.expire_time = expire_time

    def replaced(self, **changes: object) -> "OrderTerms":
        """The terms of the next version: as these, but for the changes."""
        values = {name: getattr(self, name) for name in OrderTerms.__slots__}
        return OrderTerms(**values | changes | {"version": self.version + 1})


class OrderUpdate:
    """One event of an order and the order as it stands after it. Times are microseconds since 1970, UTC.

    ``leaves`` is units of qty still open, None for an order by quote_qty; ``leaves_quote`` the money it may still spend, None
    for all others. ``visible`` is what the book shows of the order after this event, 0 where it does not rest there.
    """

    __slots__ = (
        "cancel_reason",
        "cumulative_fee",
        "cumulative_quote",
        "exec_type",
        "expire_reason",
        "fill",
        "filled",
        "leaves",
        "leaves_quote",
        "prevented_match",
        "previous_status",
        "queue_sequence",
        "reason_text",
        "reject_reason",
        "request_id",
        "sequence",
        "status",
        "terms",
        "timestamp",
        "triggered_at",
        "update_number",
        "user_update_number",
        "visible",
    )

    def __init__(
        self,
        terms: OrderTerms,
        status: OrderStatus,
        exec_type: ExecType,
        previous_status: OrderStatus | None,
        sequence: int,
        timestamp: int,
        update_number: int,
        user_update_number: int,
        queue_sequence: int,
        visible: int,
        filled: int,
        leaves: int | None,
        leaves_quote: int | None,
        cumulative_quote: int,
        cumulative_fee: int,
        fill: Fill | None = None,
        reject_reason: RejectReason | None = None,
        cancel_reason: CancelReason | None = None,
        expire_reason: ExpireReason | None = None,
        reason_text: str = "",
        request_id: str | None = None,
        triggered_at: int | None = None,
        prevented_match: PreventedMatch | None = None,
    ) -> None:
        self.terms = terms
        self.status = status
        self.exec_type = exec_type
        self.previous_status = previous_status
        self.sequence = sequence
        self.timestamp = timestamp
        self.update_number = update_number
        self.user_update_number = user_update_number
        self.queue_sequence = queue_sequence
        self.visible = visible
        self.filled = filled
        self.leaves = leaves
        self.leaves_quote = leaves_quote
        self.cumulative_quote = cumulative_quote
        self.cumulative_fee = cumulative_fee
        self.fill = fill
        self.reject_reason = reject_reason
        self.cancel_reason = cancel_reason
        self.expire_reason = expire_reason
        self.reason_text = reason_text
        self.request_id = request_id
        self.triggered_at = triggered_at
        self.prevented_match = prevented_match

    @property
    def is_open(self) -> bool:
        """Whether more can happen to the order."""
        return self.status in OPEN_STATUSES

    @property
    def waits_for_trigger(self) -> bool:
        """Whether this is an open stop order that has not been triggered."""
        return self.terms.stop_price is not None and self.triggered_at is None and self.is_open
