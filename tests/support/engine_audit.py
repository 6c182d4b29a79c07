"""The ledger read by somebody who shares no code with the engine: every invariant of its bytes, and what they say in the end."""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal, localcontext
from hashlib import sha256

from ordertape.v1 import ledger_pb2, order_pb2

OPEN = (order_pb2.ORDER_STATUS_NEW, order_pb2.ORDER_STATUS_PARTIALLY_FILLED)
BUY = order_pb2.SIDE_BUY
# What an order can say: (status before, what happened, status after).
_ALLOWED = {
    (before, order_pb2.ExecType.Value(f"EXEC_TYPE_{happened}"), order_pb2.OrderStatus.Value(f"ORDER_STATUS_{after}"))
    for befores, happened, after in [
        ((0,), "NEW", "NEW"),
        ((0,), "REJECTED", "REJECTED"),
        (OPEN, "TRADE", "PARTIALLY_FILLED"),
        (OPEN, "TRADE", "FILLED"),
        (OPEN, "CANCELLED", "CANCELLED"),
        (OPEN, "EXPIRED", "EXPIRED"),
        ((order_pb2.ORDER_STATUS_NEW,), "REPLACED", "NEW"),
        ((order_pb2.ORDER_STATUS_NEW,), "TRIGGERED", "NEW"),
        ((order_pb2.ORDER_STATUS_PARTIALLY_FILLED,), "REPLACED", "PARTIALLY_FILLED"),
        ((order_pb2.ORDER_STATUS_PARTIALLY_FILLED,), "REPLACED", "FILLED"),
    ]
    for before in befores
}
_KEYS = {
    "place_order": "client_order_id",
    **dict.fromkeys(("cancel_order", "replace_order", "cancel_orders", "deposit", "withdraw"), "request_id"),
}
_CONTROLS = ("set_trading_status", "set_user_status", "force_cancel_order", "set_instrument")
# A request about many orders takes several batches; its key is used with the one that says so.
_LAST_COMMAND = {"cancel_orders": "mass_cancel_done", "set_user_status": "user_status_set"}

Key = tuple[str, str, str]


class LedgerAudit:
    """Give it every batch from the first on; it raises AssertionError naming the sequence where something cannot be."""

    def __init__(self, batches: Iterable[bytes] = ()) -> None:
        self.sequence = 0
        self.epoch = 0
        self.trades = 0
        self.orders: dict[int, order_pb2.OrderUpdate] = {}
        self.balances: dict[tuple[str, str], tuple[Decimal, Decimal]] = defaultdict(lambda: (Decimal(0), Decimal(0)))
        self.by_key: dict[Key, ledger_pb2.LedgerBatch] = {}
        """The batch of each key: (member of the batch's request, user_id, key), for operators ("operator", "", key)."""
        self._time = 0
        self._hash = b""
        self._inside: dict[str, Decimal] = defaultdict(Decimal)  # deposits - withdrawals - fees, by asset
        self._held: dict[int, Decimal] = defaultdict(Decimal)  # by order
        self._updates_of_user: dict[str, int] = defaultdict(int)
        self._orders_of_user: dict[str, int] = defaultdict(int)
        for data in batches:
            self.add(data)

    def add(self, data: bytes) -> None:
        """Check and take the next batch."""
        with localcontext(prec=100):
            batch = ledger_pb2.LedgerBatch.FromString(data)
            assert batch.previous_hash == self._hash, self.sequence
            assert batch.first_sequence == self.sequence + 1
            assert batch.timestamp.nanos % 1000 == 0
            time = batch.timestamp.seconds * 1_000_000 + batch.timestamp.nanos // 1000
            assert time > self._time, f"time does not rise at {batch.first_sequence}"
            self._remember_key(batch)
            touched: set[int] = set()
            for command in batch.commands:
                self.sequence += 1
                assert command.sequence == self.sequence
                self._take(command, time + self.sequence - batch.first_sequence, touched)
            assert batch.epoch == self.epoch, self.sequence
            self._time = time + len(batch.commands) - 1
            self._hash = sha256(data).digest()
            for order_id in touched:
                self._check_hold(self.orders[order_id])

    def check_money(self) -> None:
        """For each asset: balances and holds + fees = deposits - withdrawals."""
        with localcontext(prec=100):
            owned: dict[str, Decimal] = defaultdict(Decimal)
            for (_, asset), (available, held) in self.balances.items():
                owned[asset] += available + held
            assert {asset: owned[asset] for asset in self._inside} == dict(self._inside)

    def open_orders(self) -> list[order_pb2.OrderUpdate]:
        return [update for update in self.orders.values() if update.status in OPEN]

    def _remember_key(self, batch: ledger_pb2.LedgerBatch) -> None:
        kind = batch.WhichOneof("request")
        assert kind is not None
        request = getattr(batch, kind)
        if kind in _KEYS:
            key = (kind, request.user_id, getattr(request, _KEYS[kind]))
        elif kind in _CONTROLS:
            key = ("operator", "", request.request_id)
        else:
            return
        last = _LAST_COMMAND.get(kind)
        if key[2] and (last is None or batch.commands[-1].HasField(last)):  # type: ignore[arg-type]
            assert key not in self.by_key, f"{key} was done twice, again at {batch.first_sequence}"
            self.by_key[key] = batch

    def _take(self, command: ledger_pb2.LedgerCommand, time: int, touched: set[int]) -> None:
        kind = command.WhichOneof("command")
        event = getattr(command, str(kind))
        if kind == "order_update":
            self._update(event, time)
            touched.add(event.order_id)
        elif kind == "match_exec":
            self._match(event)
            touched.update((event.taker_order_id, event.maker_order_id))
        elif kind in ("deposit", "withdraw"):
            amount = _above_zero(event.amount) * (1 if kind == "deposit" else -1)
            self._inside[event.asset] += amount
            self._move(event, amount, Decimal(0))
        elif kind in ("lock", "unlock"):
            amount = _above_zero(event.amount) * (1 if kind == "lock" else -1)
            self._held[event.order_id] += amount
            self._move(event, -amount, amount)
        elif kind == "engine_started":
            self.epoch += 1
            assert event.epoch == self.epoch
        else:
            others = ("instrument_set", "trading_status_set", "user_status_set", "mass_cancel_done")
            assert kind in others, f"{kind} at {self.sequence}"

    def _move(self, line: ledger_pb2.BalanceChange, available: Decimal, held: Decimal) -> None:
        before = self.balances[line.user_id, line.asset]
        after = (before[0] + available, before[1] + held)
        assert min(after) >= 0, self.sequence
        assert (Decimal(line.available_after), Decimal(line.held_after)) == after, f"{line} at {self.sequence}"
        self.balances[line.user_id, line.asset] = after

    def _match(self, match: ledger_pb2.MatchExec) -> None:
        self.trades += 1
        assert match.trade_id == self.trades
        quote, qty = Decimal(match.quote), Decimal(match.qty)
        assert quote == Decimal(match.price) * qty
        taker_fee, maker_fee = Decimal(match.taker_fee), Decimal(match.maker_fee)
        gives, receives = (quote, qty) if match.taker_side == BUY else (qty, quote)
        for line, amount in (
            (match.taker_gives, gives),
            (match.taker_receives, receives - taker_fee),
            (match.maker_gives, receives),
            (match.maker_receives, gives - maker_fee),
        ):
            assert Decimal(line.amount) == amount, self.sequence
            takes = line in (match.taker_gives, match.maker_gives)
            self._move(line, Decimal(0) if takes else amount, -amount if takes else Decimal(0))
        self._inside[match.taker_receives.asset] -= taker_fee
        self._inside[match.maker_receives.asset] -= maker_fee
        self._held[match.taker_order_id] -= gives
        self._held[match.maker_order_id] -= receives

    def _update(self, update: order_pb2.OrderUpdate, time: int) -> None:
        place = f"order {update.order_id} at {self.sequence}"
        before = self.orders.get(update.order_id)
        assert update.sequence == self.sequence
        assert update.timestamp.seconds * 1_000_000 + update.timestamp.nanos // 1000 == time
        previous = before.status if before is not None else 0
        assert (update.previous_status if update.HasField("previous_status") else 0) == previous, place
        assert (previous, update.exec_type, update.status) in _ALLOWED, place
        assert update.update_number == (before.update_number + 1 if before is not None else 1)
        self._updates_of_user[update.user_id] += 1
        assert update.user_update_number == self._updates_of_user[update.user_id]
        if before is None:
            self._orders_of_user[update.user_id] += 1
            assert update.order_id == max(self.orders, default=0) + 1
            assert update.order_number == self._orders_of_user[update.user_id]
            assert update.filled_qty == "0"
        else:
            _check_progress(before, update)
        if update.status in OPEN:
            if update.HasField("qty"):
                assert Decimal(update.qty) == Decimal(update.filled_qty) + Decimal(update.leaves_qty)
            else:
                assert Decimal(update.quote_qty) == Decimal(update.cumulative_quote) + Decimal(update.leaves_quote_qty)
        else:
            assert (update.leaves_qty or update.leaves_quote_qty) == "0"
        self.orders[update.order_id] = update

    def _check_hold(self, order: order_pb2.OrderUpdate) -> None:
        cost = Decimal(0)
        if order.status in OPEN:
            waits = order.HasField("stop_price") and not order.HasField("triggered_at")
            if waits:
                assert not order.HasField("visible_qty")
            elif order.HasField("display_qty"):
                assert 0 < Decimal(order.visible_qty) <= min(Decimal(order.display_qty), Decimal(order.leaves_qty))
            else:
                assert order.visible_qty == order.leaves_qty
            cost = _cost(order)
        assert self._held[order.order_id] == cost, f"order {order.order_id} holds {self._held[order.order_id]}, costs {cost}"


def _cost(order: order_pb2.OrderUpdate) -> Decimal:
    """What an open order can still cost; a stop order that will buy a qty at the market cannot know."""
    if order.HasField("leaves_quote_qty"):
        return Decimal(order.leaves_quote_qty)
    if order.side != BUY:
        return Decimal(order.leaves_qty)
    return Decimal(order.leaves_qty) * Decimal(order.price) if order.HasField("price") else Decimal(0)


def _check_progress(before: order_pb2.OrderUpdate, update: order_pb2.OrderUpdate) -> None:
    filled, quote, fee = (Decimal(update.fill.qty or 0), Decimal(update.fill.quote or 0), Decimal(update.fill.fee or 0))
    assert update.HasField("fill") == (update.exec_type == order_pb2.EXEC_TYPE_TRADE)
    assert Decimal(update.filled_qty) == Decimal(before.filled_qty) + filled
    assert update.version == before.version + (update.exec_type == order_pb2.EXEC_TYPE_REPLACED)
    triggers = update.exec_type == order_pb2.EXEC_TYPE_TRIGGERED
    assert update.HasField("triggered_at") == (triggers or before.HasField("triggered_at"))
    assert Decimal(update.cumulative_quote) == Decimal(before.cumulative_quote) + quote
    assert Decimal(update.cumulative_fee) == Decimal(before.cumulative_fee) + fee
    assert (update.created_at, update.order_number, update.client_order_id, update.user_id) == (
        before.created_at,
        before.order_number,
        before.client_order_id,
        before.user_id,
    )


def _above_zero(text: str) -> Decimal:
    amount = Decimal(text)
    assert amount > 0
    return amount
