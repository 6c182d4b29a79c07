"""The contract's enums under their names without prefixes: numbers that a newer service sends and this version does not know stay
the numbers that they are.
"""

from enum import IntEnum
from typing import Self


class OpenEnum(IntEnum):
    """An enum that keeps unknown numbers, as members called UNKNOWN_n."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_, member._value_ = f"UNKNOWN_{value}", value
        return member

    @classmethod
    def of(cls, value: "int | str") -> Self:
        """The member of this number or name, whatever its case: "buy" is BUY, "stop-limit" STOP_LIMIT. Raises ValueError."""
        if not isinstance(value, str):
            return cls(value)
        try:
            return cls[value.upper().replace("-", "_")]
        except KeyError:
            known = ", ".join(member.name for member in cls if member.value)
            raise ValueError(f"{value!r} is no {cls.__name__}: it is one of {known}") from None

    def __str__(self) -> str:
        return self.name


class Side(OpenEnum):
    """Which side of the market an order is on."""

    UNSPECIFIED = 0
    BUY = 1
    SELL = 2


class OrderType(OpenEnum):
    """How an order's price is made."""

    UNSPECIFIED = 0
    LIMIT = 1
    MARKET = 2
    STOP = 3
    STOP_LIMIT = 4


class TimeInForce(OpenEnum):
    """How long an order may live."""

    UNSPECIFIED = 0
    GTC = 1
    IOC = 2
    FOK = 3
    GTD = 4
    DAY = 5


class OrderStatus(OpenEnum):
    """Where an order is."""

    UNSPECIFIED = 0
    NEW = 1
    PARTIALLY_FILLED = 2
    FILLED = 3
    CANCELLED = 4
    REJECTED = 5
    EXPIRED = 6


class ExecType(OpenEnum):
    """What just happened to an order."""

    UNSPECIFIED = 0
    NEW = 1
    REJECTED = 2
    TRADE = 3
    CANCELLED = 4
    EXPIRED = 5
    REPLACED = 6
    TRIGGERED = 7


class LiquiditySide(OpenEnum):
    """Which part an order played in a trade."""

    UNSPECIFIED = 0
    MAKER = 1
    TAKER = 2


class SelfTradePrevention(OpenEnum):
    """What happens where an order would trade with another order of the same user."""

    UNSPECIFIED = 0
    NONE = 1
    CANCEL_TAKER = 2
    CANCEL_MAKER = 3
    CANCEL_BOTH = 4


class RejectReason(OpenEnum):
    """Why an order was REJECTED."""

    UNSPECIFIED = 0
    UNKNOWN_SYMBOL = 1
    SYMBOL_HALTED = 2
    USER_SUSPENDED = 3
    TOO_MANY_OPEN_ORDERS = 4
    PRICE_OFF_STEP = 5
    QTY_OFF_STEP = 6
    PRICE_OUTSIDE_LIMITS = 7
    PRICE_OUTSIDE_BAND = 8
    QTY_OUTSIDE_LIMITS = 9
    NOTIONAL_TOO_SMALL = 10
    NOTIONAL_TOO_LARGE = 11
    EXPIRE_TIME_IN_PAST = 12
    NO_LIQUIDITY = 13
    POST_ONLY_WOULD_TAKE = 14
    INSUFFICIENT_FUNDS = 15


class CancelReason(OpenEnum):
    """Who or what cancelled an order."""

    UNSPECIFIED = 0
    USER = 1
    MASS_CANCEL = 2
    OPERATOR = 3
    SELF_TRADE = 4
    DISCONNECT = 5


class ExpireReason(OpenEnum):
    """Why the system ended an order."""

    UNSPECIFIED = 0
    IOC_REST = 1
    FOK_NOT_FILLABLE = 2
    MARKET_REST = 3
    MATCH_LIMIT = 4
    GTD_REACHED = 5
    SESSION_END = 6
    STOP_NOT_COVERED = 7


class TradingStatus(OpenEnum):
    """Whether an instrument can be traded now."""

    UNSPECIFIED = 0
    TRADING = 1
    HALTED = 2


class HistoryState(OpenEnum):
    """What the history is doing."""

    UNSPECIFIED = 0
    CATCHING_UP = 1
    LIVE = 2
    HALTED = 3


class ErrorReason(OpenEnum):
    """Why a call failed."""

    UNSPECIFIED = 0
    INVALID_REQUEST = 1
    ORDER_NOT_FOUND = 2
    SYMBOL_NOT_FOUND = 3
    ASSET_NOT_FOUND = 4
    KEY_REUSED = 5
    ORDER_CLOSED = 6
    INSUFFICIENT_FUNDS = 7
    AMOUNT_OFF_STEP = 8
    TOTAL_TOO_LARGE = 9
    VERSION_MISMATCH = 10
    POSITION_OUT_OF_RANGE = 11
    READER_TOO_SLOW = 12
    TOO_MANY_CALLS = 13
    DRAINING = 14
    NOT_YET_APPLIED = 15
    DEPENDENCY_DOWN = 16
    HALTED = 17
    REPLACE_REFUSED = 18
    INSTRUMENT_REFUSED = 19
    USER_NOT_OWNED = 20
