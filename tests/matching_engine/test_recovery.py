"""Folding the ledger gives the engine's state, and running its requests gives its commands, whatever happened."""

import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from ordertape.v1 import ledger_pb2, order_pb2
from services.matching_engine.ledger import LedgerError
from services.wire.ledger_codec import LedgerUnreadable
from tests.support.engine_audit import LedgerAudit
from tests.support.engine_client import BUY, SELL, EngineClient, cancel, limit
from tests.support.engine_exchange import running_engine, start_engine
from tests.support.engine_flow import fund_users, random_requests
from tests.support.engine_forgery import Forge, forge_batch
from tests.support.engine_process import run_refused, verify_ledger

EVERY_END = {
    *(order_pb2.ORDER_STATUS_FILLED, order_pb2.ORDER_STATUS_CANCELLED),
    *(order_pb2.ORDER_STATUS_REJECTED, order_pb2.ORDER_STATUS_EXPIRED),
}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_restart_gives_the_state_that_was_and_the_requests_give_the_commands_again(data_dir: Path, seed: int) -> None:
    requests = list(random_requests(seed, 1200))
    for part in (requests[:600], requests[600:]):
        with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
            fund_users(client)
            for start in range(0, len(part), 50):
                client.submit(*part[start : start + 50])
            before, book, sequence = engine.state.describe(), client.book(), client.durable_sequence()
            batches = client.batches()
    with running_engine(data_dir, instruments=()) as engine, EngineClient(engine.address) as client:
        after = engine.state.describe()
        assert (after.pop("sequence"), after.pop("epoch")) == (sequence + 1, 3)
        assert after.pop("time") > before.pop("time")
        assert after == {name: value for name, value in before.items() if name not in ("sequence", "epoch")}
        assert (client.book().bids, client.book().asks) == (book.bids, book.asks)
        assert client.batches()[:-1] == batches
    code, said = verify_ledger(data_dir)
    assert code == 0, said
    assert f"{len(batches) + 1} requests run through the core gave the same commands again" in said


def test_the_ledger_keeps_every_invariant_for_a_reader_that_shares_no_code_with_the_engine(data_dir: Path) -> None:
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        fund_users(client)
        requests = list(random_requests(3, 1500))
        for start in range(0, len(requests), 50):
            client.submit(*requests[start : start + 50])
        audit = LedgerAudit(client.batches())
        audit.check_money()
        for user_id, asset in audit.balances:
            available, held = client.balances(user_id)[asset]
            assert audit.balances[user_id, asset] == (Decimal(available), Decimal(held))
        open_orders = {order.terms.order_id for order in engine.state.orders.all()}
        assert {update.order_id for update in audit.open_orders()} == open_orders
        ends = {update.status for update in audit.orders.values()}
        assert ends > EVERY_END
        reasons = {update.expire_reason for update in audit.orders.values()}
        assert reasons >= {1, 2, 3}
        assert audit.trades > 200


@pytest.fixture(scope="module")
def ledger_of_trades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sequences 1 to 4: the start and the instruments; 5 to 8: deposits; 9, 10: an ask; 11 on: a bid that takes a part of it;
    at the end a cancel of what is left of the ask.
    """
    data_dir = tmp_path_factory.mktemp("ledger") / "engine"
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", "b", USD="1000", BTC="10")
        client.place(limit("a", SELL, "100", "2", client_order_id="ask"))
        client.place(limit("b", BUY, "101", "1"))
        client.cancel(cancel("a", "ask"))
        batches = [ledger_pb2.LedgerBatch.FromString(data) for data in client.batches()]
    kinds = [[command.WhichOneof("command") for command in batch.commands] for batch in batches]
    assert [batch.first_sequence for batch in batches] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 17]
    assert kinds[-3:] == [
        ["lock", "order_update"],
        ["lock", "order_update", "match_exec", "unlock", "order_update", "order_update"],
        ["unlock", "order_update"],
    ]
    return data_dir


@pytest.fixture
def forgeable(ledger_of_trades: Path, data_dir: Path) -> Path:
    shutil.copytree(ledger_of_trades, data_dir)
    return data_dir


def set_of(get: Callable[[ledger_pb2.LedgerBatch], object], **values: object) -> Forge:
    """Sets fields of what ``get`` finds in the batch."""

    def forge(batch: ledger_pb2.LedgerBatch) -> None:
        for name, value in values.items():
            setattr(get(batch), name, value)

    return forge


FORGERIES: list[tuple[str, int, int, Forge]] = [
    ("a hash that is not the one before's", 9, 9, set_of(lambda batch: batch, previous_hash=b"\1" * 32)),
    ("no hash", 9, 9, set_of(lambda batch: batch, previous_hash=b"")),
    ("a hash in the first batch", 1, 1, set_of(lambda batch: batch, previous_hash=b"\1" * 32)),
    ("bytes that are no message", 9, 9, lambda _: b"\xff" * 10),
    ("another first sequence", 9, 9, set_of(lambda batch: batch, first_sequence=10)),
    ("a hole between two commands", 9, 9, set_of(lambda batch: batch.commands[1], sequence=11)),
    ("a command too few", 9, 9, lambda batch: batch.commands.pop()),
    ("a command too many", 9, 9, lambda batch: batch.commands.add(sequence=11)),
    ("an earlier time", 9, 9, set_of(lambda batch: batch.timestamp, seconds=1)),
    ("another epoch", 9, 9, set_of(lambda batch: batch, epoch=2)),
    ("a start that skips an epoch", 1, 1, set_of(lambda batch: batch, epoch=2)),
    ("no request", 9, 9, lambda batch: batch.ClearField("place_order")),
    ("a status that does not follow", 10, 10, set_of(lambda batch: batch.commands[1].order_update, status=3)),
    ("an end that is none", 18, 18, set_of(lambda batch: batch.commands[1].order_update, status=2)),
    ("a status from nowhere", 18, 17, set_of(lambda batch: batch.commands[1].order_update, previous_status=1)),
    ("an order accepted twice", 18, 18, lambda batch: batch.commands[1].order_update.ClearField("previous_status")),
    ("an end of an order that never was", 18, 17, set_of(lambda batch: batch.commands[1].order_update, order_id=77)),
    ("a command without content", 10, 10, lambda batch: batch.commands[1].ClearField("order_update")),
    ("an amount that is none", 9, 9, set_of(lambda batch: batch.commands[0].lock, amount="x")),
    ("an amount finer than its asset", 9, 9, set_of(lambda batch: batch.commands[0].lock, amount="0.000000001")),
    ("money of an asset that nobody set", 9, 9, set_of(lambda batch: batch.commands[0].lock, asset="XRP")),
    ("a trade of a symbol that nobody set", 13, 13, set_of(lambda batch: batch.commands[2].match_exec, symbol="XRP-USD")),
    ("an order in a book that nobody set", 10, 9, set_of(lambda batch: batch.commands[1].order_update, symbol="XRP-USD")),
    ("an order without a price in a book", 10, 9, lambda batch: batch.commands[1].order_update.ClearField("price")),
    ("an unknown side", 10, 10, set_of(lambda batch: batch.commands[1].order_update, side=9)),
    ("an unknown reason", 18, 18, set_of(lambda batch: batch.commands[1].order_update, cancel_reason=99)),
    ("an instrument that contradicts itself", 2, 2,
     set_of(lambda batch: batch.commands[0].instrument_set.instrument, price_decimals=18)),
]  # fmt: skip


@pytest.mark.parametrize(("what", "sequence", "named", "forge"), FORGERIES, ids=[forgery[0] for forgery in FORGERIES])
def test_a_ledger_that_says_what_cannot_be_is_refused_with_the_sequence(
    forgeable: Path, what: str, sequence: int, named: int, forge: Forge
) -> None:
    forge_batch(forgeable, sequence, forge)
    before = {file: file.read_bytes() for file in (forgeable / "ledger").glob("*.segment")}
    with pytest.raises((LedgerError, LedgerUnreadable), match=rf"sequence {named}\b"):
        start_engine(forgeable)
    assert {file: file.read_bytes() for file in (forgeable / "ledger").glob("*.segment")} == before


def test_an_engine_that_refuses_a_ledger_ends_with_its_exit_code_and_words(forgeable: Path) -> None:
    forge_batch(forgeable, 10, set_of(lambda batch: batch.commands[1].order_update, status=3))
    code, said = run_refused(forgeable)
    assert code == 65
    assert "the engine does not start: the ledger is damaged at sequence 10" in said
    assert "Traceback" not in said
    code, said = verify_ledger(forgeable)
    assert (code, "sequence 10" in said, "Traceback" in said) == (65, True, False)


@pytest.mark.parametrize(
    ("sequence", "forge"),
    [
        (5, lambda batch: [setattr(batch.commands[0].deposit, name, "1000000") for name in ("amount", "available_after")]),
        (13, set_of(lambda batch: batch.commands[2].match_exec.taker_receives, available_after="12")),
        (10, set_of(lambda batch: batch.place_order, price="99")),
    ],
    ids=["money from nowhere", "a balance that does not add up", "a request that would have done something else"],
)
def test_the_audit_finds_what_can_be_folded_and_yet_was_not_decided_by_the_rules(
    forgeable: Path, sequence: int, forge: Forge
) -> None:
    forge_batch(forgeable, sequence, forge)
    first = {5: 5, 13: 11, 10: 9}[sequence]
    code, said = verify_ledger(forgeable)
    assert code == 65
    assert f"sequence {first}" in said
    assert "Traceback" not in said
