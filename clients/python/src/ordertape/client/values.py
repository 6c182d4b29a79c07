"""The contract's messages as typed views. What each field means, its unit and range and when it is absent, is said once: in the
comments of protos/ordertape/v1, and so in the stubs that this package carries.
"""

from datetime import timedelta

from ordertape.client import views
from ordertape.client.enums import (
    CancelReason,
    ExecType,
    ExpireReason,
    HistoryState,
    LiquiditySide,
    OrderStatus,
    OrderType,
    RejectReason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from ordertape.client.views import View
from ordertape.v1 import instrument_pb2, matching_engine_pb2, order_history_pb2, order_pb2

OPEN = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


class Fill(View[order_pb2.Fill]):
    """One side's view of one trade."""

    __slots__ = ()
    trade_id = views.whole()
    price = views.decimal()
    qty = views.decimal()
    quote = views.decimal()
    liquidity = views.name_of(LiquiditySide)
    fee = views.decimal()
    fee_asset = views.text()


class PreventedMatch(View[order_pb2.PreventedMatch]):
    """A trade with the user's own order that self-trade prevention kept from happening."""

    __slots__ = ()
    order_id = views.whole()
    price = views.decimal()
    qty = views.decimal()


class OrderUpdate(View[order_pb2.OrderUpdate]):
    """An order, whole, as it stands after one event."""

    __slots__ = ()
    order_id = views.whole()
    client_order_id = views.maybe_text()
    user_id = views.text()
    symbol = views.text()
    side = views.name_of(Side)
    order_type = views.name_of(OrderType)
    time_in_force = views.name_of(TimeInForce)
    status = views.name_of(OrderStatus)
    exec_type = views.name_of(ExecType)
    price = views.maybe_decimal()
    qty = views.maybe_decimal()
    filled_qty = views.decimal()
    leaves_qty = views.maybe_decimal()
    sequence = views.whole()
    timestamp = views.time()
    previous_status = views.maybe_name_of(OrderStatus)
    version = views.whole()
    update_number = views.whole()
    order_number = views.whole()
    user_update_number = views.whole()
    queue_sequence = views.whole()
    created_at = views.time()
    cumulative_quote = views.decimal()
    cumulative_fee = views.decimal()
    fee_asset = views.text()
    avg_fill_price = views.maybe_decimal()
    fill = views.maybe_nested(Fill)
    quote_qty = views.maybe_decimal()
    leaves_quote_qty = views.maybe_decimal()
    stop_price = views.maybe_decimal()
    triggered_at = views.maybe_time()
    display_qty = views.maybe_decimal()
    visible_qty = views.maybe_decimal()
    post_only = views.flag()
    expire_time = views.maybe_time()
    self_trade_prevention = views.name_of(SelfTradePrevention)
    reject_reason = views.maybe_name_of(RejectReason)
    cancel_reason = views.maybe_name_of(CancelReason)
    expire_reason = views.maybe_name_of(ExpireReason)
    reason_text = views.text()
    prevented_match = views.maybe_nested(PreventedMatch)
    request_id = views.maybe_text()

    @property
    def is_open(self) -> bool:
        """Whether the order can still trade or be cancelled."""
        return self.status in OPEN

    @property
    def reason(self) -> RejectReason | CancelReason | ExpireReason | None:
        """Whichever of the three reasons there is."""
        return self.reject_reason or self.cancel_reason or self.expire_reason


class OrderFill(View[order_history_pb2.OrderFill]):
    """One fill and the order that it belongs to."""

    __slots__ = ()
    fill = views.nested(Fill)
    order_id = views.whole()
    client_order_id = views.maybe_text()
    symbol = views.text()
    side = views.name_of(Side)
    sequence = views.whole()
    timestamp = views.time()


class Balance(View[matching_engine_pb2.Balance]):
    """What a user owns of one asset."""

    __slots__ = ()
    asset = views.text()
    available = views.decimal()
    held = views.decimal()


class BookLevel(View[matching_engine_pb2.BookLevel]):
    """All that rests at one price."""

    __slots__ = ()
    price = views.decimal()
    qty = views.decimal()
    order_count = views.whole()


class Instrument(View[instrument_pb2.Instrument]):
    """A pair of assets and the rules by which they trade."""

    __slots__ = ()
    symbol = views.text()
    base_asset = views.text()
    quote_asset = views.text()
    base_asset_decimals = views.whole()
    quote_asset_decimals = views.whole()
    price_decimals = views.whole()
    qty_decimals = views.whole()
    price_step = views.decimal()
    qty_step = views.decimal()
    price_min = views.decimal()
    price_max = views.decimal()
    qty_min = views.decimal()
    qty_max = views.decimal()
    notional_min = views.decimal()
    maker_fee_rate = views.decimal()
    taker_fee_rate = views.decimal()
    price_band_rate = views.maybe_decimal()


class HistoryStatus(View[order_history_pb2.GetHistoryStatusResponse]):
    """How the history is."""

    __slots__ = ()
    ledger_id = views.text()
    epoch = views.whole()
    applied_sequence = views.whole()
    durable_sequence = views.whole()
    lag_commands = views.whole()
    position = views.text()
    state = views.name_of(HistoryState)
    halt_reason = views.text()
    gaps_repaired = views.whole()
    open_orders = views.whole()
    store = views.text()
    user_shards = views.text()

    @property
    def lag(self) -> timedelta:
        """Time for which the history has been behind."""
        return self.message.lag.ToTimedelta()
