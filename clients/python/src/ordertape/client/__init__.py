"""An ordertape client: ``Client`` for threads, ``AsyncClient`` for asyncio, the same calls in both.

Calls go on while a service restarts and happen once; streams are resumed by themselves; reads see what was written. Values are
typed views of the contract's messages, each of which is there as ``message``.
"""

from ordertape.client.aio import AsyncClient
from ordertape.client.async_streams import AsyncExport, AsyncWatch
from ordertape.client.enums import (
    CancelReason,
    ErrorReason,
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
    TradingStatus,
)
from ordertape.client.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    NotYetApplied,
    OrdertapeError,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    SlowReader,
    Unauthenticated,
    Unavailable,
    Unexpected,
)
from ordertape.client.frames import Rows
from ordertape.client.results import Book, CancelledCount, Exported, ItemResult, Moved, News, OrderResult, Submitted
from ordertape.client.status import Violation
from ordertape.client.streams import Export, Watch
from ordertape.client.sync import Client
from ordertape.client.tables import AsyncListing, Listing
from ordertape.client.values import (
    Balance,
    BookLevel,
    Fill,
    HistoryStatus,
    Instrument,
    OrderFill,
    OrderUpdate,
    PreventedMatch,
)

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AsyncClient",
    "AsyncExport",
    "AsyncListing",
    "AsyncWatch",
    "Balance",
    "Book",
    "BookLevel",
    "CancelReason",
    "Cancelled",
    "CancelledCount",
    "Client",
    "DataLoss",
    "DeadlineExceeded",
    "ErrorReason",
    "ExecType",
    "ExpireReason",
    "Export",
    "Exported",
    "FailedPrecondition",
    "Fill",
    "HistoryState",
    "HistoryStatus",
    "Instrument",
    "InvalidRequest",
    "ItemResult",
    "LiquiditySide",
    "Listing",
    "Moved",
    "News",
    "NotFound",
    "NotYetApplied",
    "OrderFill",
    "OrderResult",
    "OrderStatus",
    "OrderType",
    "OrderUpdate",
    "OrdertapeError",
    "OutOfRange",
    "PermissionDenied",
    "PreventedMatch",
    "RejectReason",
    "ResourceExhausted",
    "Rows",
    "SelfTradePrevention",
    "Side",
    "SlowReader",
    "Submitted",
    "TimeInForce",
    "TradingStatus",
    "Unauthenticated",
    "Unavailable",
    "Unexpected",
    "Violation",
    "Watch",
]
