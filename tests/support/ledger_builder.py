"""Makes ledgers for tests of their readers: hand-built batches with the sequences, times, hashes and running numbers that the
engine would give, without an engine. Prices and quantities are whole numbers, there are no fees.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Context, Decimal

from google.protobuf.timestamp_pb2 import Timestamp

from ordertape.v1 import instrument_pb2, ledger_pb2, matching_engine_pb2, order_pb2
from services.order_history.order_processor import ReceivedBatch

LEDGER_ID = "00112233aabbccdd"
START_TIME = 1_750_000_000_000_000
OPEN = (order_pb2.ORDER_STATUS_NEW, order_pb2.ORDER_STATUS_PARTIALLY_FILLED)
_AVERAGE = Context(prec=12, rounding=ROUND_HALF_UP)


@dataclass
class _Numbers:
    orders: int = 0
    updates: int = 0


@dataclass
class _Balance:
    available: int = 0
    held: int = 0


@dataclass
class LedgerBuilder:
    """A growing ledger. Every method that makes a batch appends it to ``batches``; ``orders`` has each order's newest update,
    ``updates`` all of them in ledger order.
    """

    ledger_id: str = LEDGER_ID
    time: int = START_TIME
    epoch: int = 0
    batches: list[ReceivedBatch] = field(default_factory=list)
    orders: dict[int, order_pb2.OrderUpdate] = field(default_factory=dict)
    updates: list[order_pb2.OrderUpdate] = field(default_factory=list)
    _numbers: dict[str, _Numbers] = field(default_factory=lambda: defaultdict(_Numbers))
    _balances: dict[tuple[str, str], _Balance] = field(default_factory=lambda: defaultdict(_Balance))
    _batch: ledger_pb2.LedgerBatch = field(default_factory=ledger_pb2.LedgerBatch)
    _trades: int = 0

    @property
    def sequence(self) -> int:
        """The last sequence of the last batch; 0 for an empty ledger."""
        return self.batches[-1].last_sequence if self.batches else 0

    @property
    def hash(self) -> bytes:
        """The last batch's hash; empty for an empty ledger."""
        return self.batches[-1].hash if self.batches else b""

    @property
    def data(self) -> list[bytes]:
        """Every batch's bytes."""
        return [batch.data for batch in self.batches]

    def open_orders(self, user_id: str | None = None) -> list[order_pb2.OrderUpdate]:
        """The open orders, all or one user's, by order_id."""
        return [o for o in self.orders.values() if o.status in OPEN and user_id in (None, o.user_id)]

    def frame(self, batches: Iterable[ReceivedBatch], durable_sequence: int | None = None) -> ledger_pb2.LedgerFrame:
        """The batches as a message of the feed."""
        return ledger_pb2.LedgerFrame(
            ledger_id=self.ledger_id,
            epoch=self.epoch,
            durable_sequence=self.sequence if durable_sequence is None else durable_sequence,
            batches=[batch.data for batch in batches],
        )

    def start_engine(self) -> None:
        """A new epoch begins."""
        self.epoch += 1
        batch = self._begin()
        rules = ledger_pb2.ExchangeRules(trades_per_order_max=5000)
        values = {"ledger_id": self.ledger_id, "epoch": self.epoch, "rules_version": 1, "rules": rules}
        batch.start_engine.CopyFrom(ledger_pb2.StartEngine(**values))
        self._add(engine_started=ledger_pb2.EngineStarted(**values))
        self._end()

    def set_instrument(self, symbol: str = "BTC-USD") -> None:
        """The instrument is there from here on."""
        base, quote = symbol.split("-")
        instrument = instrument_pb2.Instrument(
            symbol=symbol, base_asset=base, quote_asset=quote, price_step="1", qty_step="1", price_min="1",
            price_max="1000000", qty_min="1", qty_max="1000000", notional_min="0", maker_fee_rate="0", taker_fee_rate="0",
        )  # fmt: skip
        self._begin().apply_config.CopyFrom(ledger_pb2.ApplyConfig(instrument=instrument))
        self._add(instrument_set=ledger_pb2.InstrumentSet(instrument=instrument))
        self._end()

    def deposit(self, user_id: str, asset: str = "USD", amount: int = 10**15) -> None:
        """Money comes in."""
        request = matching_engine_pb2.DepositRequest(
            user_id=user_id, asset=asset, amount=str(amount), request_id=f"d{self.sequence}"
        )
        self._begin().deposit.CopyFrom(request)
        balance = self._balances[user_id, asset]
        balance.available += amount
        self._add(deposit=ledger_pb2.Deposit(**self._line(user_id, asset, amount)))
        self._end()

    def open_market(self, users: Iterable[str], symbols: Iterable[str] = ("BTC-USD",)) -> None:
        """The engine starts, with instruments, and users that own plenty."""
        self.start_engine()
        assets = sorted({asset for symbol in symbols for asset in symbol.split("-")})
        for symbol in symbols:
            self.set_instrument(symbol)
        for user_id in users:
            for asset in assets:
                self.deposit(user_id, asset)

    def place(
        self,
        user_id: str,
        side: int = order_pb2.SIDE_BUY,
        price: int = 100,
        qty: int = 10,
        symbol: str = "BTC-USD",
        client_order_id: str | None = None,
        takes: Sequence[tuple[int, int]] = (),
        immediate: bool = False,
    ) -> int:
        """Place a LIMIT order that takes (maker's order_id, qty) one after the other and rests with what is left, or lets
        it expire if ``immediate``. Returns its order_id.
        """
        order = self._new_order(user_id, side, price, qty, symbol, client_order_id, immediate)
        self._hold(order, price * qty if side == order_pb2.SIDE_BUY else qty)
        order = self._update(order, status=order_pb2.ORDER_STATUS_NEW, exec_type=order_pb2.EXEC_TYPE_NEW, leaves_qty=str(qty))
        for maker_order_id, traded in takes:
            order = self._trade(order, self.orders[maker_order_id], traded)
        if immediate and order.status in OPEN:
            self._free(order)
            self._update(
                order, status=order_pb2.ORDER_STATUS_EXPIRED, exec_type=order_pb2.EXEC_TYPE_EXPIRED, leaves_qty="0",
                expire_reason=order_pb2.EXPIRE_REASON_IOC_REST,
            )  # fmt: skip
        self._end()
        return order.order_id

    def reject(
        self, user_id: str, price: int = 100, qty: int = 10, symbol: str = "BTC-USD", client_order_id: str | None = None
    ) -> int:
        """An order is refused. Returns its order_id."""
        order = self._new_order(user_id, order_pb2.SIDE_BUY, price, qty, symbol, client_order_id, immediate=False)
        self._update(
            order, status=order_pb2.ORDER_STATUS_REJECTED, exec_type=order_pb2.EXEC_TYPE_REJECTED, leaves_qty="0",
            reject_reason=order_pb2.REJECT_REASON_INSUFFICIENT_FUNDS, reason_text="not enough USD",
        )  # fmt: skip
        self._end()
        return order.order_id

    def cancel(self, order_id: int) -> None:
        """The order's user cancels it."""
        order = self.orders[order_id]
        request = matching_engine_pb2.CancelOrderRequest(user_id=order.user_id, order_id=order_id)
        self._begin().cancel_order.CopyFrom(request)
        self._free(order)
        self._update(
            order, status=order_pb2.ORDER_STATUS_CANCELLED, exec_type=order_pb2.EXEC_TYPE_CANCELLED, leaves_qty="0",
            cancel_reason=order_pb2.CANCEL_REASON_USER,
        )  # fmt: skip
        self._end()

    def live_on(
        self,
        orders: int,
        users: Sequence[str] = ("alice", "bob", "carol"),
        symbols: Sequence[str] = ("BTC-USD", "ETH-USD"),
        seed: int = 1,
        open_orders_max: int = 50,
    ) -> None:
        """Go on with ``orders`` random orders: they rest, trade, are refused, expire and get cancelled."""
        chance = random.Random(seed)
        resting = [order.order_id for order in self.open_orders()]
        for number in range(orders):
            self.time += chance.randrange(1_000_000)
            user_id, symbol = chance.choice(users), chance.choice(symbols)
            name = f"c{len(self.orders)}.{number}" if chance.random() < 0.7 else None
            kind = chance.random()
            makers = [i for i in resting if self.orders[i].symbol == symbol and self.orders[i].side == order_pb2.SIDE_SELL]
            if kind < 0.1:
                self.reject(user_id, symbol=symbol, client_order_id=name)
            elif kind < 0.4 and makers:
                takes, wanted = [], 0
                for maker in chance.sample(makers, min(len(makers), chance.randint(1, 3))):
                    traded = chance.randint(1, int(self.orders[maker].leaves_qty))
                    takes.append((maker, traded))
                    wanted += traded
                extra, immediate = chance.choice((0, 0, 5)), chance.random() < 0.5
                resting.append(
                    self.place(user_id, order_pb2.SIDE_BUY, 100, wanted + extra, symbol, name, takes=takes, immediate=immediate)
                )
            else:
                side = chance.choice((order_pb2.SIDE_BUY, order_pb2.SIDE_SELL))
                resting.append(self.place(user_id, side, 100, chance.randint(1, 20), symbol, name))
            resting = [i for i in resting if self.orders[i].status in OPEN]
            while resting and (len(resting) > open_orders_max or chance.random() < 0.3):
                self.cancel(resting.pop(chance.randrange(len(resting))))

    def _begin(self) -> ledger_pb2.LedgerBatch:
        self.time += 1_000
        self._batch = ledger_pb2.LedgerBatch(
            epoch=self.epoch, first_sequence=self.sequence + 1, previous_hash=self.hash, timestamp=timestamp_of(self.time)
        )
        return self._batch

    def _end(self) -> None:
        data = self._batch.SerializeToString()
        self.batches.append(received(data))
        self.time += len(self._batch.commands)

    def _add(self, **command: object) -> None:
        self._batch.commands.append(ledger_pb2.LedgerCommand(sequence=self._next_sequence(), **command))  # type: ignore[arg-type]

    def _next_sequence(self) -> int:
        return self._batch.first_sequence + len(self._batch.commands)

    def _line(self, user_id: str, asset: str, amount: int) -> dict[str, str]:
        balance = self._balances[user_id, asset]
        return {
            "user_id": user_id,
            "asset": asset,
            "amount": str(amount),
            "available_after": str(balance.available),
            "held_after": str(balance.held),
        }

    def _new_order(
        self, user_id: str, side: int, price: int, qty: int, symbol: str, client_order_id: str | None, immediate: bool
    ) -> order_pb2.OrderUpdate:
        time_in_force = order_pb2.TIME_IN_FORCE_IOC if immediate else order_pb2.TIME_IN_FORCE_GTC
        terms = {
            "user_id": user_id, "client_order_id": client_order_id, "symbol": symbol, "side": side,
            "order_type": order_pb2.ORDER_TYPE_LIMIT, "time_in_force": time_in_force, "price": str(price), "qty": str(qty),
            "self_trade_prevention": order_pb2.SELF_TRADE_PREVENTION_NONE,
        }  # fmt: skip
        self._begin().place_order.CopyFrom(matching_engine_pb2.PlaceOrderRequest(**terms))  # type: ignore[arg-type]
        base, quote = symbol.split("-")
        numbers = self._numbers[user_id]
        numbers.orders += 1
        return order_pb2.OrderUpdate(
            **terms, order_id=len(self.orders) + 1, order_number=numbers.orders, version=1, filled_qty="0",
            cumulative_quote="0", cumulative_fee="0", fee_asset=base if side == order_pb2.SIDE_BUY else quote,
        )  # type: ignore[arg-type]  # fmt: skip

    def _update(self, order: order_pb2.OrderUpdate, **changes: object) -> order_pb2.OrderUpdate:
        sequence = self._next_sequence()
        update = order_pb2.OrderUpdate()
        update.CopyFrom(order)
        for name in ("fill", "previous_status"):
            update.ClearField(name)  # type: ignore[arg-type]
        if order.update_number:
            update.previous_status = order.status
        update.sequence = sequence
        update.timestamp.CopyFrom(timestamp_of(self.time + len(self._batch.commands)))
        update.update_number += 1
        if update.update_number == 1:
            update.created_at.CopyFrom(update.timestamp)
        numbers = self._numbers[update.user_id]
        numbers.updates += 1
        update.user_update_number = numbers.updates
        update.MergeFrom(order_pb2.OrderUpdate(**changes))  # type: ignore[arg-type]
        if update.exec_type == order_pb2.EXEC_TYPE_NEW and update.time_in_force == order_pb2.TIME_IN_FORCE_GTC:
            update.queue_sequence = sequence
        self._add(order_update=update)
        self.orders[update.order_id] = update
        self.updates.append(update)
        return update

    def _trade(self, taker: order_pb2.OrderUpdate, maker: order_pb2.OrderUpdate, qty: int) -> order_pb2.OrderUpdate:
        self._trades += 1
        price, quote = int(maker.price), int(maker.price) * qty
        lines = {}
        for name, order in (("taker", taker), ("maker", maker)):
            base_asset, quote_asset = order.symbol.split("-")
            gives, receives = (quote_asset, quote), (base_asset, qty)
            if order.side == order_pb2.SIDE_SELL:
                gives, receives = receives, gives
            self._balances[order.user_id, gives[0]].held -= gives[1]
            lines[f"{name}_gives"] = ledger_pb2.BalanceChange(**self._line(order.user_id, *gives))
            self._balances[order.user_id, receives[0]].available += receives[1]
            lines[f"{name}_receives"] = ledger_pb2.BalanceChange(**self._line(order.user_id, *receives))
        self._add(
            match_exec=ledger_pb2.MatchExec(
                trade_id=self._trades,
                symbol=taker.symbol,
                price=str(price),
                qty=str(qty),
                quote=str(quote),
                taker_side=taker.side,
                taker_order_id=taker.order_id,
                maker_order_id=maker.order_id,
                **lines,
                taker_fee="0",
                maker_fee="0",
            )
        )
        improvement = (int(taker.price) - price) * qty
        if taker.side == order_pb2.SIDE_BUY and improvement:
            self._move(taker, -improvement, ledger_pb2.Unlock)
        taker = self._traded(taker, price, qty, order_pb2.LIQUIDITY_SIDE_TAKER)
        self._traded(maker, price, qty, order_pb2.LIQUIDITY_SIDE_MAKER)
        return taker

    def _traded(self, order: order_pb2.OrderUpdate, price: int, qty: int, liquidity: int) -> order_pb2.OrderUpdate:
        filled, leaves = int(order.filled_qty) + qty, int(order.leaves_qty) - qty
        quote = int(order.cumulative_quote) + price * qty
        fill = order_pb2.Fill(
            trade_id=self._trades, price=str(price), qty=str(qty), quote=str(price * qty), fee="0", fee_asset=order.fee_asset,
            liquidity=liquidity,
        )  # type: ignore[arg-type]  # fmt: skip
        return self._update(
            order,
            status=order_pb2.ORDER_STATUS_PARTIALLY_FILLED if leaves else order_pb2.ORDER_STATUS_FILLED,
            exec_type=order_pb2.EXEC_TYPE_TRADE, fill=fill, filled_qty=str(filled), leaves_qty=str(leaves),
            cumulative_quote=str(quote), avg_fill_price=f"{_AVERAGE.divide(Decimal(quote), Decimal(filled)).normalize():f}",
        )  # fmt: skip

    def _hold(self, order: order_pb2.OrderUpdate, amount: int) -> None:
        self._move(order, amount, ledger_pb2.Lock)

    def _free(self, order: order_pb2.OrderUpdate) -> None:
        leaves = int(order.leaves_qty)
        self._move(order, -(int(order.price) * leaves if order.side == order_pb2.SIDE_BUY else leaves), ledger_pb2.Unlock)

    def _move(self, order: order_pb2.OrderUpdate, amount: int, kind: type[ledger_pb2.Lock] | type[ledger_pb2.Unlock]) -> None:
        base, quote = order.symbol.split("-")
        asset = quote if order.side == order_pb2.SIDE_BUY else base
        balance = self._balances[order.user_id, asset]
        balance.available -= amount
        balance.held += amount
        command = kind(order_id=order.order_id, **self._line(order.user_id, asset, abs(amount)))  # type: ignore[arg-type]
        self._add(**{"lock" if kind is ledger_pb2.Lock else "unlock": command})


def received(data: bytes) -> ReceivedBatch:
    """The batch with these bytes, as a receiver has it."""
    message = ledger_pb2.LedgerBatch.FromString(data)
    last_sequence = message.first_sequence + len(message.commands) - 1
    return ReceivedBatch(message.first_sequence, last_sequence, hashlib.sha256(data).digest(), data, message)


def timestamp_of(microseconds: int) -> Timestamp:
    """The time as the contract says it."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000)
