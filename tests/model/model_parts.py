"""What the model exchange is made of: instruments and orders in plain decimal amounts, and how either is written."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_UP, Context, Decimal

from google.protobuf.timestamp_pb2 import Timestamp

from ordertape.v1 import instrument_pb2, matching_engine_pb2, order_pb2

ZERO = Decimal(0)
EXACT = Context(prec=80)
DAY_MICROSECONDS = 86_400 * 10**6

LIMIT, MARKET = order_pb2.ORDER_TYPE_LIMIT, order_pb2.ORDER_TYPE_MARKET
STOP, STOP_LIMIT = order_pb2.ORDER_TYPE_STOP, order_pb2.ORDER_TYPE_STOP_LIMIT
GTC, IOC, FOK = order_pb2.TIME_IN_FORCE_GTC, order_pb2.TIME_IN_FORCE_IOC, order_pb2.TIME_IN_FORCE_FOK
GTD, DAY = order_pb2.TIME_IN_FORCE_GTD, order_pb2.TIME_IN_FORCE_DAY
NEW, PARTIALLY_FILLED = order_pb2.ORDER_STATUS_NEW, order_pb2.ORDER_STATUS_PARTIALLY_FILLED
OPEN = (NEW, PARTIALLY_FILLED)


class Refused(Exception):
    """A call that fails and changes nothing; ``why`` is one word for its kind."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Rules:
    """An instrument's rules."""

    def __init__(self, message: instrument_pb2.Instrument) -> None:
        self.message = instrument_pb2.Instrument()
        self.message.CopyFrom(message)
        self.base, self.quote = message.base_asset, message.quote_asset
        self.decimals = {self.base: message.base_asset_decimals, self.quote: message.quote_asset_decimals}
        self.price_step, self.price_min, self.price_max = map(Decimal, (message.price_step, message.price_min, message.price_max))
        self.qty_step, self.qty_min, self.qty_max = map(Decimal, (message.qty_step, message.qty_min, message.qty_max))
        self.notional_min = Decimal(message.notional_min)
        self.maker_rate, self.taker_rate = Decimal(message.maker_fee_rate), Decimal(message.taker_fee_rate)
        self.band = amount_of(message, "price_band_rate")

    def fee(self, asset: str, received: Decimal, rate: Decimal) -> Decimal:
        """What is kept of what was received, rounded up at the asset's decimals."""
        return (received * rate).quantize(Decimal(1).scaleb(-self.decimals[asset]), ROUND_CEILING, context=EXACT)


@dataclass(eq=False)
class Order:
    """An order as it stands; ``request`` has the terms that never change. ``queued`` says that it is in the book."""

    order_id: int
    number: int
    request: matching_engine_pb2.PlaceOrderRequest
    expires: int | None
    price: Decimal | None
    qty: Decimal | None
    money: Decimal | None
    stop: Decimal | None
    display: Decimal | None
    leaves: Decimal | None
    money_left: Decimal | None
    status: int = 0
    version: int = 1
    updates: int = 0
    filled: Decimal = ZERO
    spent: Decimal = ZERO
    fees: Decimal = ZERO
    shown: Decimal = ZERO
    triggered: bool = False

    @property
    def user(self) -> str:
        """Whose it is."""
        return self.request.user_id

    @property
    def symbol(self) -> str:
        """Its instrument."""
        return self.request.symbol

    @property
    def buys(self) -> bool:
        """Its side."""
        return self.request.side == order_pb2.SIDE_BUY

    @property
    def kind(self) -> int:
        """Its order type."""
        return self.request.order_type

    @property
    def waits(self) -> bool:
        """Whether it is a stop order that was not triggered."""
        return self.stop is not None and not self.triggered

    @property
    def may_rest(self) -> bool:
        """Whether what it does not trade at once stays in the book."""
        return self.kind in (LIMIT, STOP_LIMIT) and self.request.time_in_force in (GTC, GTD, DAY)

    def reaches(self, price: Decimal) -> bool:
        """Whether it trades at a price."""
        return self.price is None or (self.price >= price if self.buys else self.price <= price)

    def part_shown(self) -> Decimal:
        """What the book shows of it when it takes a new place."""
        assert self.leaves is not None
        return self.leaves if self.display is None else min(self.display, self.leaves)


def amount_of(message: object, name: str) -> Decimal | None:
    """A field of decimal text that may be absent."""
    return Decimal(getattr(message, name)) if message.HasField(name) else None


def text_of(amount: Decimal) -> str:
    """Canonical decimal text."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def time_of(timestamp: Timestamp) -> int:
    """Microseconds since 1970."""
    return timestamp.seconds * 10**6 + timestamp.nanos // 1000


def timestamp_of(time: int) -> Timestamp:
    """The time as the contract says it."""
    return Timestamp(seconds=time // 10**6, nanos=time % 10**6 * 1000)


def order_of(request: matching_engine_pb2.PlaceOrderRequest, order_id: int, number: int, expires: int | None) -> Order:
    """A new order of these terms, of which nothing is decided yet."""
    price, qty, money, stop, display = (
        amount_of(request, name) for name in ("price", "qty", "quote_qty", "stop_price", "display_qty")
    )
    return Order(order_id, number, request, expires, price, qty, money, stop, display, leaves=qty, money_left=money)


def average_of(spent: Decimal, filled: Decimal, decimals: int) -> Decimal:
    """spent / filled, half up at 12 significant digits or at these decimals, whichever is finer."""
    average = EXACT.divide(spent, filled)
    places = max(decimals, 11 - average.adjusted())
    return average.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, context=EXACT)


def update_of(order: Order, rules: Rules | None) -> order_pb2.OrderUpdate:
    """The order as the contract says it, without what only the event and its place say."""
    request = order.request
    update = order_pb2.OrderUpdate(
        order_id=order.order_id,
        user_id=request.user_id,
        symbol=request.symbol,
        side=request.side,
        order_type=request.order_type,
        time_in_force=request.time_in_force,
        self_trade_prevention=request.self_trade_prevention,
        post_only=request.post_only,
        status=order.status,
        version=order.version,
        update_number=order.updates,
        order_number=order.number,
        filled_qty=text_of(order.filled),
        cumulative_quote=text_of(order.spent),
        cumulative_fee=text_of(order.fees),
    )
    if request.HasField("client_order_id"):
        update.client_order_id = request.client_order_id
    if rules is not None:
        update.fee_asset = rules.base if order.buys else rules.quote
        if order.filled:
            update.avg_fill_price = text_of(average_of(order.spent, order.filled, rules.decimals[rules.quote]))
    amounts = {
        "price": order.price, "qty": order.qty, "quote_qty": order.money, "stop_price": order.stop, "display_qty": order.display,
        "leaves_qty": order.leaves, "leaves_quote_qty": order.money_left, "visible_qty": order.shown or None,
    }  # fmt: skip
    for name, amount in amounts.items():
        if amount is not None:
            setattr(update, name, text_of(amount))
    if order.expires is not None:
        update.expire_time.CopyFrom(timestamp_of(order.expires))
    return update
