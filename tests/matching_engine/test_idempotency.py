"""A key names a request for good: its repeat gets the first answer again, other content under it is refused."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from ordertape.v1 import error_reason_pb2, ledger_pb2, order_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from tests.support.engine_client import (
    BUY,
    CANCELLED,
    FILLED,
    GTC,
    NEW,
    REJECTED,
    SELL,
    EngineClient,
    cancel,
    failure_of,
    limit,
    market,
    newest,
)
from tests.support.engine_exchange import running_engine

Answer = pb.PlaceOrderResponse | pb.CancelOrderResponse | pb.DepositResponse | pb.WithdrawResponse | pb.SubmitOrdersResult


def deposit(amount: str = "5", **changes: str) -> pb.DepositRequest:
    return pb.DepositRequest(**{"user_id": "a", "asset": "USD", "amount": amount, "request_id": "money"} | changes)


def withdraw(amount: str = "5", **changes: str) -> pb.WithdrawRequest:
    return pb.WithdrawRequest(**{"user_id": "a", "asset": "USD", "amount": amount, "request_id": "money"} | changes)


def assert_repeats(first: Answer, again: Answer) -> None:
    """The same answer, byte for byte, but for `replayed`."""
    assert (first.replayed, again.replayed) == (False, True)
    again.replayed = False
    assert again.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)


def everything(client: EngineClient) -> dict[str, Callable[[], Answer]]:
    """A call of each kind, by name, that can be repeated; in the order in which they make sense."""
    rests = limit("a", SELL, "300", "2", client_order_id="rests")
    trades = limit("b", BUY, "305", "1.5", client_order_id="trades")
    expires = market("b", BUY, quote_qty="1000", client_order_id="expires")
    return {
        "an order that rests": lambda: client.place(rests),
        "an order that trades": lambda: client.place(trades),
        "an order that trades and expires": lambda: client.place(expires),
        "a rejected order": lambda: client.place(limit("a", BUY, "0.001", "1", client_order_id="rejected")),
        "an order to cancel": lambda: client.place(limit("a", BUY, "7", "1", client_order_id="to-cancel")),
        "a cancel": lambda: client.cancel(cancel("a", "to-cancel", "stop")),
        "a deposit": lambda: client.deposit(deposit()),
        "a withdrawal": lambda: client.withdraw(withdraw()),
        "a place in a message of many": lambda: client.submit(limit("a", BUY, "8", "1", client_order_id="many")).results[0],
        "a cancel in a message of many": lambda: client.submit(cancel("a", "many", "stop-many")).results[0],
    }


def test_a_repeat_gets_the_first_answer_byte_for_byte_whatever_happened_since(client: EngineClient) -> None:
    firsts = {name: call() for name, call in everything(client).items()}
    durable = client.durable_sequence()
    for name, call in everything(client).items():
        assert_repeats(firsts[name], call())
    assert client.durable_sequence() == durable


@pytest.mark.parametrize("index", ["kept", "deleted", "damaged"])
def test_it_holds_over_restarts_with_the_index_or_without(data_dir: Path, index: str) -> None:
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", "b", USD="100000", BTC="100")
        firsts = {name: call() for name, call in everything(client).items()}
    if index == "damaged":
        (data_dir / "engine.db").write_bytes(b"no database" * 1000)
    if index == "deleted":
        for file in data_dir.glob("engine.db*"):
            file.unlink()
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        durable = client.durable_sequence()
        for name, call in everything(client).items():
            assert_repeats(firsts[name], call())
        failure = failure_of(lambda: client.place(limit("a", SELL, "301", "2", client_order_id="rests")))
        assert failure.code == grpc.StatusCode.ALREADY_EXISTS
        assert client.durable_sequence() == durable


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineClient]:
    """User a has used a key of each kind. One engine for all: nothing of what is refused may leave a trace in it."""
    folder = tmp_path_factory.mktemp("used")
    with running_engine(folder / "engine") as engine, EngineClient(engine.address) as client:
        client.fund("a", USD="1000", BTC="10")
        client.place(limit("a", SELL, "300", "1", client_order_id="k"))
        client.cancel(cancel("a", "k", "stop"))
        client.deposit(deposit())
        client.withdraw(withdraw())
        yield client


@pytest.mark.parametrize(
    ("changed", "field", "values"),
    [
        (lambda c: c.place(limit("a", BUY, "100", "1", client_order_id="k")), "side", "SIDE_SELL then, SIDE_BUY now"),
        (lambda c: c.place(limit("a", SELL, "300.01", "1", client_order_id="k")), "price", "'300' then, '300.01' now"),
        (lambda c: c.place(limit("a", SELL, "300", "1.0001", client_order_id="k")), "qty", "'1' then, '1.0001' now"),
        (
            lambda c: c.place(limit("a", SELL, "300", "1", client_order_id="k", symbol="ETH-USD")),
            "symbol",
            "'BTC-USD' then, 'ETH-USD' now",
        ),
        (
            lambda c: c.place(limit("a", SELL, "300", "1", client_order_id="k", post_only=True)),
            "post_only",
            "False then, True now",
        ),
        (
            lambda c: c.place(limit("a", SELL, "300", "1", client_order_id="k", time_in_force=2)),
            "time_in_force",
            "TIME_IN_FORCE_GTC then, TIME_IN_FORCE_IOC now",
        ),
        (
            lambda c: c.place(market("a", SELL, qty="1", client_order_id="k")),
            "order_type",
            "ORDER_TYPE_LIMIT then, ORDER_TYPE_MARKET now",
        ),
        (lambda c: c.cancel(cancel("a", "other", "stop")), "client_order_id", "'k' then, 'other' now"),
        (lambda c: c.cancel(cancel("a", 999, "stop")), "order_id", "absent then, 999 now"),
        (lambda c: c.deposit(deposit("6")), "amount", "'5' then, '6' now"),
        (lambda c: c.deposit(deposit(asset="BTC")), "asset", "'USD' then, 'BTC' now"),
        (lambda c: c.withdraw(withdraw("6")), "amount", "'5' then, '6' now"),
        (lambda c: c.withdraw(withdraw(asset="BTC")), "asset", "'USD' then, 'BTC' now"),
    ],
)
def test_other_content_under_a_used_key_is_refused_naming_the_field(
    used: EngineClient, changed: Callable[[EngineClient], object], field: str, values: str
) -> None:
    durable = used.durable_sequence()
    failure = failure_of(lambda: changed(used))
    assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "KEY_REUSED")
    assert failure.metadata["field"] == field
    assert f"another {field}: {values}" in failure.text
    assert used.durable_sequence() == durable


def test_content_is_compared_after_defaults_and_in_canonical_decimals(client: EngineClient) -> None:
    first = client.place(limit("a", SELL, "300", "1", client_order_id="k"))
    spelled_out = limit("a", SELL, "0300.00", "1.0", client_order_id="k", time_in_force=GTC, self_trade_prevention=1)
    assert_repeats(first, client.place(spelled_out))
    taken = client.place(market("b", BUY, qty="0.50", client_order_id="k"))
    assert newest(taken.updates).status == FILLED
    assert_repeats(taken, client.place(market("b", BUY, qty="0.5", client_order_id="k", time_in_force=2)))
    money = client.deposit(deposit("5"))
    assert_repeats(money, client.deposit(deposit("05.000")))


def test_a_key_is_unique_per_user_and_kind(client: EngineClient) -> None:
    placed = [client.place(limit(user, SELL, "300", "1", client_order_id="key")) for user in ("a", "b")]
    others = [
        client.cancel(cancel("a", "key", "key")),
        client.deposit(deposit(request_id="key")),
        client.withdraw(withdraw(request_id="key")),
        client.deposit(deposit(request_id="key", user_id="b")),
    ]
    assert [answer.replayed for answer in [*placed, *others]] == [False] * 6


def test_within_one_message_a_repeat_is_known_and_other_content_refused(client: EngineClient) -> None:
    order = limit("a", SELL, "300", "1", client_order_id="k")
    answer = client.submit(
        order,
        order,
        limit("a", SELL, "300", "2", client_order_id="k"),
        cancel("a", "k", "stop"),
        cancel("a", "k", "stop"),
        cancel("a", "k", "stop-again"),
        cancel("b", "k", "stop"),
        order,
    )
    placed, again, other, cancelled, cancelled_again, too_late, not_mine, at_last = answer.results
    assert_repeats(placed, again)
    assert other.error.code == 6
    assert other.error.reason == error_reason_pb2.ERROR_REASON_KEY_REUSED
    assert "another qty" in other.error.message
    assert_repeats(cancelled, cancelled_again)
    assert too_late.error.reason == error_reason_pb2.ERROR_REASON_ORDER_CLOSED
    assert not_mine.error.reason == error_reason_pb2.ERROR_REASON_ORDER_NOT_FOUND
    assert at_last.replayed
    assert answer.position == cancelled.position
    assert newest(cancelled.updates).status == CANCELLED


def test_a_key_is_the_same_alone_and_in_a_message_of_many(client: EngineClient) -> None:
    order = limit("a", SELL, "300", "1", client_order_id="k")
    alone = client.place(order)
    (result,) = client.submit(order).results
    assert result.replayed
    assert (list(result.updates), result.position) == (list(alone.updates), alone.position)


def test_identical_requests_of_sixteen_clients_at_once_place_one_order(client: EngineClient) -> None:
    durable = client.durable_sequence()
    order = limit("a", SELL, "300", "1", client_order_id="at-once")
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(client.place, [order] * 64))
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 63
    assert len({newest(answer.updates).SerializeToString(deterministic=True) for answer in answers}) == 1
    assert len({answer.position for answer in answers}) == 1
    (batch,) = [ledger_pb2.LedgerBatch.FromString(data) for data in client.batches(durable)]
    assert batch.place_order.client_order_id == "at-once"


def test_an_error_that_was_never_journaled_is_not_remembered(client: EngineClient) -> None:
    failures = [
        failure_of(lambda: client.withdraw(withdraw("7", user_id="poor"))),
        failure_of(lambda: client.deposit(deposit("7", asset="XRP"))),
        failure_of(lambda: client.cancel(cancel("a", "later", "stop"))),
        failure_of(lambda: client.place(limit("a", BUY, "-1", "1", client_order_id="later"))),
    ]
    assert [failure.code.value[0] for failure in failures] == [9, 5, 5, 3]
    client.fund("poor", USD="10")
    assert not client.withdraw(withdraw("8", user_id="poor")).replayed
    assert not client.deposit(deposit("8")).replayed
    assert not client.place(limit("a", BUY, "10", "1", client_order_id="later")).replayed
    assert newest(client.cancel(cancel("a", "later", "stop")).updates).status == CANCELLED


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EngineClient, dict[str, int]]]:
    """Orders of user a that ended in each way, the engine restarted since; their numbers by status."""
    data_dir = tmp_path_factory.mktemp("closed") / "engine"
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", "b", USD="10000", BTC="10")
        client.place(limit("a", SELL, "300", "1", client_order_id="FILLED"))
        client.place(limit("b", BUY, "300", "1"))
        client.place(limit("a", SELL, "300", "1", client_order_id="CANCELLED"))
        client.cancel(cancel("a", "CANCELLED"))
        client.place(limit("a", SELL, "300", "1", client_order_id="EXPIRED", time_in_force=2))
        client.place(limit("a", SELL, "0.01", "1", client_order_id="REJECTED"))
        client.place(limit("a", SELL, "300", "1", client_order_id="open"))
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        batches = [ledger_pb2.LedgerBatch.FromString(data) for data in client.batches()]
        updates = [command.order_update for batch in batches for command in batch.commands if command.HasField("order_update")]
        yield client, {update.client_order_id: update.order_id for update in updates if update.user_id == "a"}


@pytest.mark.parametrize("status", ["FILLED", "CANCELLED", "EXPIRED", "REJECTED"])
def test_a_cancel_of_a_closed_order_comes_too_late_and_says_how_it_ended(
    closed: tuple[EngineClient, dict[str, int]], status: str
) -> None:
    client, order_ids = closed
    durable = client.durable_sequence()
    for name in (status, order_ids[status]):
        failure = failure_of(lambda name=name: client.cancel(cancel("a", name)))
        assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ORDER_CLOSED")
        assert failure.text.startswith("too late")
        assert failure.text.endswith(status)
        assert failure.metadata == {"order_id": str(order_ids[status]), "status": status}
    assert client.durable_sequence() == durable


def test_another_users_order_is_not_found_open_or_closed(closed: tuple[EngineClient, dict[str, int]]) -> None:
    client, order_ids = closed
    for name in [*order_ids, *order_ids.values()]:
        failure = failure_of(lambda name=name: client.cancel(cancel("b", name)))
        assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND")
    assert newest(client.cancel(cancel("a", "open")).updates).previous_status == NEW  # nobody has touched it


def test_a_cancel_in_the_message_that_fills_the_order_comes_too_late(client: EngineClient) -> None:
    *_, by_name, again = client.submit(
        limit("a", SELL, "300", "1", client_order_id="maker"),
        limit("b", BUY, "300", "1"),
        cancel("a", "maker"),
        limit("a", SELL, "300", "1", client_order_id="maker"),
    ).results
    assert by_name.error.code == 9
    assert "FILLED" in by_name.error.message
    assert again.replayed


def test_a_ledger_put_back_from_an_older_copy_forgets_the_keys_that_it_never_had(data_dir: Path, tmp_path: Path) -> None:
    early, late = (limit("a", SELL, "300", "1", client_order_id=name) for name in ("early", "late"))
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", BTC="10")
        client.place(early)
    shutil.copytree(data_dir / "ledger", tmp_path / "copy")
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.place(late)
    shutil.rmtree(data_dir / "ledger")
    shutil.copytree(tmp_path / "copy", data_dir / "ledger")
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        assert client.place(early).replayed
        assert not client.place(late).replayed


def test_a_replayed_order_is_answered_as_it_was_and_not_as_it_became(client: EngineClient) -> None:
    order = limit("a", SELL, "300", "1", client_order_id="k")
    client.place(order)
    client.place(limit("b", BUY, "300", "1"))
    again = client.place(order)
    assert [update.status for update in again.updates] == [NEW]
    assert newest(again.updates).exec_type == order_pb2.EXEC_TYPE_NEW
    assert newest(client.place(limit("a", BUY, "0.5", "1", client_order_id="r")).updates).status == REJECTED
