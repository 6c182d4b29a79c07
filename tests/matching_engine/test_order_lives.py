"""Whole lives of orders as their clients see them: the contract's worked example and the scenarios of FIX 4.4 Appendix D
("Order State Change Matrices", the numbers in the names) that limit, market, IOC, FOK and cancel can show.
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
    EXPIRED,
    FILLED,
    FOK,
    IOC,
    NEW,
    PARTIALLY_FILLED,
    SELL,
    EngineClient,
    cancel,
    failure_of,
    limit,
    market,
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


def test_a_1_a_an_order_is_filled_in_parts(client: EngineClient) -> None:
    order_id = newest(client.place(limit("a", SELL, "300", "10")).updates).order_id
    client.place(limit("b", BUY, "300", "2"))
    client.place(limit("b", BUY, "300", "8"))
    updates = life(client, order_id)
    assert told(updates) == [(NEW, "0", "10"), (PARTIALLY_FILLED, "2", "8"), (FILLED, "10", "0")]
    assert [update.update_number for update in updates] == [1, 2, 3]
    assert {update.queue_sequence for update in updates} == {updates[0].sequence}


def test_b_1_a_an_order_with_nothing_filled_is_cancelled(client: EngineClient) -> None:
    order_id = newest(client.place(limit("a", SELL, "300", "10")).updates).order_id
    (update,) = client.cancel(cancel("a", order_id, "b1a")).updates
    assert (update.cancel_reason, update.request_id) == (order_pb2.CANCEL_REASON_USER, "b1a")
    assert told(life(client, order_id)) == [(NEW, "0", "10"), (CANCELLED, "0", "0")]


def test_b_1_b_a_fill_that_arrives_before_the_cancel_stays(client: EngineClient) -> None:
    order_id = newest(client.place(limit("a", SELL, "300", "10")).updates).order_id
    client.place(limit("b", BUY, "300", "2"))
    client.cancel(cancel("a", order_id))
    assert told(life(client, order_id)) == [(NEW, "0", "10"), (PARTIALLY_FILLED, "2", "8"), (CANCELLED, "2", "0")]


def test_b_1_c_a_cancel_of_an_order_that_was_filled_before_is_too_late(client: EngineClient) -> None:
    order_id = newest(client.place(limit("a", SELL, "300", "10")).updates).order_id
    client.place(limit("b", BUY, "300", "10"))
    assert failure_of(lambda: client.cancel(cancel("a", order_id))).reason == "ORDER_CLOSED"
    assert told(life(client, order_id))[-1] == (FILLED, "10", "0")


def test_b_1_d_and_e_a_place_and_its_cancel_on_two_connections_come_in_one_order_or_the_other(client: EngineClient) -> None:
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


def test_b_1_f_a_cancel_of_an_order_that_never_was_is_not_found(client: EngineClient) -> None:
    assert failure_of(lambda: client.cancel(cancel("a", "never"))).code == grpc.StatusCode.NOT_FOUND


def test_f_1_a_and_b_an_order_sent_twice_is_placed_once_and_with_other_content_refused(client: EngineClient) -> None:
    first = client.place(limit("a", SELL, "300", "10", client_order_id="f1"))
    client.place(limit("b", BUY, "300", "2"))
    again = client.place(limit("a", SELL, "300", "10", client_order_id="f1"))
    assert again.replayed
    assert list(again.updates) == list(first.updates)
    failure = failure_of(lambda: client.place(limit("a", SELL, "300", "20", client_order_id="f1")))
    assert failure.code == grpc.StatusCode.ALREADY_EXISTS
    client.cancel(cancel("a", "f1"))


def test_h_1_a_and_c_orders_are_carried_over_restarts_and_filled_or_cancelled_after(data_dir: Path) -> None:
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", "b", USD="100000", BTC="100")
        order_ids = [newest(client.place(limit("a", SELL, "300", "10")).updates).order_id for _ in range(2)]
        client.place(limit("b", BUY, "300", "2"))
    for qty in ("3", "5"):
        with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
            client.place(limit("b", BUY, "300", qty))
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.cancel(cancel("a", order_ids[1]))
        filled, cancelled = (life(client, order_id) for order_id in order_ids)
        assert client.balances("a")["BTC"] == ("90", "0")
    assert [update.filled_qty for update in filled] == ["0", "2", "5", "10"]
    assert [update.update_number for update in filled] == [1, 2, 3, 4]
    assert told(cancelled) == [(NEW, "0", "10"), (CANCELLED, "0", "0")]


def test_i_1_a_a_fok_that_cannot_be_filled_whole_expires_with_nothing_done(client: EngineClient) -> None:
    client.place(limit("a", SELL, "300", "1", client_order_id="i1a"))
    updates = client.place(limit("b", BUY, "300", "2", time_in_force=FOK)).updates
    assert told(list(updates)) == [(NEW, "0", "2"), (EXPIRED, "0", "0")]
    assert newest(updates).expire_reason == order_pb2.EXPIRE_REASON_FOK_NOT_FILLABLE
    client.cancel(cancel("a", "i1a"))


def test_i_1_b_an_ioc_that_does_not_hit_expires(client: EngineClient) -> None:
    updates = client.place(limit("b", BUY, "200", "2", time_in_force=IOC)).updates
    assert told(list(updates)) == [(NEW, "0", "2"), (EXPIRED, "0", "0")]
    assert newest(updates).expire_reason == order_pb2.EXPIRE_REASON_IOC_REST


def test_l_1_b_an_order_for_an_amount_of_money_spends_it_as_far_as_whole_steps_go(client: EngineClient) -> None:
    client.place(limit("a", SELL, "300", "1"))
    updates = client.place(market("b", BUY, quote_qty="100.01")).updates
    assert [(update.status, update.filled_qty, update.leaves_quote_qty) for update in updates] == [
        (NEW, "0", "100.01"),
        (FILLED, "0.3333", "0"),
    ]
    assert (newest(updates).cumulative_quote, newest(updates).HasField("qty")) == ("99.99", False)
    assert client.balances("b")["USD"][1] == "0"
