"""Drives the pure core in a test: commands in, events out, time rising by itself."""

from services.domain.commands import (
    ApplyConfig,
    Cancel,
    Command,
    Deposit,
    ExpireDue,
    Place,
    Replace,
    StartEngine,
    TriggerStop,
)
from services.domain.draft import held_asset, held_for
from services.domain.events import Event, ExchangeRules
from services.domain.exchange import RULES_VERSION, decide
from services.domain.instrument import InstrumentRules
from services.domain.kinds import OrderType, SelfTradePrevention, Side, TimeInForce
from services.domain.order import OrderUpdate
from services.domain.state import ExchangeState
from services.domain.stops import next_triggered

BTC_USD = InstrumentRules(
    symbol="BTC-USD",
    base_asset="BTC",
    quote_asset="USD",
    base_asset_decimals=8,
    quote_asset_decimals=10,
    price_decimals=2,
    qty_decimals=8,
    price_step="0.01",
    qty_step="0.0001",
    price_min="0.01",
    price_max="1000000",
    qty_min="0.0001",
    qty_max="10000",
    notional_min="1",
    maker_fee_rate="0.001",
    taker_fee_rate="0.001",
)


class Core:
    """An exchange in memory."""

    def __init__(self, *instruments: InstrumentRules, trades_per_order_max: int = 5000, **rules: int) -> None:
        self.state = ExchangeState()
        self.time = 1_700_000_000_000_000
        self.log: list[tuple[Command, int, list[Event]]] = []
        exchange_rules = ExchangeRules(trades_per_order_max, **rules)
        self.do(StartEngine("0123456789abcdef", 1, RULES_VERSION, "test", exchange_rules))
        for instrument in instruments or (BTC_USD,):
            self.do(ApplyConfig(instrument))

    def do(self, command: Command) -> list[Event]:
        """Decide one command as the sequencer does: what is due expires before it, what it triggers comes after it."""
        self._expire_due()
        events = self._do(command)
        while (triggered := next_triggered(self.state)) is not None:
            self._expire_due()
            if self.state.orders.get(triggered) is not None:
                self._do(TriggerStop(triggered))
        return events

    def _expire_due(self) -> None:
        while (due := self.state.orders.next_expiry) is not None and due <= self.time:
            self._do(ExpireDue())

    def _do(self, command: Command) -> list[Event]:
        events = decide(self.state, command, self.time)
        self.state.apply(events, self.time)
        self.log.append((command, self.time, events))
        self.time = self.state.time + 1000
        return events

    def timeline(self, order_id: int) -> list[OrderUpdate]:
        """All that happened to an order."""
        return [update for _, _, events in self.log for update in updates(events) if update.terms.order_id == order_id]

    def story(self, order_id: int) -> list[str]:
        """The order's exec types and statuses."""
        return [f"{update.exec_type.name} {update.status.name}" for update in self.timeline(order_id)]

    def replace(self, user_id: str, order_id: int, **changes: object) -> list[Event]:
        plain = Replace(user_id, order_id, None, None, None, None, None, None, None)
        return self.do(plain._replace(**changes))

    def check(self) -> None:
        """What is true at all times: no money made or lost, and what is held is what open orders can still cost."""
        for asset in self.state.asset_decimals:
            assert self.state.accounts.missing(asset) == 0, asset
        held: dict[tuple[str, str], int] = {}
        for order in self.state.orders.all():
            instrument = order.terms.instrument
            assert instrument is not None
            key = (order.terms.user_id, held_asset(instrument, order.terms.side))
            held[key] = held.get(key, 0) + held_for(order)
        for user_id in self.state.users:
            for asset, balance in self.state.accounts.balances(user_id).items():
                assert balance.held == held.get((user_id, asset), 0), (user_id, asset)

    def deposit(self, user_id: str, **amounts: str) -> None:
        for asset, amount in amounts.items():
            self.do(Deposit(user_id, asset, amount))

    def place(self, user_id: str, side: Side, **changes: object) -> list[Event]:
        return self.do(place_of(user_id, side, **changes))

    def cancel(self, user_id: str, order_id: int) -> list[Event]:
        return self.do(Cancel(user_id, order_id, None, None))

    def balance(self, user_id: str, asset: str) -> tuple[int, int]:
        return tuple(self.state.accounts.balance(user_id, asset))


def place_of(user_id: str, side: Side, **changes: object) -> Place:
    """A LIMIT GTC order of BTC-USD, but for the changes."""
    plain = Place(
        user_id=user_id,
        client_order_id=None,
        symbol="BTC-USD",
        side=side,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        price=None,
        qty=None,
        quote_qty=None,
        post_only=False,
        self_trade_prevention=SelfTradePrevention.NONE,
    )
    return plain._replace(**changes)


def updates(events: list[Event]) -> list[OrderUpdate]:
    return [event for event in events if isinstance(event, OrderUpdate)]
