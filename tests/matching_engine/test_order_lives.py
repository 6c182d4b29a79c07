"""Whole lives of orders as the ledger tells them: the contract's worked example, and what two connections do to one order at
once. (The scenarios of FIX 4.4 Appendix D are told end to end.)
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from ordertape.v1 import ledger_pb2, order_pb2
from tests.support.engine_client import (
    BUY,
    CANCELLED,
    FILLED,
    NEW,
    PARTIALLY_FILLED,
    SELL,
    EngineClient,
    cancel,
    failure_of,
    limit,
    newest,
)
from tests.support.engine_exchange import BTC_USD, running_engine


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineClient]:
    folder = tmp_path_factory.mktemp("lives")
    with running_engine(folder / "engine") as engine, EngineClient(engine.address) as connected:
        connected.fund("a", "b", USD="1000000", BTC="1000", ETH="1000")
        yield connected


def life(client: EngineClient, order_id: int) -> list[order_pb2.OrderUpdate]:
    """All updates of an order, from the ledger."""
    batches = [ledger_pb2.LedgerBatch.FromString(data) for data in client.batches()]
    updates = [command.order_update for batch in batches for command in batch.commands if command.HasField("order_update")]
    return [update for update in updates if update.order_id == order_id]


def told(updates: list[order_pb2.OrderUpdate]) -> list[tuple[int, str, str]]:
    """Status, filled and leaves after each update."""
    return [(update.status, update.filled_qty, update.leaves_qty) for update in updates]


def test_the_contracts_worked_example_is_in_the_ledger_to_the_last_balance(data_dir: Path) -> None:
    fees = {"maker_fee_rate": "0.001", "taker_fee_rate": "0.001"}
    with running_engine(data_dir, instruments=[BTC_USD | fees]) as engine, EngineClient(engine.address) as client:
        client.fund("A", BTC="10")
        client.fund("B", USD="1000")
        client.place(limit("A", SELL, "100", "2"))
        before = client.durable_sequence()
        answer = client.place(limit("B", BUY, "101", "3"))
        (data,) = client.batches(before)
    lock, new, match, unlock, taker, maker = (
        getattr(command, str(command.WhichOneof("command"))) for command in ledger_pb2.LedgerBatch.FromString(data).commands
    )
    assert (lock.amount, lock.available_after, lock.held_after) == ("303", "697", "303")
    assert (new.status, new.filled_qty, new.leaves_qty) == (NEW, "0", "3")
    lines = (match.taker_gives, match.taker_receives, match.maker_gives, match.maker_receives)
    assert [(line.user_id, line.asset, line.amount, line.available_after, line.held_after) for line in lines] == [
        ("B", "USD", "200", "697", "103"),
        ("B", "BTC", "1.998", "1.998", "0"),
        ("A", "BTC", "2", "8", "0"),
        ("A", "USD", "199.8", "199.8", "0"),
    ]
    assert (match.taker_fee, match.maker_fee) == ("0.002", "0.2")
    assert (unlock.amount, unlock.available_after, unlock.held_after) == ("2", "699", "101")
    assert (taker.user_id, taker.status, taker.leaves_qty, taker.avg_fill_price) == ("B", PARTIALLY_FILLED, "1", "100")
    assert (taker.fill.liquidity, taker.fill.fee, taker.fill.fee_asset) == (order_pb2.LIQUIDITY_SIDE_TAKER, "0.002", "BTC")
    assert (maker.user_id, maker.status, maker.leaves_qty) == ("A", FILLED, "0")
    assert (maker.fill.liquidity, maker.fill.fee, maker.fill.fee_asset) == (order_pb2.LIQUIDITY_SIDE_MAKER, "0.2", "USD")
    assert list(answer.updates) == [new, taker]  # never the maker's


def test_a_place_and_its_cancel_on_two_connections_come_in_one_order_or_the_other(client: EngineClient) -> None:
    seen = set()
    with ThreadPoolExecutor(2) as threads, EngineClient(client.address) as other:
        for number in range(40):
            name = f"crossing{number}"
            calls = [
                lambda name=name: client.place(limit("a", SELL, "300", "10", client_order_id=name)),
                lambda name=name: other.cancel(cancel("a", name)),
            ]
            placing, cancelling = (threads.submit(call) for call in calls[:: 1 if number % 2 else -1])
            if not number % 2:
                placing, cancelling = cancelling, placing
            order_id = newest(placing.result().updates).order_id
            if cancelling.exception() is not None:
                assert failure_of(cancelling.result).code == grpc.StatusCode.NOT_FOUND
                client.cancel(cancel("a", name))
            seen.add(cancelling.exception() is None)
            assert told(life(client, order_id)) == [(NEW, "0", "10"), (CANCELLED, "0", "0")]
    assert seen
