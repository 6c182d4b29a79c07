"""What the ledger says of balances and books, by its own lines alone: a fold that shares no code with the engine's, to compare
the running engine with.
"""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Final, NamedTuple, TypeAlias

from ordertape.v1 import instrument_pb2, ledger_pb2, matching_engine_pb2, order_pb2
from services.order_history.order_processor import Chunk, ReceivedBatch, StoredUpdate

Balances: TypeAlias = dict[str, tuple[str, str]]
_MATCH_LINES = ("taker_gives", "taker_receives", "maker_gives", "maker_receives")
_CHANGES = frozenset({"lock", "unlock", "deposit", "withdraw"})
_ZERO = ("0", "0")
_STATUS_NAMES: Final[dict[int, str]] = {number: name for name, number in instrument_pb2.TradingStatus.items()}


class EngineDifference(NamedTuple):
    """Something that the engine says otherwise than its ledger: of what, at which sequence, and what each says."""

    what: str
    sequence: int
    ledger: str
    engine: str


class EngineState:
    """The fold of the commands so far."""

    def __init__(self) -> None:
        self.balances: defaultdict[str, Balances] = defaultdict(dict)
        self.open_orders: dict[int, StoredUpdate] = {}
        self.trading_statuses: dict[str, int] = {}
        self._last_prices: dict[str, str] = {}

    def apply(self, batches: Iterable[ReceivedBatch], chunk: Chunk) -> None:
        """Take in the batches; ``chunk`` is what they come to for all users."""
        for batch in batches:
            for command in batch.message.commands:
                kind = command.WhichOneof("command")
                if kind != "order_update":
                    self._apply(kind, command)
        for order_id in chunk.closed:
            self.open_orders.pop(order_id, None)
        self.open_orders.update(chunk.open)

    def _apply(self, kind: str | None, command: ledger_pb2.LedgerCommand) -> None:
        if kind in _CHANGES:
            self._change(getattr(command, str(kind)))
        elif kind == "match_exec":
            match = command.match_exec
            for line in _MATCH_LINES:
                self._change(getattr(match, line))
            self._last_prices[match.symbol] = match.price
        elif kind == "instrument_set":
            self.trading_statuses.setdefault(command.instrument_set.instrument.symbol, instrument_pb2.TRADING_STATUS_TRADING)
        elif kind == "trading_status_set":
            self.trading_statuses[command.trading_status_set.symbol] = command.trading_status_set.status

    def _change(
        self, line: ledger_pb2.Deposit | ledger_pb2.Withdraw | ledger_pb2.Lock | ledger_pb2.Unlock | ledger_pb2.BalanceChange
    ) -> None:
        self.balances[line.user_id][line.asset] = line.available_after, line.held_after

    def check_balances(
        self, sequence: int, user_id: str, answer: matching_engine_pb2.ListBalancesResponse
    ) -> list[EngineDifference]:
        """Compare an answer that is of the ledger's present place."""
        mine, theirs = self.balances.get(user_id, {}), {b.asset: (b.available, b.held) for b in answer.balances}
        return [
            EngineDifference(f"{asset} of {user_id}", sequence, _balance(mine.get(asset)), _balance(theirs.get(asset)))
            for asset in sorted(mine.keys() | theirs.keys())
            if mine.get(asset, _ZERO) != theirs.get(asset, _ZERO)
        ]

    def check_book(
        self, sequence: int, symbol: str, depth: int, answer: matching_engine_pb2.GetOrderBookResponse
    ) -> list[EngineDifference]:
        """Compare an answer that is of the ledger's present place, down to the ``depth`` levels a side that were asked for."""
        levels = self._levels(symbol)
        pairs = [
            ("bids", levels[order_pb2.SIDE_BUY][:depth], [_level(level) for level in answer.bids]),
            ("asks", levels[order_pb2.SIDE_SELL][:depth], [_level(level) for level in answer.asks]),
            ("last trade", self._last_prices.get(symbol, ""), answer.last_trade_price),
            (
                "trading status",
                _STATUS_NAMES.get(self.trading_statuses.get(symbol, 0), ""),
                _STATUS_NAMES.get(answer.trading_status, ""),
            ),
        ]
        found = []
        for what, ledger, engine in pairs:
            if ledger != engine:
                told = _first_level(ledger, engine) if isinstance(ledger, list) and isinstance(engine, list) else (ledger, engine)
                found.append(EngineDifference(f"{what} of {symbol}", sequence, str(told[0] or "none"), str(told[1] or "none")))
        return found

    def _levels(self, symbol: str) -> dict[int, list["_Level"]]:
        """The visible orders of each side by price, best first."""
        sums: defaultdict[tuple[int, Decimal], tuple[Decimal, int]] = defaultdict(lambda: (Decimal(0), 0))
        for stored in self.open_orders.values():
            if stored.symbol == symbol:
                order = stored.message
                if order.HasField("visible_qty"):
                    qty, count = sums[order.side, Decimal(order.price)]
                    sums[order.side, Decimal(order.price)] = qty + Decimal(order.visible_qty), count + 1
        levels: dict[int, list[_Level]] = {order_pb2.SIDE_BUY: [], order_pb2.SIDE_SELL: []}
        for side, price in sorted(sums, key=lambda key: key[1]):
            levels[side].append(_Level(price, *sums[side, price]))
        levels[order_pb2.SIDE_BUY].reverse()
        return levels


class _Level(NamedTuple):
    price: Decimal
    qty: Decimal
    order_count: int

    def __str__(self) -> str:
        return f"{self.qty} at {self.price} of {self.order_count} orders"


def _level(level: matching_engine_pb2.BookLevel) -> _Level:
    return _Level(Decimal(level.price), Decimal(level.qty), level.order_count)


def _first_level(ledger: list[_Level], engine: list[_Level]) -> tuple[_Level | None, _Level | None]:
    place = next(
        (n for n, pair in enumerate(zip(ledger, engine, strict=False)) if pair[0] != pair[1]), min(len(ledger), len(engine))
    )
    return (ledger[place] if place < len(ledger) else None, engine[place] if place < len(engine) else None)


def _balance(balance: tuple[str, str] | None) -> str:
    return "none" if balance is None else f"available {balance[0]}, held {balance[1]}"
