"""Drives the pure core in a test: commands in, events out, time rising by itself."""

from services.domain.commands import ApplyConfig, Cancel, Command, Deposit, Place, StartEngine
from services.domain.events import Event, ExchangeRules
from services.domain.exchange import RULES_VERSION, decide
from services.domain.instrument import InstrumentRules
from services.domain.kinds import OrderType, SelfTradePrevention, Side, TimeInForce
from services.domain.order import OrderUpdate
from services.domain.state import ExchangeState

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

    def __init__(self, *instruments: InstrumentRules, trades_per_order_max: int = 5000) -> None:
        self.state = ExchangeState()
        self.time = 1_700_000_000_000_000
        self.log: list[tuple[Command, int, list[Event]]] = []
        rules = ExchangeRules(trades_per_order_max)
        self.do(StartEngine("0123456789abcdef", 1, RULES_VERSION, "test", rules))
        for instrument in instruments or (BTC_USD,):
            self.do(ApplyConfig(instrument))

    def do(self, command: Command) -> list[Event]:
        events = decide(self.state, command, self.time)
        self.state.apply(events, self.time)
        self.log.append((command, self.time, events))
        self.time = self.state.time + 1000
        return events

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
