"""What must be true at the end of every run, whatever was killed, cut, frozen or full on the way: the ledger is whole and its
requests give the same commands, nothing acknowledged is missing, nothing is doubled, no money was made or lost, the history is
the fold of its ledger byte for byte, and every watch has seen each update exactly once.
"""

import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import grpc

from ordertape.v1 import ledger_pb2, order_pb2
from ordertape.v1 import matching_engine_pb2 as engine_pb2
from services.cli.client import Engine
from services.matching_engine.ledger import SegmentReader
from services.order_history.order_processor import OrderProcessor, ReceivedBatch
from services.order_history.stores.sqlite import SqliteHistoryStore
from services.wire.position import decode_position
from tests.support.exact_watch import ExactWatch
from tests.support.exchange_process import Exchange
from tests.support.history_dump import dump
from tests.support.ledger_builder import received
from tests.support.order_flow import Load, Sent, acknowledged

CHUNK_BATCHES = 2_000
_OPEN = (order_pb2.ORDER_STATUS_NEW, order_pb2.ORDER_STATUS_PARTIALLY_FILLED)


class WrittenLedger:
    """A ledger's folder read as a stranger would: ``batches`` as stored, and ``updates`` in their order."""

    def __init__(self, engine_folder: Path) -> None:
        reader = SegmentReader.open(engine_folder / "ledger", verify_from_sequence=1)
        self.ledger_id = reader.ledger_id
        self.batches: list[ReceivedBatch] = [received(stored.data) for stored in reader.read()]
        self.updates = [c.order_update for c in self.commands() if c.HasField("order_update")]

    @property
    def sequence(self) -> int:
        """The last sequence."""
        return self.batches[-1].last_sequence if self.batches else 0

    @property
    def users(self) -> list[str]:
        """Everybody who ever had money or an order."""
        named = {c.deposit.user_id for c in self.commands() if c.HasField("deposit")}
        return sorted(named | {update.user_id for update in self.updates})

    def commands(self) -> Iterator[ledger_pb2.LedgerCommand]:
        """Every command, in order."""
        for batch in self.batches:
            yield from batch.message.commands

    def updates_of(self, user_id: str) -> list[order_pb2.OrderUpdate]:
        """The user's updates, in order."""
        return [update for update in self.updates if update.user_id == user_id]

    def fold_into(self, folder: Path) -> list[str]:
        """The tables of a fresh history that was given this ledger and nothing else."""
        store, processor = SqliteHistoryStore(folder), OrderProcessor()
        try:
            for begin in range(0, len(self.batches), CHUNK_BATCHES):
                assert store.apply(processor.project(self.ledger_id, self.batches[begin : begin + CHUNK_BATCHES]))
        finally:
            store.close()
        return dump(folder)

    def totals(self) -> dict[str, Decimal]:
        """What all users together must own of each asset: deposits - withdrawals - fees."""
        totals: defaultdict[str, Decimal] = defaultdict(Decimal)
        for command in self.commands():
            kind = command.WhichOneof("command")
            if kind == "deposit":
                totals[command.deposit.asset] += Decimal(command.deposit.amount)
            elif kind == "withdraw":
                totals[command.withdraw.asset] -= Decimal(command.withdraw.amount)
            elif kind == "match_exec":
                match = command.match_exec
                totals[match.taker_receives.asset] -= Decimal(match.taker_fee)
                totals[match.maker_receives.asset] -= Decimal(match.maker_fee)
        return dict(totals)


def prove(exchange: Exchange, load: Load, watches: Sequence[ExactWatch] = ()) -> WrittenLedger:
    """Everything, at the end of a load, with both services running; they are stopped by SIGTERM on the way."""
    exchange.wait_until_equal()
    prove_repeats_change_nothing(exchange, load.sent)
    ledger = prove_running(exchange, watches)
    exchange.terminate()
    prove_acknowledged(ledger, load.sent)
    prove_stopped(exchange, ledger)
    return ledger


def prove_running(exchange: Exchange, watches: Sequence[ExactWatch] = ()) -> WrittenLedger:
    """What only running services can show: money, and watches to their end, which they have come to then."""
    sequence = exchange.wait_until_equal()
    ledger = WrittenLedger(exchange.engine_folder)
    assert ledger.sequence == sequence
    with exchange.engine_client() as engine:
        prove_money(engine, ledger)
    prove_watches(ledger, watches)
    for watch in watches:
        watch.leave()
    return ledger


def prove_stopped(exchange: Exchange, ledger: WrittenLedger) -> None:
    """What the files of stopped services show: the ledger is sound, the history its fold byte for byte."""
    prove_audit(exchange.engine_folder)
    prove_fold(ledger, exchange.history_folder)


def prove_fold(ledger: WrittenLedger, history_folder: Path) -> None:
    """The tables in the folder are those of a fresh history that was given the ledger."""
    with tempfile.TemporaryDirectory(prefix="ordertape-fold-") as fresh:
        assert_equal_lines(dump(history_folder), ledger.fold_into(Path(fresh)))


def prove_audit(engine_folder: Path) -> None:
    """`ledger --verify`: every byte, every request through the core again, money."""
    command = (sys.executable, "-m", "services.matching_engine", "ledger", "--data-dir", str(engine_folder))
    audit = subprocess.run((*command, "--verify", "--quiet"), check=False, capture_output=True, text=True, timeout=120)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert "gave the same commands again" in audit.stdout
    assert "balances + holds + fees = deposits - withdrawals" in audit.stdout
    assert "requests of epochs with other rules" not in audit.stdout


def prove_money(engine: Engine, ledger: WrittenLedger) -> None:
    """For each asset: all balances and holds that the engine tells + fees = deposits - withdrawals."""
    owned: defaultdict[str, Decimal] = defaultdict(Decimal)
    for user_id in ledger.users:
        listed = engine.call(engine.accounts.ListBalances, engine_pb2.ListBalancesRequest(user_id=user_id))
        for balance in listed.balances:
            owned[balance.asset] += Decimal(balance.available) + Decimal(balance.held)
    assert dict(owned) == ledger.totals()


def prove_acknowledged(ledger: WrittenLedger, sent: Sequence[Sent]) -> None:
    """Each answer is in the ledger as it was given, and no request is in it twice."""
    updates = {update.sequence: update for update in ledger.updates}
    batches = {batch.last_sequence: batch.message for batch in ledger.batches}
    for step, answer in acknowledged(sent):
        if isinstance(answer, engine_pb2.SubmitOrdersResponse):
            (result,) = answer.results
            assert result.updates, "an answer without an update"
            for update in result.updates:
                assert updates.get(update.sequence) == update, f"acknowledged and not in the ledger: {step}"
        batch = batches.get(decode_position(answer.position).sequence)
        assert batch is not None, f"no batch ends at {answer.position}: {step}"
        cause: object = getattr(batch, str(batch.WhichOneof("request")))
        asked = _single(step)
        assert (cause.user_id, _key(cause)) == (asked.user_id, _key(asked)), f"{answer.position} is another's: {step}"  # type: ignore[attr-defined]
    _prove_nothing_doubled(ledger)


def _prove_nothing_doubled(ledger: WrittenLedger) -> None:
    keys = Counter[tuple[str, str, str]]()
    for batch in ledger.batches:
        name = str(batch.message.WhichOneof("request"))
        cause = getattr(batch.message, name)
        # A mass cancel is as many batches as it needs; its key is used by the last of them.
        last = name != "cancel_orders" or batch.message.commands[-1].HasField("mass_cancel_done")
        if last and (key := _key(cause)):
            keys[name, cause.user_id, key] += 1
    assert [key for key, count in keys.items() if count > 1] == [], "a request is in the ledger twice"
    numbers = Counter[str]()
    for update in ledger.updates:
        numbers[update.user_id] += 1
        assert update.user_update_number == numbers[update.user_id]


def prove_repeats_change_nothing(exchange: Exchange, sent: Sequence[Sent]) -> None:
    """Every acknowledged mutation sent once more gets its first answer again, and the ledger does not grow."""
    before = exchange.durable_sequence()
    firsts = list(acknowledged(sent))
    with exchange.engine_client() as engine:
        for step, answer in firsts:
            if isinstance(step, engine_pb2.DepositRequest):
                again: object = engine.call(engine.operator.Deposit, step)
            elif isinstance(step, engine_pb2.WithdrawRequest):
                again = engine.call(engine.operator.Withdraw, step)
            elif isinstance(step, engine_pb2.CancelOrdersRequest):
                again = engine.call(engine.orders.CancelOrders, step)
            else:
                continue
            assert _as_first(again) == _as_first(answer), f"a repeat has another answer: {step}"
        orders = [(s.items[0], a.results[0]) for s, a in firsts if isinstance(s, engine_pb2.SubmitOrdersRequest)]  # type: ignore[union-attr]
        for begin in range(0, len(orders), 500):
            part = orders[begin : begin + 500]
            request = engine_pb2.SubmitOrdersRequest(items=[item for item, _ in part])
            results = engine.call(engine.orders.SubmitOrders, request).results
            for (item, first), result in zip(part, results, strict=True):
                assert result.replayed, f"a repeat was not known as one: {item}"
                assert _as_first(_bounded(result, first)) == _as_first(_bounded(first, result)), f"another answer: {item}"
    assert exchange.durable_sequence() == before, "repeats made the ledger grow"


def prove_watches(ledger: WrittenLedger, watches: Iterable[ExactWatch]) -> None:
    """Each watch has what was open when it began, and every update of its user after that exactly once, in order, unchanged."""
    for watch in watches:
        watch.wait_until(lambda watch=watch: watch.began is not None)
        began = decode_position(str(watch.began)).sequence
        before = [update for update in ledger.updates_of(watch.user_id) if update.sequence <= began]
        after = [update for update in ledger.updates_of(watch.user_id) if update.sequence > began]
        watch.wait_until(lambda watch=watch, after=after: len(watch.updates) >= len(after))
        numbers = [update.user_update_number for update in watch.updates]
        assert numbers == list(range(len(before) + 1, len(before) + len(after) + 1)), f"{watch.name}: not each update once"
        assert watch.updates == after, f"{watch.name}: not what the ledger says"
        if watch.has_snapshot:
            assert watch.snapshot == open_orders(before), f"{watch.name}: not the orders that were open"


def assert_equal_lines(actual: list[str], expected: list[str]) -> None:
    """Equal line for line; names the first that is not, for pytest's own account of 50 000 lines takes minutes."""
    for number, (one, other) in enumerate(zip(actual, expected, strict=False)):
        assert one == other, f"line {number} differs"
    assert len(actual) == len(expected)


def open_orders(updates: Iterable[order_pb2.OrderUpdate]) -> list[order_pb2.OrderUpdate]:
    """The newest update of each order that is open after these, by order_id."""
    newest = {update.order_id: update for update in updates}
    return [update for _, update in sorted(newest.items()) if update.status in _OPEN]


def _single(step: object) -> object:
    if isinstance(step, engine_pb2.SubmitOrdersRequest):
        (item,) = step.items
        return getattr(item, str(item.WhichOneof("action")))
    return step


def _key(request: object) -> str:
    return getattr(request, "client_order_id" if isinstance(request, engine_pb2.PlaceOrderRequest) else "request_id", "")


def _bounded(one: engine_pb2.SubmitOrdersResult, other: engine_pb2.SubmitOrdersResult) -> engine_pb2.SubmitOrdersResult:
    """An answer as it would be with as few updates as the other: how many there are depends on what else the message holds."""
    omitted = max(one.updates_omitted, other.updates_omitted)
    bounded = engine_pb2.SubmitOrdersResult()
    bounded.CopyFrom(one)
    while bounded.updates_omitted < omitted:
        del bounded.updates[-2]
        bounded.updates_omitted += 1
    return bounded


def _as_first(answer: object) -> object:
    """The answer but for the mark that it was given before."""
    if isinstance(answer, grpc.StatusCode):
        return answer
    copy = type(answer)()
    copy.CopyFrom(answer)  # type: ignore[attr-defined]
    copy.replayed = False  # type: ignore[attr-defined]
    return copy
