"""What the core can be asked to do. Decimals are canonical text: only the instrument knows their units."""

from typing import NamedTuple

from services.domain.events import ExchangeRules
from services.domain.instrument import InstrumentRules
from services.domain.kinds import OrderType, SelfTradePrevention, Side, TimeInForce, TradingStatus, UserStatus


class Place(NamedTuple):
    """A new order. Which fields go together is the contract's rule and was checked before."""

    user_id: str
    client_order_id: str | None
    symbol: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    price: str | None
    qty: str | None
    quote_qty: str | None
    post_only: bool
    self_trade_prevention: SelfTradePrevention
    stop_price: str | None = None
    display_qty: str | None = None
    expire_time: int | None = None  # microseconds since 1970


class Replace(NamedTuple):
    """Change an open order's terms; None keeps a term. Named by exactly one of order_id and client_order_id."""

    user_id: str
    order_id: int | None
    client_order_id: str | None
    request_id: str | None
    price: str | None
    qty: str | None
    stop_price: str | None
    display_qty: str | None
    expected_version: int | None


class Cancel(NamedTuple):
    """End an open order: named by exactly one of order_id and client_order_id."""

    user_id: str
    order_id: int | None
    client_order_id: str | None
    request_id: str | None


class CancelOrders(NamedTuple):
    """End a user's open orders of these symbols (all where empty) and this side (both where None); at most 500 at a time, so it
    is decided again until MassCancelDone."""

    user_id: str
    request_id: str | None
    symbols: tuple[str, ...]
    side: Side | None


class ForceCancel(NamedTuple):
    """An operator ends any user's open order."""

    order_id: int
    reason_text: str


class SetTradingStatus(NamedTuple):
    """An operator halts or resumes an instrument."""

    symbol: str
    status: TradingStatus
    reason_text: str


class SetUserStatus(NamedTuple):
    """An operator suspends or readmits a user, and ends the user's orders first if told to; at most 500 at a time, so it is
    decided again until UserStatusChanged."""

    user_id: str
    status: UserStatus
    cancel_open_orders: bool
    reason_text: str


class ExpireDue(NamedTuple):
    """End the orders whose time has come; at most 500 at a time."""


class TriggerStop(NamedTuple):
    """The last trade reached a stop order's price."""

    order_id: int


class SessionLost(NamedTuple):
    """A session that asked for cancel on disconnect was lost: end its user's orders; at most 500 at a time."""

    user_id: str


class Deposit(NamedTuple):
    """Bring money in."""

    user_id: str
    asset: str
    amount: str


class Withdraw(NamedTuple):
    """Take available money out."""

    user_id: str
    asset: str
    amount: str


class ApplyConfig(NamedTuple):
    """Set an instrument to what config says."""

    rules: InstrumentRules


class StartEngine(NamedTuple):
    """Begin an epoch."""

    ledger_id: str
    epoch: int
    rules_version: int
    program_version: str
    rules: ExchangeRules


Command = (
    Place
    | Replace
    | Cancel
    | CancelOrders
    | ForceCancel
    | SetTradingStatus
    | SetUserStatus
    | ExpireDue
    | TriggerStop
    | SessionLost
    | Deposit
    | Withdraw
    | ApplyConfig
    | StartEngine
)
