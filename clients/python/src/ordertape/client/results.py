"""What the calls return: the answers of the services with what was given to them to be kept, above all the keys."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar

from ordertape.client.enums import OrderStatus, TradingStatus
from ordertape.client.errors import OrdertapeError
from ordertape.client.frames import Rows
from ordertape.client.values import Balance, BookLevel, OrderUpdate
from ordertape.client.views import View

V_co = TypeVar("V_co", bound=View[Any], covariant=True)


@dataclass(frozen=True, slots=True)
class OrderResult:
    """What became of a place, replace or cancel.

    ``key``: the client_order_id (place) or request_id that it had; ``updates``: what it caused to its order, of which the first
    ``updates_omitted`` before the last may be missing (``order_updates`` has all); ``replayed``: it is the answer to an earlier
    request.
    """

    key: str
    updates: Rows[OrderUpdate]
    position: str
    replayed: bool
    updates_omitted: int

    @property
    def order(self) -> OrderUpdate:
        """The order as the request left it."""
        return self.updates[-1]

    @property
    def rejected(self) -> bool:
        """Whether the exchange refused the order; ``order`` says why."""
        return self.order.status is OrderStatus.REJECTED


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one item of many: ``result``, or ``error``, and then nothing of it was booked."""

    key: str
    result: OrderResult | None
    error: OrdertapeError | None

    def value(self) -> OrderResult:
        """The result. Raises the item's error."""
        if self.result is None:
            raise self.error or AssertionError("an item has a result or an error")
        return self.result


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of many items, in their order."""

    results: tuple[ItemResult, ...]
    position: str

    def __iter__(self) -> Iterator[ItemResult]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)


@dataclass(frozen=True, slots=True)
class CancelledCount:
    """What became of a mass cancel: how many orders it cancelled, or would."""

    key: str
    cancelled_count: int
    position: str
    replayed: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a deposit or withdrawal: the balance that it left."""

    key: str
    balance: Balance
    position: str
    replayed: bool


@dataclass(frozen=True, slots=True)
class Book:
    """The best price levels: bids highest first, asks lowest first."""

    bids: Rows[BookLevel]
    asks: Rows[BookLevel]
    position: str
    last_trade_price: Decimal | None
    trading_status: TradingStatus


@dataclass(frozen=True, slots=True)
class Page(Generic[V_co]):
    """A page of a list; ``next_token`` is empty at the end only."""

    rows: Rows[V_co]
    next_token: str


@dataclass(frozen=True, slots=True)
class News:
    """What a watch brings at once, always whole ledger batches. ``snapshot``: these are the open orders at the beginning, all of
    them. ``position``: where to go on once these are dealt with. No ``updates`` are a sign of life.
    """

    updates: Rows[OrderUpdate]
    snapshot: bool
    position: str


@dataclass(frozen=True, slots=True)
class Exported:
    """Some updates of an export. ``position``: where to go on; ``until``: where it ends; ``last_user_update_number``: of the last
    update that it comes to, so that it is seen how far it is.
    """

    updates: Rows[OrderUpdate]
    position: str
    until: str
    last_user_update_number: int
