"""Every way an update can read, and what FIX and Binance call it: for whoever speaks one of the two at the exchange's edge.

FIX has no status for "the system ended it" as such: what an immediate order leaves is Canceled there, what its time ended is
Expired. At Binance CANCELED is the user's doing and EXPIRED the exchange's.
"""

from typing import Final, NamedTuple, TypeAlias

from services.domain.kinds import CancelReason, ExecType, ExpireReason, OrderStatus, RejectReason
from services.domain.lifecycle import EXEC_TYPES, TRANSITIONS

Reason: TypeAlias = RejectReason | CancelReason | ExpireReason


class Outcome(NamedTuple):
    """What an update says: where the order is, what just happened, and why where there is a reason."""

    status: OrderStatus
    exec_type: ExecType
    reason: Reason | None = None


class Elsewhere(NamedTuple):
    """The same in FIX (value and name of OrdStatus 39 and ExecType 150) and as Binance's order status."""

    ord_status: str
    exec_type: str
    binance: str


# The closed list of reasons that a status has; the others have none.
REASONS: Final[dict[OrderStatus, tuple[Reason, ...]]] = {
    OrderStatus.CANCELLED: tuple(CancelReason),
    OrderStatus.REJECTED: tuple(RejectReason),
    OrderStatus.EXPIRED: tuple(ExpireReason),
}

_CANCELED: Final = Elsewhere("4 Canceled", "4 Canceled", "CANCELED")
_REJECTED: Final = Elsewhere("8 Rejected", "8 Rejected", "REJECTED")
_EXPIRED: Final = Elsewhere("C Expired", "C Expired", "EXPIRED")

_WITHOUT_REASON: Final[dict[Outcome, Elsewhere]] = {
    Outcome(OrderStatus.NEW, ExecType.NEW): Elsewhere("0 New", "0 New", "NEW"),
    Outcome(OrderStatus.NEW, ExecType.REPLACED): Elsewhere("0 New", "5 Replaced", "NEW"),
    Outcome(OrderStatus.NEW, ExecType.TRIGGERED): Elsewhere("0 New", "L Triggered", "NEW"),
    Outcome(OrderStatus.PARTIALLY_FILLED, ExecType.TRADE): Elsewhere("1 Partially filled", "F Trade", "PARTIALLY_FILLED"),
    Outcome(OrderStatus.PARTIALLY_FILLED, ExecType.REPLACED): Elsewhere("1 Partially filled", "5 Replaced", "PARTIALLY_FILLED"),
    Outcome(OrderStatus.FILLED, ExecType.TRADE): Elsewhere("2 Filled", "F Trade", "FILLED"),
    Outcome(OrderStatus.FILLED, ExecType.REPLACED): Elsewhere("2 Filled", "5 Replaced", "FILLED"),
}

_CANCELLED_BY: Final[dict[CancelReason, Elsewhere]] = {
    CancelReason.USER: _CANCELED,
    CancelReason.MASS_CANCEL: _CANCELED,
    CancelReason.OPERATOR: _CANCELED._replace(binance="EXPIRED"),
    CancelReason.SELF_TRADE: _CANCELED._replace(binance="EXPIRED_IN_MATCH"),
    CancelReason.DISCONNECT: _CANCELED,
}

_EXPIRED_BY: Final[dict[ExpireReason, Elsewhere]] = {
    ExpireReason.IOC_REST: _CANCELED._replace(binance="EXPIRED"),
    ExpireReason.FOK_NOT_FILLABLE: _CANCELED._replace(binance="EXPIRED"),
    ExpireReason.MARKET_REST: _CANCELED._replace(binance="EXPIRED"),
    ExpireReason.MATCH_LIMIT: _CANCELED._replace(binance="EXPIRED"),
    ExpireReason.GTD_REACHED: _EXPIRED,
    ExpireReason.SESSION_END: _EXPIRED,
    ExpireReason.STOP_NOT_COVERED: _REJECTED._replace(binance="EXPIRED"),
}

# FIX 103 (OrdRejReason) of each reason.
ORD_REJ_REASONS: Final[dict[RejectReason, int]] = {
    RejectReason.UNKNOWN_SYMBOL: 1,
    RejectReason.SYMBOL_HALTED: 2,
    RejectReason.USER_SUSPENDED: 15,
    RejectReason.TOO_MANY_OPEN_ORDERS: 3,
    RejectReason.PRICE_OFF_STEP: 99,
    RejectReason.QTY_OFF_STEP: 13,
    RejectReason.PRICE_OUTSIDE_LIMITS: 16,
    RejectReason.PRICE_OUTSIDE_BAND: 16,
    RejectReason.QTY_OUTSIDE_LIMITS: 13,
    RejectReason.NOTIONAL_TOO_SMALL: 99,
    RejectReason.NOTIONAL_TOO_LARGE: 3,
    RejectReason.EXPIRE_TIME_IN_PAST: 4,
    RejectReason.NO_LIQUIDITY: 99,
    RejectReason.POST_ONLY_WOULD_TAKE: 99,
    RejectReason.INSUFFICIENT_FUNDS: 3,
}

ELSEWHERE: Final[dict[Outcome, Elsewhere]] = {
    **_WITHOUT_REASON,
    **{Outcome(OrderStatus.CANCELLED, ExecType.CANCELLED, reason): names for reason, names in _CANCELLED_BY.items()},
    **{Outcome(OrderStatus.REJECTED, ExecType.REJECTED, reason): _REJECTED for reason in ORD_REJ_REASONS},
    **{Outcome(OrderStatus.EXPIRED, ExecType.EXPIRED, reason): names for reason, names in _EXPIRED_BY.items()},
}


def outcomes() -> list[Outcome]:
    """Every way an update can read, by the lifecycle's table and the closed lists of reasons."""
    steps = sorted({(status, EXEC_TYPES[event]) for (_, event), status in TRANSITIONS.items()})
    reasons: dict[OrderStatus, tuple[Reason | None, ...]] = {**REASONS}
    return [Outcome(status, step, reason) for status, step in steps for reason in reasons.get(status, (None,))]
