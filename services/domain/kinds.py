"""The closed lists of the field: sides, order types, statuses, reasons. Their numbers are those of the contract's enums of
the same names (a test holds the two together), so that mapping one to the other is no work at all.
"""

from enum import IntEnum


class Side(IntEnum):
    """FIX 54."""

    BUY = 1
    SELL = 2


class OrderType(IntEnum):
    """FIX 40."""

    LIMIT = 1
    MARKET = 2
    STOP = 3
    STOP_LIMIT = 4


class TimeInForce(IntEnum):
    """FIX 59."""

    GTC = 1
    IOC = 2
    FOK = 3
    GTD = 4
    DAY = 5


class OrderStatus(IntEnum):
    """Where an order is. FIX 39."""

    NEW = 1
    PARTIALLY_FILLED = 2
    FILLED = 3
    CANCELLED = 4
    REJECTED = 5
    EXPIRED = 6


class ExecType(IntEnum):
    """What just happened to an order. FIX 150."""

    NEW = 1
    REJECTED = 2
    TRADE = 3
    CANCELLED = 4
    EXPIRED = 5
    REPLACED = 6
    TRIGGERED = 7


class LiquiditySide(IntEnum):
    """Which part an order played in a trade. FIX 851."""

    MAKER = 1
    TAKER = 2


class SelfTradePrevention(IntEnum):
    """What happens where a user's order meets another one of the same user; the taker's mode decides."""

    NONE = 1
    CANCEL_TAKER = 2
    CANCEL_MAKER = 3
    CANCEL_BOTH = 4


class RejectReason(IntEnum):
    """Why an order was refused: the first that applies, in this order."""

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


class CancelReason(IntEnum):
    """Who or what cancelled an order."""

    USER = 1
    MASS_CANCEL = 2
    OPERATOR = 3
    SELF_TRADE = 4
    DISCONNECT = 5


class ExpireReason(IntEnum):
    """Why the system ended an order."""

    IOC_REST = 1
    FOK_NOT_FILLABLE = 2
    MARKET_REST = 3
    MATCH_LIMIT = 4
    GTD_REACHED = 5
    SESSION_END = 6
    STOP_NOT_COVERED = 7


class UserStatus(IntEnum):
    """Whether a user may place orders."""

    ACTIVE = 1
    SUSPENDED = 2


class TradingStatus(IntEnum):
    """Whether an instrument can be traded. FIX 326."""

    TRADING = 1
    HALTED = 2
