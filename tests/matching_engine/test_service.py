"""The engine as a service: what it serves where, what it keeps in memory, and how it meets damage while it runs."""

from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ordertape.v1 import ledger_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from services.matching_engine.bootstrap import Engine
from tests.support.engine_client import BUY, NEW, SELL, EngineClient, cancel, failure_of, limit, newest
from tests.support.engine_exchange import running_engine, start_engine
from tests.support.engine_process import EngineProcess

SERVICES = ("MatchingEngine", "Accounts", "Operator", "LedgerFeed")


def test_every_service_is_healthy_once_the_engine_serves(client: EngineClient) -> None:
    health = health_pb2_grpc.HealthStub(client.channel)
    for service in ("", *(f"ordertape.v1.{name}" for name in SERVICES)):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_operators_calls_can_have_an_address_of_their_own(data_dir: Path) -> None:
    with running_engine(data_dir, operator_listen="127.0.0.1:0") as engine:
        assert engine.operator_address != engine.address
        with EngineClient(engine.address, engine.operator_address) as client:
            client.fund("a", USD="100")
            assert newest(client.place(limit("a", BUY, "10", "1")).updates).status == NEW
        with EngineClient(engine.address) as client:
            assert failure_of(lambda: client.fund("a", USD="1")).code == grpc.StatusCode.UNIMPLEMENTED
        with EngineClient(engine.operator_address) as client:
            assert failure_of(client.book).code == grpc.StatusCode.UNIMPLEMENTED


def test_an_address_that_is_taken_is_named(data_dir: Path, tmp_path: Path) -> None:
    with running_engine(data_dir) as engine:
        with pytest.raises(OSError, match=engine.address):
            start_engine(tmp_path / "other", listen=engine.address)
        feed = engine.feed_addresses["history"]
        with pytest.raises(OSError, match=f"feed risk: cannot bind {feed}"):
            start_engine(tmp_path / "other", feeds={"risk": feed})
    with running_engine(tmp_path / "other", listen=engine.address, feeds={"risk": feed}) as other:
        assert (other.address, other.feed_addresses) == (engine.address, {"risk": feed})


def test_books_and_balances_tell_what_is_there(client: EngineClient) -> None:
    client.submit(
        limit("a", SELL, "101", "1"), limit("a", SELL, "102", "2"), limit("b", SELL, "101", "0.5"), limit("b", BUY, "99", "3")
    )
    book = client.book()
    assert [(level.price, level.qty, level.order_count) for level in book.asks] == [("101", "1.5", 2), ("102", "2", 1)]
    assert [(level.price, level.qty, level.order_count) for level in book.bids] == [("99", "3", 1)]
    assert not book.HasField("last_trade_price")
    assert len(client.engine.GetOrderBook(pb.GetOrderBookRequest(symbol="BTC-USD", depth=1)).asks) == 1
    client.place(limit("b", BUY, "101", "1"))
    assert client.book().last_trade_price == "101"
    assert client.balances("a") == {"BTC": ("997", "2"), "ETH": ("1000", "0"), "USD": ("1000100.899", "0")}
    assert client.balances("nobody") == {}
    unknown = failure_of(lambda: client.book("XRP-USD"))
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "SYMBOL_NOT_FOUND")


def test_money_that_cannot_come_in_or_go_out_is_refused_and_changes_nothing(client: EngineClient) -> None:
    client.place(limit("a", BUY, "100", "1"))
    before, durable = client.balances("a"), client.durable_sequence()

    def move(kind: str, asset: str, amount: str) -> object:
        fields = {"user_id": "a", "asset": asset, "amount": amount, "request_id": "r"}
        return client.deposit(pb.DepositRequest(**fields)) if kind == "in" else client.withdraw(pb.WithdrawRequest(**fields))

    for kind, asset, amount, code, reason in [
        ("in", "XRP", "1", grpc.StatusCode.NOT_FOUND, "ASSET_NOT_FOUND"),
        ("out", "XRP", "1", grpc.StatusCode.NOT_FOUND, "ASSET_NOT_FOUND"),
        ("in", "BTC", "0.000000001", grpc.StatusCode.FAILED_PRECONDITION, "AMOUNT_OFF_STEP"),
        ("out", "BTC", "0.000000001", grpc.StatusCode.FAILED_PRECONDITION, "AMOUNT_OFF_STEP"),
        ("out", "USD", "999900.0000000001", grpc.StatusCode.FAILED_PRECONDITION, "INSUFFICIENT_FUNDS"),
        ("in", "USD", "999999999998000000", grpc.StatusCode.FAILED_PRECONDITION, "TOTAL_TOO_LARGE"),
    ]:
        failure = failure_of(lambda kind=kind, asset=asset, amount=amount: move(kind, asset, amount))
        assert (failure.code, failure.reason) == (code, reason)
        assert asset in failure.text
        assert amount in failure.text or code == grpc.StatusCode.NOT_FOUND
    assert (client.balances("a"), client.durable_sequence()) == (before, durable)
    move("in", "USD", "999999999997999999")
    move("out", "USD", "999900")


def test_what_is_over_leaves_nothing_in_memory(engine: Engine, client: EngineClient) -> None:
    for part in range(4):
        names = [f"k{part}-{number}" for number in range(100)]
        client.submit(*(limit("a", SELL, "100", "0.01", client_order_id=name) for name in names))
        client.submit(*(limit("b", BUY, "100", "0.01", client_order_id=name) for name in names))
        client.submit(*(limit("a", BUY, "1", "0.01", client_order_id=f"c{name}") for name in names))
        client.submit(*(cancel("a", f"c{name}", name) for name in names))
    state = engine.state
    assert not state.orders
    assert not any(vars(state.orders).values())
    assert not any(book.bids or book.asks for book in state.books.values())
    assert set(state.users) == {"a", "b"}


def test_a_record_that_goes_bad_under_a_running_engine_ends_it_as_soon_as_somebody_reads_it(data_dir: Path) -> None:
    with EngineProcess(data_dir) as engine, engine.client() as client:
        client.fund("a", USD="1000")
        client.submit(*(limit("a", BUY, "1", "0.01", client_order_id=f"k{number}") for number in range(50)))
        damaged = ledger_pb2.LedgerBatch.FromString(client.batches()[25])
        (segment,) = (data_dir / "ledger").glob("*.segment")
        content = bytearray(segment.read_bytes())
        content[content.index(damaged.previous_hash)] ^= 1
        segment.write_bytes(content)
        failure = failure_of(client.batches)
        assert failure.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS)
        assert engine.wait() == 70
        assert f"damaged at sequence {damaged.first_sequence}" in engine.log
