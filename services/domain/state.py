"""The exchange's state and the only code that changes it: applying events. Recovery is nothing but this, so the state that
lives and the state that is recovered cannot differ.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from services.domain.accounts import Accounts
from services.domain.book import Book
from services.domain.errors import ImpossibleTransition, OrderNotOpen
from services.domain.events import (
    BalanceChange,
    Deposited,
    EngineStarted,
    Event,
    ExchangeRules,
    InstrumentChanged,
    Locked,
    MassCancelDone,
    Matched,
    TradingStatusChanged,
    Unlocked,
    UserStatusChanged,
    Withdrawn,
)
from services.domain.instrument import Instrument
from services.domain.kinds import CancelReason, Side, TradingStatus, UserStatus
from services.domain.lifecycle import OPEN_STATUSES
from services.domain.open_orders import OpenOrders
from services.domain.order import OrderUpdate


class UserNumbers:
    """A user's running numbers: orders placed and updates told so far."""

    __slots__ = ("orders", "updates")

    def __init__(self, orders: int = 0, updates: int = 0) -> None:
        self.orders = orders
        self.updates = updates


class ExchangeState:
    """All that the next decision depends on. Grows with users, instruments and open orders, never with closed ones."""

    def __init__(self) -> None:
        self.sequence = 0
        self.time = 0  # of the last event, microseconds since 1970
        self.ledger_id = ""
        self.epoch = 0
        self.rules = ExchangeRules(trades_per_order_max=1)
        self.instruments: dict[str, Instrument] = {}
        self.asset_decimals: dict[str, int] = {}
        self.books: dict[str, Book] = {}
        self.accounts = Accounts()
        self.orders = OpenOrders()
        self.halted: set[str] = set()  # symbols
        self.suspended: set[str] = set()  # user_ids
        self.mass_cancelled = 0  # orders that the mass cancel under way has ended so far
        self.users: dict[str, UserNumbers] = {}
        self.last_order_id = 0
        self.last_trade_id = 0

    def apply(self, events: Iterable[Event], time: int) -> None:
        """Apply the events of one command, decided at ``time``; the first takes the next sequence."""
        for event in events:
            _APPLY[type(event)](self, event)
            self.sequence += 1
            self.time = time
            time += 1

    def _set_balance(self, change: BalanceChange) -> None:
        self.accounts.set(change.user_id, change.asset, change.available_after, change.held_after)

    def _deposited(self, event: Deposited) -> None:
        self._set_balance(event.change)
        self.accounts.deposited[event.change.asset] += event.change.amount

    def _withdrawn(self, event: Withdrawn) -> None:
        self._set_balance(event.change)
        self.accounts.withdrawn[event.change.asset] += event.change.amount

    def _held_changed(self, event: Locked | Unlocked) -> None:
        self._set_balance(event.change)

    def _matched(self, event: Matched) -> None:
        for change in (event.taker_gives, event.taker_receives, event.maker_gives, event.maker_receives):
            self._set_balance(change)
        self.accounts.fees[event.taker_receives.asset] += event.taker_fee
        self.accounts.fees[event.maker_receives.asset] += event.maker_fee
        self.last_trade_id = event.trade_id
        self.books[event.instrument.symbol].last_trade_price = event.price

    def _order_updated(self, update: OrderUpdate) -> None:
        terms = update.terms
        before = self.orders.get(terms.order_id)
        if (before.status if before is not None else None) != update.previous_status:
            raise ImpossibleTransition(f"order {terms.order_id} was not {update.previous_status} before {update.status}")
        numbers = self.users.get(terms.user_id)
        if numbers is None:
            numbers = self.users[terms.user_id] = UserNumbers()
        numbers.updates = update.user_update_number
        if before is None:
            numbers.orders = terms.order_number
            self.last_order_id = terms.order_id
        if update.status in OPEN_STATUSES:
            self.orders.put(update)
        elif before is not None:
            self.orders.remove(before)
            if update.cancel_reason == CancelReason.MASS_CANCEL:
                self.mass_cancelled += 1
        if update.visible or (before is not None and before.visible):
            self._rest(before, update)

    def _rest(self, before: OrderUpdate | None, update: OrderUpdate) -> None:
        """Put the order where it is in the book now, or take it off."""
        terms = update.terms
        side = self.books[terms.symbol].side(terms.side)
        if before is not None and before.visible and (not update.visible or before.terms.price != terms.price):
            side.remove(before)
        if update.visible:
            side.put(update)

    def _trading_status_changed(self, event: TradingStatusChanged) -> None:
        if event.status == TradingStatus.HALTED:
            self.halted.add(event.symbol)
        else:
            self.halted.discard(event.symbol)

    def _user_status_changed(self, event: UserStatusChanged) -> None:
        if event.status == UserStatus.SUSPENDED:
            self.suspended.add(event.user_id)
        else:
            self.suspended.discard(event.user_id)

    def _mass_cancel_done(self, _event: MassCancelDone) -> None:
        self.mass_cancelled = 0

    def user_status(self, user_id: str) -> UserStatus:
        """Whether the user may place orders."""
        return UserStatus.SUSPENDED if user_id in self.suspended else UserStatus.ACTIVE

    def trading_status(self, symbol: str) -> TradingStatus:
        """Whether the instrument can be traded."""
        return TradingStatus.HALTED if symbol in self.halted else TradingStatus.TRADING

    def _instrument_changed(self, event: InstrumentChanged) -> None:
        instrument = event.instrument
        self.instruments[instrument.symbol] = instrument
        self.asset_decimals[instrument.base_asset] = instrument.base_decimals
        self.asset_decimals[instrument.quote_asset] = instrument.quote_decimals
        self.books.setdefault(instrument.symbol, Book())
        # Open orders go by the rules as they are now: those that a recovered engine finds.
        for order in self.orders.all():
            if order.terms.symbol == instrument.symbol:
                order.terms.instrument = instrument

    def _engine_started(self, event: EngineStarted) -> None:
        self.ledger_id = event.ledger_id
        self.epoch = event.epoch
        self.rules = event.rules
        self.mass_cancelled = 0

    def restore_orders(self, orders: Iterable[OrderUpdate]) -> None:
        """Put down orders that are open, in the order of acceptance, where there were none: each where its queue_sequence says
        that it stands in the book.
        """
        for order in orders:
            self.orders.put(order)
        for order in sorted((order for order in self.orders.all() if order.visible), key=lambda order: order.queue_sequence):
            self._rest(None, order)

    def describe(self) -> dict[str, object]:
        """The whole state as plain values: equal exactly where two states are equal."""
        return {
            "sequence": self.sequence,
            "time": self.time,
            "ledger_id": self.ledger_id,
            "epoch": self.epoch,
            "rules": self.rules,
            "instruments": [self.instruments[symbol].rules for symbol in sorted(self.instruments)],
            "accounts": self.accounts.state(),
            "users": {user: (numbers.orders, numbers.updates) for user, numbers in sorted(self.users.items())},
            "last_order_id": self.last_order_id,
            "last_trade_id": self.last_trade_id,
            "last_trade_prices": {symbol: book.last_trade_price for symbol, book in sorted(self.books.items())},
            "halted": sorted(self.halted),
            "suspended": sorted(self.suspended),
            "mass_cancelled": self.mass_cancelled,
            "orders": {order.terms.order_id: _plain(order) for order in self.orders.all()},
            "queues": {
                (symbol, side.name): [order.terms.order_id for order in book.side(side).orders()]
                for symbol, book in sorted(self.books.items())
                for side in Side
            },
        }


def find_open_order(state: ExchangeState, user_id: str, order_id: int | None, client_order_id: str | None) -> OrderUpdate:
    """The user's open order of this number or name. Raises OrderNotOpen."""
    if order_id is None and client_order_id is not None:
        order_id = state.orders.id_of(user_id, client_order_id)
    order = state.orders.get(order_id) if order_id is not None else None
    if order is None or order.terms.user_id != user_id:
        name = f"client_order_id {client_order_id}" if client_order_id is not None else f"order_id {order_id}"
        raise OrderNotOpen(f"{user_id} has no open order of {name}")
    return order


def _plain(update: OrderUpdate) -> dict[str, object]:
    values: dict[str, object] = {name: getattr(update, name) for name in OrderUpdate.__slots__ if name != "terms"}
    terms = {name: getattr(update.terms, name) for name in update.terms.__slots__ if name != "instrument"}
    return values | terms


_APPLY: Final[dict[type, Callable[[ExchangeState, Any], None]]] = {
    TradingStatusChanged: ExchangeState._trading_status_changed,
    UserStatusChanged: ExchangeState._user_status_changed,
    MassCancelDone: ExchangeState._mass_cancel_done,
    Deposited: ExchangeState._deposited,
    Withdrawn: ExchangeState._withdrawn,
    Locked: ExchangeState._held_changed,
    Unlocked: ExchangeState._held_changed,
    Matched: ExchangeState._matched,
    OrderUpdate: ExchangeState._order_updated,
    InstrumentChanged: ExchangeState._instrument_changed,
    EngineStarted: ExchangeState._engine_started,
}
