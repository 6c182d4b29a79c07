"""What can happen on the exchange, as the core says it: amounts in units, and every balance as it is afterwards, so that
applying an event is putting things down, never calculating. The contract's LedgerCommand has the same list.
"""

from typing import NamedTuple

from services.domain.instrument import Instrument
from services.domain.kinds import Side, TradingStatus, UserStatus
from services.domain.order import OrderUpdate


class BalanceChange(NamedTuple):
    """One balance's part of an event, with what it is afterwards."""

    user_id: str
    asset: str
    amount: int
    available_after: int
    held_after: int


class Deposited(NamedTuple):
    """Money came in."""

    change: BalanceChange


class Withdrawn(NamedTuple):
    """Money went out."""

    change: BalanceChange


class Locked(NamedTuple):
    """Money was set aside for an order."""

    order_id: int
    change: BalanceChange


class Unlocked(NamedTuple):
    """Money set aside for an order was freed."""

    order_id: int
    change: BalanceChange


class Matched(NamedTuple):
    """Two orders traded: the settlement's view. The four changes are in the order in which each starts from the one before."""

    trade_id: int
    instrument: Instrument
    price: int
    qty: int
    quote: int
    taker_side: Side
    taker_order_id: int
    maker_order_id: int
    taker_gives: BalanceChange
    taker_receives: BalanceChange
    maker_gives: BalanceChange
    maker_receives: BalanceChange
    taker_fee: int
    maker_fee: int


class InstrumentChanged(NamedTuple):
    """An instrument's rules were set."""

    instrument: Instrument


class TradingStatusChanged(NamedTuple):
    """An instrument was halted or resumed."""

    symbol: str
    status: TradingStatus
    reason_text: str


class UserStatusChanged(NamedTuple):
    """A user was suspended or readmitted."""

    user_id: str
    status: UserStatus
    reason_text: str


class MassCancelDone(NamedTuple):
    """A mass cancel came to its end after so many orders."""

    user_id: str
    request_id: str | None
    cancelled_count: int


class ExchangeRules(NamedTuple):
    """Rules of the whole exchange.

    trades_per_order_max: how many trades one order makes at most at once, at least 1. open_orders_per_user_max: 0 for no limit.
    session_end_seconds: when DAY orders expire, in seconds after midnight UTC.
    """

    trades_per_order_max: int
    open_orders_per_user_max: int = 0
    session_end_seconds: int = 0


class EngineStarted(NamedTuple):
    """The engine opened the ledger for a new epoch."""

    ledger_id: str
    epoch: int
    rules_version: int
    program_version: str
    rules: ExchangeRules


Event = (
    Deposited
    | Withdrawn
    | Locked
    | Unlocked
    | Matched
    | OrderUpdate
    | InstrumentChanged
    | TradingStatusChanged
    | UserStatusChanged
    | MassCancelDone
    | EngineStarted
)
