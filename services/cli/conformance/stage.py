"""The exchange under test, its instrument, and traders that nobody has met: each check has its own, so that one that fails makes
no other fail. Prices are steps from a price at which nobody else's order is met, quantities are units that the instrument allows.
"""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from typing import Any, Self

from ordertape.v1 import instrument_pb2, order_pb2
from ordertape.v1 import ledger_pb2 as feed_pb2
from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import order_history_pb2 as history_pb2
from services.cli.client import Engine, History
from services.cli.failures import USAGE, Failure

# How far from the middle price a check goes, and how much it trades at most.
STEPS_MAX, UNITS_MAX = 4, 40
_MONEY_UNITS = 10 * UNITS_MAX
_PRICE_WITHOUT_MARKET = Decimal(100)


@dataclass(frozen=True, slots=True)
class Grid:
    """What prices and quantities mean on an instrument."""

    rules: instrument_pb2.Instrument
    middle: Decimal
    unit: Decimal

    def price(self, steps: int) -> str:
        """The price so many steps above the middle."""
        return text_of(self.middle + steps * Decimal(self.rules.price_step))

    def qty(self, units: float) -> str:
        """So many units."""
        return text_of(self.unit * Decimal(str(units)))

    def money(self, steps: int, units: float) -> str:
        """What so many units cost at a price."""
        return text_of(Decimal(self.price(steps)) * Decimal(self.qty(units)))

    def fee(self, received: str, rate: str, decimals: int) -> Decimal:
        """The fee of what was received: rounded up at the asset's decimals."""
        return (Decimal(received) * Decimal(rate)).quantize(Decimal(1).scaleb(-decimals), ROUND_CEILING)


class Stage:
    """Connections to both services; leaving the context closes them."""

    def __init__(self, engine: str, history: str, operator: str, symbol: str, timeout_seconds: float) -> None:
        self.prefix = f"conform-{secrets.token_hex(4)}"
        self.timeout_seconds = timeout_seconds
        self._opened = ExitStack()
        self._services = (Engine(engine, timeout_seconds), Engine(operator, timeout_seconds), History(history, timeout_seconds))
        for service in self._services:
            self._opened.enter_context(service)
        self.engine, self.ledger, self.accounts = self._services[0].orders, self._services[0].ledger, self._services[0].accounts
        self.operator, self.history = self._services[1].operator, self._services[2].orders
        self._symbol = symbol
        self._users = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self._opened.close()

    def look_around(self) -> None:
        """Find the instrument and room in its book. Raises Failure where there is none, or nobody answers."""
        service = self._services[0]
        listed = service.call(service.orders.ListInstruments, engine_pb2.ListInstrumentsRequest()).instruments
        rules = next((rules for rules in listed if rules.symbol == self._symbol), None)
        if rules is None:
            known = ", ".join(instrument.symbol for instrument in listed)
            raise Failure(USAGE, f"there is no instrument {self._symbol}; there are: {known}: name one with --symbol")
        book = service.call(service.orders.GetOrderBook, engine_pb2.GetOrderBookRequest(symbol=self._symbol, depth=1))
        if book.trading_status != instrument_pb2.TRADING_STATUS_TRADING:
            raise Failure(USAGE, f"{self._symbol} is halted: name another instrument with --symbol")
        self.grid = grid_of(rules, book)
        self.begin = self.position()

    def position(self) -> str:
        """Where the ledger ends now."""
        request = engine_pb2.GetOrderBookRequest(symbol=self._symbol, depth=1)
        return self.engine.GetOrderBook(request, timeout=self.timeout_seconds).position

    def sequence(self) -> int:
        """The ledger's last durable sequence."""
        return self.ledger.GetLedgerStatus(feed_pb2.GetLedgerStatusRequest(), timeout=self.timeout_seconds).durable_sequence

    @contextmanager
    def traders(self, count: int = 2) -> "Iterator[tuple[Trader, ...]]":
        """New users with money; what they leave open is cancelled at the end."""
        self._users += 1
        found = tuple(Trader(self, f"{self.prefix}-{self._users}{letter}") for letter in "abcd"[:count])
        try:
            for trader in found:
                trader.fund()
            yield found
        finally:
            for trader in found:
                self.engine.CancelOrders(engine_pb2.CancelOrdersRequest(user_id=trader.user_id), timeout=self.timeout_seconds)


@dataclass
class Trader:
    """A user, and the orders by the names that a check gives them."""

    stage: Stage
    user_id: str
    orders: dict[str, int] = field(default_factory=dict)

    def fund(self) -> None:
        """Bring in more of both assets than any check can spend."""
        grid = self.stage.grid
        for asset, amount in (
            (grid.rules.quote_asset, grid.money(STEPS_MAX, _MONEY_UNITS)),
            (grid.rules.base_asset, grid.qty(_MONEY_UNITS)),
        ):
            self.deposit(asset, amount, f"fund-{asset}")

    def deposit(self, asset: str, amount: str, request_id: str) -> engine_pb2.DepositResponse:
        """Bring money in."""
        request = engine_pb2.DepositRequest(user_id=self.user_id, asset=asset, amount=amount, request_id=request_id)
        return self.stage.operator.Deposit(request, timeout=self.stage.timeout_seconds)

    def order(
        self, side: "order_pb2.Side.ValueType", units: float | None, steps: int | None, **changes: Any
    ) -> engine_pb2.PlaceOrderRequest:
        """A LIMIT order, or a MARKET order where there is no price; ``changes`` override fields."""
        grid = self.stage.grid
        kind = order_pb2.ORDER_TYPE_MARKET if steps is None else order_pb2.ORDER_TYPE_LIMIT
        plain = {
            "user_id": self.user_id,
            "symbol": grid.rules.symbol,
            "side": side,
            "order_type": kind,
            "price": None if steps is None else grid.price(steps),
            "qty": None if units is None else grid.qty(units),
        }
        return engine_pb2.PlaceOrderRequest(**{**plain, **changes})

    def place(self, request: engine_pb2.PlaceOrderRequest) -> engine_pb2.PlaceOrderResponse:
        """Send an order."""
        return self.stage.engine.PlaceOrder(request, timeout=self.stage.timeout_seconds)

    def buy(self, units: float | None, steps: int | None = 0, **changes: Any) -> engine_pb2.PlaceOrderResponse:
        """Send an order to buy."""
        return self.place(self.order(order_pb2.SIDE_BUY, units, steps, **changes))

    def sell(self, units: float | None, steps: int | None = 0, **changes: Any) -> engine_pb2.PlaceOrderResponse:
        """Send an order to sell."""
        return self.place(self.order(order_pb2.SIDE_SELL, units, steps, **changes))

    def cancel(self, order_id: int, request_id: str | None = None) -> engine_pb2.CancelOrderResponse:
        """Cancel an order."""
        request = engine_pb2.CancelOrderRequest(user_id=self.user_id, order_id=order_id, request_id=request_id)
        return self.stage.engine.CancelOrder(request, timeout=self.stage.timeout_seconds)

    def replace(self, order_id: int, **changes: Any) -> engine_pb2.ReplaceOrderResponse:
        """Change an order's terms."""
        request = engine_pb2.ReplaceOrderRequest(user_id=self.user_id, order_id=order_id, **changes)
        return self.stage.engine.ReplaceOrder(request, timeout=self.stage.timeout_seconds)

    def balances(self) -> dict[str, tuple[str, str]]:
        """What the user has of each asset: free, and set aside."""
        request = engine_pb2.ListBalancesRequest(user_id=self.user_id)
        listed = self.stage.accounts.ListBalances(request, timeout=self.stage.timeout_seconds).balances
        return {balance.asset: (balance.available, balance.held) for balance in listed}

    def get(self, order_id: int, **question: Any) -> order_pb2.OrderUpdate:
        """An order as the history has it; unless asked otherwise, after all that has happened by now."""
        question = question or {"at_least": self.stage.position()}
        request = history_pb2.GetOrderRequest(user_id=self.user_id, order_id=order_id, **question)
        return self.stage.history.GetOrder(request, timeout=self.stage.timeout_seconds).order

    def timeline(self, order_id: int, page_size: int = 500) -> list[order_pb2.OrderUpdate]:
        """An order's whole life, oldest first."""
        request = history_pb2.ListOrderUpdatesRequest(
            user_id=self.user_id, order_id=order_id, page_size=page_size, at_least=self.stage.position()
        )
        found: list[order_pb2.OrderUpdate] = []
        while True:
            page = self.stage.history.ListOrderUpdates(request, timeout=self.stage.timeout_seconds)
            found += page.updates
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


def grid_of(rules: instrument_pb2.Instrument, book: engine_pb2.GetOrderBookResponse) -> Grid:
    """Prices between the best ones of the book, so that no check meets a stranger's order. Raises Failure where none are."""
    step, room = Decimal(rules.price_step), (STEPS_MAX + 1) * Decimal(rules.price_step)
    lowest, highest = Decimal(rules.price_min) + room, Decimal(rules.price_max) - room
    bid = Decimal(book.bids[0].price) if book.bids else None
    ask = Decimal(book.asks[0].price) if book.asks else None
    if bid is not None and ask is not None:
        wanted = (bid + ask) / 2
    elif bid is not None:
        wanted = bid + room
    elif ask is not None:
        wanted = ask - room
    else:
        wanted = Decimal(book.last_trade_price) if book.HasField("last_trade_price") else _PRICE_WITHOUT_MARKET
    middle = _down(min(max(wanted, lowest), highest), step)
    if (bid is not None and middle - room < bid) or (ask is not None and middle + room > ask) or middle < lowest:
        raise Failure(USAGE, f"the book of {rules.symbol} leaves no room between its best prices: name another with --symbol")
    lot = Decimal(rules.qty_step)
    least = max(Decimal(rules.qty_min), Decimal(rules.notional_min) / (middle - room))
    return Grid(rules, middle, (least / lot).to_integral_value(ROUND_CEILING) * lot)


def text_of(number: Decimal) -> str:
    """Canonical decimal text."""
    with localcontext(prec=60):
        text = f"{number.normalize():f}"
    return "0" if text in ("-0", "0") else text


def _down(number: Decimal, step: Decimal) -> Decimal:
    return (number / step).to_integral_value(ROUND_FLOOR) * step
