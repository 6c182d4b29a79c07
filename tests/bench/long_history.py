"""Long histories by the hundred thousand, faster than any engine makes them: users with few and with many orders, orders with few
and with many fills, mixed in one ledger so that neither lies together on the disk. What a store takes, chunk by chunk; only the
ledger's last batch is there as an engine would send it, which is all that a history asks for that has the rest.
"""

from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

from ordertape.v1 import ledger_pb2, order_pb2
from services.order_history.order_processor import (
    Chunk,
    EndedOrder,
    OrderProcessor,
    PlacedOrder,
    ReceivedBatch,
    RunningNumbers,
    StoredUpdate,
)
from tests.support.ledger_builder import LEDGER_ID, START_TIME, received, timestamp_of

SYMBOLS: Final = ("BTC-USD", "ETH-USD")
FEW: Final = 1_000
"""Orders of the user, and fills of the order, that have few."""
_CHUNK_UPDATES: Final = 1_500
_NEW, _CANCELLED, _TRADE = order_pb2.EXEC_TYPE_NEW, order_pb2.EXEC_TYPE_CANCELLED, order_pb2.EXEC_TYPE_TRADE
_SELL: Final = order_pb2.SIDE_SELL


class OrdersOf:
    """A user of many orders, each placed and cancelled: its orders' ids, and the sequences of its updates, in their order."""

    def __init__(self, user_id: str, count: int) -> None:
        self.user_id = user_id
        self.count = count
        self.order_ids = array("q")
        self.sequences = array("q")

    def key_of(self, place: int) -> tuple[int, int]:
        """Where the order of that place (from 0, oldest first) is in the list of orders: (created_at, order_id)."""
        return _time(self.sequences[2 * place]), self.order_ids[place]

    def name_of(self, place: int) -> str:
        """Its client_order_id."""
        return f"{self.user_id}-{place}"


class FillsOf:
    """A user with one open order that is filled bit by bit: the order's id, and its fills' sequences, in their order."""

    def __init__(self, user_id: str, count: int) -> None:
        self.user_id = user_id
        self.count = count
        self.order_id = 0
        self.sequences = array("q")


class LastBatch(NamedTuple):
    """The batch that ends the ledger, and its chunk."""

    batch: ReceivedBatch
    chunk: Chunk


class LongHistory:
    """A ledger of two users of orders and two of fills, each with FEW of them and with ``orders`` and ``fills``."""

    def __init__(self, orders: int, fills: int) -> None:
        self.orders = OrdersOf("few-orders", FEW), OrdersOf("many-orders", orders)
        self.fills = FillsOf("few-fills", FEW), FillsOf("many-fills", fills)
        self._sequence = 0
        self._order_id = 0
        self._chunk = _empty_chunk(1)

    def chunks(self) -> Iterator[Chunk]:
        """All of it but the last batch; once."""
        for flow in self.fills:
            self._open(flow)
        steps = max(each.count for each in (*self.orders, *self.fills))
        for step in range(steps):
            for orders in self.orders:
                if _is_due(step, steps, orders.count):
                    self._place_and_cancel(orders)
            for fills in self.fills:
                if _is_due(step, steps, fills.count):
                    self._fill(fills)
            if len(self._chunk.updates) >= _CHUNK_UPDATES:
                yield self._take()
        yield self._take()

    def last_batch(self) -> LastBatch:
        """An engine's start, after the last of ``chunks``."""
        sequence = self._sequence + 1
        started = ledger_pb2.LedgerCommand(
            sequence=sequence, engine_started=ledger_pb2.EngineStarted(ledger_id=LEDGER_ID, epoch=1, rules_version=1)
        )
        message = ledger_pb2.LedgerBatch(
            epoch=1, first_sequence=sequence, timestamp=timestamp_of(_time(sequence)), commands=[started]
        )
        batch = received(message.SerializeToString())
        return LastBatch(batch, OrderProcessor().project(LEDGER_ID, [batch]))

    def _place_and_cancel(self, flow: OrdersOf) -> None:
        place = len(flow.order_ids)
        order = self._new_order(flow.user_id, flow.name_of(place), place + 1, SYMBOLS[place % 2], qty="1")
        flow.order_ids.append(order.order_id)
        self._add_new(order, 2 * place + 1, flow.sequences)
        order.previous_status = order.status
        order.status, order.exec_type = order_pb2.ORDER_STATUS_CANCELLED, _CANCELLED
        order.leaves_qty, order.cancel_reason = "0", order_pb2.CANCEL_REASON_USER
        stored = self._add(order, 2, 2 * place + 2, flow.sequences)
        created_at, order_id = flow.key_of(place)
        chunk = self._chunk
        chunk.closed.append(order_id)
        chunk.ended.append(
            EndedOrder(
                flow.user_id, created_at, order_id, stored.symbol, _SELL, order.status, stored.timestamp, stored.sequence,
                place + 1, stored.data,
            )
        )  # fmt: skip
        del chunk.open[order_id]

    def _open(self, flow: FillsOf) -> None:
        order = self._new_order(flow.user_id, f"{flow.user_id}-1", 1, SYMBOLS[0], qty=str(flow.count + 1))
        flow.order_id = order.order_id
        self._add_new(order, 1, array("q"))

    def _fill(self, flow: FillsOf) -> None:
        number = len(flow.sequences) + 1
        order = order_pb2.OrderUpdate(
            order_id=flow.order_id, user_id=flow.user_id, client_order_id=f"{flow.user_id}-1", symbol=SYMBOLS[0], side=_SELL,
            order_type=order_pb2.ORDER_TYPE_LIMIT, time_in_force=order_pb2.TIME_IN_FORCE_GTC, price="100",
            qty=str(flow.count + 1), filled_qty=str(number), leaves_qty=str(flow.count + 1 - number), version=1, order_number=1,
            status=order_pb2.ORDER_STATUS_PARTIALLY_FILLED, exec_type=_TRADE, avg_fill_price="100",
            previous_status=order_pb2.ORDER_STATUS_NEW if number == 1 else order_pb2.ORDER_STATUS_PARTIALLY_FILLED,
            cumulative_quote=str(100 * number), cumulative_fee="0", fee_asset="USD",
            created_at=timestamp_of(START_TIME),
            fill=order_pb2.Fill(
                trade_id=self._sequence, price="100", qty="1", quote="100", fee="0", fee_asset="USD",
                liquidity=order_pb2.LIQUIDITY_SIDE_MAKER,
            ),
        )  # fmt: skip
        self._add(order, number + 1, number + 1, flow.sequences)

    def _new_order(self, user_id: str, name: str, order_number: int, symbol: str, qty: str) -> order_pb2.OrderUpdate:
        self._order_id += 1
        return order_pb2.OrderUpdate(
            order_id=self._order_id, client_order_id=name, user_id=user_id, symbol=symbol, side=_SELL,
            order_type=order_pb2.ORDER_TYPE_LIMIT, time_in_force=order_pb2.TIME_IN_FORCE_GTC, price="100", qty=qty,
            filled_qty="0", leaves_qty=qty, version=1, order_number=order_number, cumulative_quote="0", cumulative_fee="0",
            fee_asset="USD", status=order_pb2.ORDER_STATUS_NEW, exec_type=_NEW,
            created_at=timestamp_of(_time(self._sequence + 1)),
        )  # fmt: skip

    def _add_new(self, order: order_pb2.OrderUpdate, user_number: int, sequences: "array[int]") -> None:
        stored = self._add(order, 1, user_number, sequences)
        self._chunk.placed.append(
            PlacedOrder(
                order.user_id, order.client_order_id, order.order_id, order.symbol, order.order_number, stored.sequence,
                stored.timestamp,
            )
        )  # fmt: skip

    def _add(self, order: order_pb2.OrderUpdate, order_number: int, user_number: int, sequences: "array[int]") -> StoredUpdate:
        """Every update is a batch of its own."""
        self._sequence = sequence = self._sequence + 1
        timestamp = _time(sequence)
        order.sequence, order.update_number, order.user_update_number = sequence, order_number, user_number
        order.timestamp.seconds, rest = divmod(timestamp, 1_000_000)
        order.timestamp.nanos = rest * 1_000
        data = order.SerializeToString()
        stored = StoredUpdate(sequence, sequence, order.order_id, order.user_id, order.symbol, order.exec_type, timestamp, data)
        sequences.append(sequence)
        chunk = self._chunk
        chunk.updates.append(stored)
        chunk.numbers.append(RunningNumbers(order_number, user_number))
        chunk.open[stored.order_id] = stored
        return stored

    def _take(self) -> Chunk:
        sequence = self._sequence
        taken, self._chunk = self._chunk, _empty_chunk(sequence + 1)
        return taken._replace(last_sequence=sequence, timestamp=_time(sequence))


def _empty_chunk(first_sequence: int) -> Chunk:
    return Chunk(
        LEDGER_ID, first_sequence, 0, 1, b"of nobody's concern", 0,
        updates=[], numbers=[], open={}, closed=[], ended=[], placed=[],
    )  # fmt: skip


def _time(sequence: int) -> int:
    return START_TIME + sequence


def _is_due(step: int, steps: int, count: int) -> bool:
    """Whether one of ``count`` things, spread evenly over so many steps, comes at this one."""
    return count * (step + 1) // steps > count * step // steps
