"""Reads a ledger beside the model and says where the two differ: every order update field for field, every balance, what had to
expire or be triggered before, and what lifecycle.md says of each order always.
"""

from collections import defaultdict
from decimal import Decimal

from ordertape.v1 import ledger_pb2, order_pb2
from tests.model.exchange_model import ExchangeModel
from tests.model.model_parts import OPEN, ZERO, text_of, time_of

_WITHOUT = ("start_engine", "apply_config")
# What each line of money does to what is available and to what is held.
_MOVES = {
    "deposit": (1, 0), "withdraw": (-1, 0), "lock": (-1, 1), "unlock": (1, -1),
    "taker_gives": (0, -1), "taker_receives": (1, 0), "maker_gives": (0, -1), "maker_receives": (1, 0),
}  # fmt: skip


class Witness:
    """``see`` each batch of a ledger in its order. ``timelines`` has each order's updates, as the ledger has them."""

    def __init__(self) -> None:
        self.model = ExchangeModel()
        self.timelines: defaultdict[int, list[order_pb2.OrderUpdate]] = defaultdict(list)
        self.balances: defaultdict[tuple[str, str], tuple[Decimal, Decimal]] = defaultdict(lambda: (ZERO, ZERO))
        self.sequence = 0

    def see(self, batch: ledger_pb2.LedgerBatch) -> None:
        """Check the next batch. AssertionError where it is not what the model brings about."""
        name = str(batch.WhichOneof("request"))
        request, time = getattr(batch, name), time_of(batch.timestamp)
        self._check_its_turn(name, request, time)
        expected = self.model.do(name, request, time)
        actual = []
        for index, command in enumerate(batch.commands):
            self.sequence += 1
            assert command.sequence == self.sequence
            self._take_balances(command)
            if command.HasField("order_update"):
                update = command.order_update
                assert (update.sequence, time_of(update.timestamp)) == (self.sequence, time + index)
                actual.append(update)
            elif command.HasField("mass_cancel_done"):
                assert command.mass_cancel_done.cancelled_count == len(expected)
        said = "\n".join(f"{u.order_id} {order_pb2.OrderStatus.Name(u.status)}" for u in actual)
        assert len(actual) == len(expected), f"{len(expected)} updates expected, there are {len(actual)}:\n{said}"
        for update, wanted in zip(actual, expected, strict=True):
            self._check_update(update, wanted)
        self.check_balances()

    def kinds_seen(self) -> int:
        """How many different ends (statuses with their reasons) the orders have come to."""
        ends = (timeline[-1] for timeline in self.timelines.values())
        return len({(u.status, u.reject_reason, u.cancel_reason, u.expire_reason) for u in ends if u.status not in OPEN})

    def check_balances(self) -> None:
        """Every balance is what the model says, every hold what the open orders can still cost, and no money was made or lost."""
        model = self.model
        held: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for order in model.open.values():
            held[order.user, model.pays_with(order)] += model.need(order)
        for key in self.balances.keys() | model.owned.keys():
            assert self.balances[key] == (model.owned[key] - held[key], held[key]), key
            assert min(self.balances[key]) >= 0, key
        for asset in model.inside:
            assert model.missing(asset) == 0, asset

    def _check_its_turn(self, name: str, request: object, time: int) -> None:
        """Nothing comes before what is due, and nothing between a trade and what it triggers but what is due."""
        if name not in ("expire_due", *_WITHOUT):
            assert not self.model.due(time), f"{name} before an order that is due"
        triggered = self.model.next_trigger()
        if name == "trigger_stop":
            assert request.order_id == triggered
        else:
            assert triggered is None or name in ("expire_due", *_WITHOUT), f"{name} before order {triggered} is triggered"

    def _take_balances(self, command: ledger_pb2.LedgerCommand) -> None:
        """Each line of money starts from the balance that the one before it left."""
        kind = str(command.WhichOneof("command"))
        event = getattr(command, kind)
        lines = {name: getattr(event, name) for name in _MOVES if "_" in name} if kind == "match_exec" else {kind: event}
        for name, line in lines.items():
            if name in _MOVES:
                amount, (to_available, to_held) = Decimal(line.amount), _MOVES[name]
                available, held = self.balances[line.user_id, line.asset]
                after = (available + to_available * amount, held + to_held * amount)
                assert (Decimal(line.available_after), Decimal(line.held_after)) == after, line
                self.balances[line.user_id, line.asset] = after

    def _check_update(self, update: order_pb2.OrderUpdate, wanted: order_pb2.OrderUpdate) -> None:
        """The update is the model's, but for words and for its place in the ledger, which ``see`` has checked."""
        timeline = self.timelines[update.order_id]
        timeline.append(update)
        wanted.sequence = update.sequence
        wanted.timestamp.CopyFrom(update.timestamp)
        wanted.created_at.CopyFrom(timeline[0].timestamp)
        wanted.reason_text = update.reason_text
        triggers = [u.timestamp for u in timeline if u.exec_type == order_pb2.EXEC_TYPE_TRIGGERED]
        if triggers:
            wanted.triggered_at.CopyFrom(triggers[0])
        wanted.queue_sequence = _place_of(timeline)
        if update != wanted:
            raise AssertionError(f"the ledger says\n{update}\nthe model says\n{wanted}")
        _check_always(timeline)


def _place_of(timeline: list[order_pb2.OrderUpdate]) -> int:
    """Where an order stands in its queue: the sequence of its last update that took a new place."""
    update = timeline[-1]
    if len(timeline) == 1:
        return update.sequence if update.HasField("visible_qty") else 0
    before = timeline[-2]
    replenished = update.HasField("fill") and update.fill.qty == before.visible_qty
    enters = not before.HasField("visible_qty") or replenished or _goes_back(before, update)
    return update.sequence if enters and update.HasField("visible_qty") else before.queue_sequence


def _goes_back(before: order_pb2.OrderUpdate, update: order_pb2.OrderUpdate) -> bool:
    """Whether a replace of a resting order costs its place."""
    if update.exec_type != order_pb2.EXEC_TYPE_REPLACED:
        return False
    same = (before.price, before.display_qty) == (update.price, update.display_qty)
    return not same or Decimal(update.qty) > Decimal(before.qty)


def _check_always(timeline: list[order_pb2.OrderUpdate]) -> None:
    """lifecycle.md's "Always", from the messages of one order alone."""
    update = timeline[-1]
    is_open = update.status in OPEN
    filled, spent = Decimal(update.filled_qty), Decimal(update.cumulative_quote)
    if update.HasField("qty"):
        leaves = Decimal(update.leaves_qty)
        assert leaves == (Decimal(update.qty) - filled if is_open else 0)
    if update.HasField("quote_qty"):
        assert Decimal(update.leaves_quote_qty) == (Decimal(update.quote_qty) - spent if is_open else 0)
    fills = [u.fill for u in timeline if u.HasField("fill")]
    assert filled == sum(Decimal(fill.qty) for fill in fills)
    assert spent == sum(Decimal(fill.price) * Decimal(fill.qty) for fill in fills)
    assert text_of(sum((Decimal(fill.fee) for fill in fills), ZERO)) == update.cumulative_fee
    assert update.update_number == len(timeline)
    if len(timeline) > 1:
        before = timeline[-2]
        assert before.status in OPEN
        assert (update.previous_status, before.sequence < update.sequence) == (before.status, True)
        assert filled >= Decimal(before.filled_qty)
