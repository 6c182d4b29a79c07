"""What a recording is replayed into: the pure core, or the whole engine over gRPC. Everybody is rich and pays no fee, buyers and
sellers are one user each, takers another two, and an order is named by the venue's number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ordertape.v1 import ledger_pb2, order_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from services.domain.commands import ApplyConfig, Cancel, Command, Deposit, Replace, StartEngine
from services.domain.events import Event, ExchangeRules, Matched
from services.domain.exchange import decide
from services.domain.instrument import InstrumentRules
from services.domain.kinds import OrderStatus, Side, TimeInForce
from services.domain.state import ExchangeState
from tests.support.engine_client import EngineClient
from tests.support.engine_exchange import running_engine
from tests.support.exchange import place_of, updates

DECIMALS = 4
PRICE_SCALE = 10**DECIMALS
SHARES = InstrumentRules(
    symbol="SHARES", base_asset="SHARE", quote_asset="USD", base_asset_decimals=0, quote_asset_decimals=DECIMALS,
    price_decimals=DECIMALS, qty_decimals=0, price_step="0.0001", qty_step="1", price_min="0.0001", price_max="999999",
    qty_min="1", qty_max="999999999",
)  # fmt: skip
USERS = ("BUYS", "SELLS", "TAKES-BUYS", "TAKES-SELLS")
RICH = "9999999999999"


class Traded(NamedTuple):
    """One trade of a taker: with whose order (the venue's number), at what price (x 10 000), how much."""

    maker: str
    price: int
    qty: int


Levels = list[tuple[int, int, int]]
"""Price (x 10 000), qty, number of orders; the best first."""


class Venue(Protocol):
    """What a recording needs of an exchange. Prices are whole numbers: dollars x 10 000."""

    def add(self, name: str, side: Side, price: int, qty: int) -> None:
        """A new limit order that rests; AssertionError where it does anything else."""
        ...

    def take(self, side: Side, price: int, qty: int) -> list[Traded]:
        """A new immediate-or-cancel order: what it trades."""
        ...

    def reduce(self, name: str, side: Side, qty: int) -> None:
        """Leave an order this much less than its qty was."""
        ...

    def cancel(self, name: str, side: Side) -> int:
        """End an order: what it had left."""
        ...

    def levels(self, side: Side, depth: int) -> Levels:
        """The best prices of one side."""
        ...


class CoreVenue:
    """The pure core."""

    def __init__(self) -> None:
        self.state = ExchangeState()
        self._qty: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._takers = 0
        self._do(StartEngine("0123456789abcdef", 1, 1, "test", ExchangeRules(5000)))
        self._do(ApplyConfig(SHARES))
        for user in USERS:
            self._do(Deposit(user, "USD", RICH))
            self._do(Deposit(user, "SHARE", RICH))

    def add(self, name: str, side: Side, price: int, qty: int) -> None:
        (update,) = updates(self._place(USERS[side - 1], name, side, price, qty, TimeInForce.GTC))
        assert (update.status, update.visible) == (OrderStatus.NEW, qty), f"order {name} did not come to rest"
        self._qty[name] = qty
        self._names[update.terms.order_id] = name

    def take(self, side: Side, price: int, qty: int) -> list[Traded]:
        self._takers += 1
        events = self._place(USERS[side + 1], f"taker-{self._takers}", side, price, qty, TimeInForce.IOC)
        return [Traded(self._names[e.maker_order_id], e.price, e.qty) for e in events if isinstance(e, Matched)]

    def reduce(self, name: str, side: Side, qty: int) -> None:
        self._qty[name] -= qty
        self._do(Replace(USERS[side - 1], None, name, None, None, str(self._qty[name]), None, None, None))

    def cancel(self, name: str, side: Side) -> int:
        order_id = self.state.orders.id_of(USERS[side - 1], name)
        assert order_id is not None
        order = self.state.orders.get(order_id)
        assert order is not None
        self._do(Cancel(USERS[side - 1], order_id, None, None))
        assert order.leaves is not None
        return order.leaves

    def levels(self, side: Side, depth: int) -> Levels:
        return [tuple(level) for level in self.state.books["SHARES"].side(side).levels(depth)]

    def first_at_best(self, side: Side) -> tuple[str, int]:
        """Who trades next on a side, and at what price."""
        price, orders = next(self.state.books["SHARES"].side(side).queues())
        return self._names[next(iter(orders)).terms.order_id], price

    def missing(self) -> int:
        """0, or money was made or lost."""
        return sum(abs(self.state.accounts.missing(asset)) for asset in ("USD", "SHARE"))

    def _place(self, user: str, name: str, side: Side, price: int, qty: int, time_in_force: TimeInForce) -> list[Event]:
        order = place_of(user, side, symbol="SHARES", client_order_id=name, price=price_text(price), qty=str(qty))
        return self._do(order._replace(time_in_force=time_in_force))

    def _do(self, command: Command) -> list[Event]:
        events = decide(self.state, command, self.state.time + 1)
        self.state.apply(events, self.state.time + 1)
        return events


class GrpcVenue:
    """An engine with a real ledger, called over gRPC."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._qty: dict[str, int] = {}
        self._names: dict[int, str] = {}
        client.fund(*USERS, USD=RICH, SHARE=RICH)

    def add(self, name: str, side: Side, price: int, qty: int) -> None:
        request = self._limit(USERS[side - 1], side, price, qty, client_order_id=name)
        (update,) = self._client.place(request).updates
        assert (update.status, update.visible_qty) == (order_pb2.ORDER_STATUS_NEW, str(qty)), f"order {name} did not rest"
        self._qty[name] = qty
        self._names[update.order_id] = name

    def take(self, side: Side, price: int, qty: int) -> list[Traded]:
        request = self._limit(USERS[side + 1], side, price, qty, time_in_force=order_pb2.TIME_IN_FORCE_IOC)
        before = self._client.durable_sequence()
        self._client.place(request)
        (batch,) = map(ledger_pb2.LedgerBatch.FromString, self._client.batches(before))
        trades = [command.match_exec for command in batch.commands if command.HasField("match_exec")]
        return [Traded(self._names[t.maker_order_id], price_of(t.price), int(t.qty)) for t in trades]

    def reduce(self, name: str, side: Side, qty: int) -> None:
        self._qty[name] -= qty
        request = pb.ReplaceOrderRequest(user_id=USERS[side - 1], client_order_id=name, qty=str(self._qty[name]))
        self._client.engine.ReplaceOrder(request, timeout=20)

    def cancel(self, name: str, side: Side) -> int:
        (update,) = self._client.cancel(pb.CancelOrderRequest(user_id=USERS[side - 1], client_order_id=name)).updates
        return int(update.qty) - int(update.filled_qty)

    def levels(self, side: Side, depth: int) -> Levels:
        book = self._client.engine.GetOrderBook(pb.GetOrderBookRequest(symbol="SHARES", depth=depth), timeout=20)
        levels = book.bids if side == Side.BUY else book.asks
        return [(price_of(level.price), int(level.qty), level.order_count) for level in levels]

    def _limit(self, user: str, side: Side, price: int, qty: int, **fields: Any) -> pb.PlaceOrderRequest:
        return pb.PlaceOrderRequest(
            user_id=user, symbol="SHARES", side=side, order_type=order_pb2.ORDER_TYPE_LIMIT, price=price_text(price),
            qty=str(qty), **fields,
        )  # fmt: skip


@contextmanager
def venue_of(kind: str, folder: Path) -> Iterator[Venue]:
    """The venue of a kind: ``core``, or ``grpc`` with its ledger in ``folder``."""
    if kind == "core":
        yield CoreVenue()
        return
    config = {name: getattr(SHARES, name) for name in InstrumentRules.__slots__ if name != "price_band_rate"}
    with running_engine(folder, instruments=[config]) as engine, EngineClient(engine.address) as client:
        yield GrpcVenue(client)


def price_text(price: int) -> str:
    """Dollars as the contract writes them."""
    text = f"{Decimal(price).scaleb(-DECIMALS):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def price_of(text: str) -> int:
    """Dollars x 10 000."""
    return int(Decimal(text).scaleb(DECIMALS))
