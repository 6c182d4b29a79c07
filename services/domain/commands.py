"""What the core can be asked to do. Decimals are canonical text: only the instrument knows their units."""

from typing import NamedTuple

from services.domain.events import ExchangeRules
from services.domain.instrument import InstrumentRules
from services.domain.kinds import OrderType, SelfTradePrevention, Side, TimeInForce


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


class Cancel(NamedTuple):
    """End an open order: named by exactly one of order_id and client_order_id."""

    user_id: str
    order_id: int | None
    client_order_id: str | None
    request_id: str | None


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


Command = Place | Cancel | Deposit | Withdraw | ApplyConfig | StartEngine
