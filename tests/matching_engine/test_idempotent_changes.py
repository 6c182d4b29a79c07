"""A retry is safe for whatever changes orders or the exchange: replaces, mass cancels and the operator's controls give their
first answer again, over restarts, with the index or without; what a kill cut short is carried on.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from ordertape.v1 import error_reason_pb2, ledger_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from services.wire.position import decode_position
from tests.support.engine_audit import LedgerAudit
from tests.support.engine_client import BUY, CANCELLED, SELL, EngineClient, failure_of, limit, newest, replace, stop
from tests.support.engine_exchange import BTC_USD, ETH_USD, running_engine
from tests.support.engine_forgery import cut_after
from tests.support.engine_process import EngineProcess, verify_ledger

CODE = grpc.StatusCode


def set_up(client: EngineClient) -> None:
    """User a has an open order of each number from 1 to 5; b and c have one each."""
    client.fund("a", "b", "c", USD="100000", BTC="100")
    client.submit(*(limit("a", SELL, "300", str(qty), client_order_id=f"o{qty}") for qty in range(1, 6)))
    client.submit(limit("b", BUY, "10", "1", client_order_id="b"), limit("c", BUY, "10", "1", client_order_id="c"))


def everything(client: EngineClient) -> dict[str, Callable[[], Any]]:
    """A call of each kind that can be repeated, in an order in which each does something."""
    by_submit = replace("a", "o2", "many", qty="1.5")
    session = pb.OrderSessionRequest(
        items=[pb.SubmitOrdersItem(replace=replace("a", "o3", "session", price="302", expected_version=1))]
    )
    return {
        "a replace": lambda: client.replace(replace("a", "o1", "r", price="301.0", qty="2")),
        "a replace that fills": lambda: client.replace(replace("b", "b", "take", price="300")),
        "a replace in a message of many": lambda: client.submit(by_submit).results[0],
        "a replace in a session": lambda: next(client.engine.OrderSession(iter([session]))).results[0],
        "a mass cancel of a side": lambda: client.cancel_orders("a", "sells", side=SELL, symbols=["BTC-USD"]),
        "a mass cancel of nothing": lambda: client.cancel_orders("a", "nothing"),
        "a halt": lambda: client.set_symbol("BTC-USD", "HALTED", "halt", "fire"),
        "a resumption": lambda: client.set_symbol("BTC-USD", "TRADING", "resume"),
        "a suspension": lambda: client.set_user("c", "SUSPENDED", "suspend", reason_text="fraud"),
        "a forced cancel": lambda: client.force_cancel(7, "force", "erroneous"),
        "a suspension with cancels": lambda: client.set_user("b", "SUSPENDED", "out", cancel_open_orders=True),
        "a readmission": lambda: client.set_user("c", "ACTIVE", "readmit"),
        "new rules": lambda: client.set_instrument(BTC_USD | {"taker_fee_rate": "0.0030"}, "fees"),
        "a new instrument": lambda: client.set_instrument(ETH_USD | {"symbol": "ETH-USD.2"}, "list"),
    }


def assert_repeats(first: Any, again: Any) -> None:
    """The same answer, byte for byte, but for `replayed`."""
    assert (first.replayed, again.replayed) == (False, True)
    again.replayed = False
    assert again.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)


def test_a_repeat_gets_the_first_answer_byte_for_byte_and_changes_nothing(client: EngineClient, data_dir: Path) -> None:
    set_up(client)
    firsts = {name: call() for name, call in everything(client).items()}
    assert firsts["a mass cancel of a side"].cancelled_count == 5
    assert firsts["a mass cancel of nothing"].cancelled_count == 0
    assert newest(firsts["a forced cancel"].updates).status == CANCELLED
    assert firsts["new rules"].instrument.taker_fee_rate == "0.003"
    durable = client.durable_sequence()
    for name, call in everything(client).items():
        assert_repeats(firsts[name], call())
    assert client.durable_sequence() == durable
    audit = LedgerAudit(client.batches())
    audit.check_money()
    assert sum(kind == "operator" for kind, _, _ in audit.by_key) == 8
    code, said = verify_ledger(data_dir)
    assert code == 0, said


@pytest.mark.parametrize("index", ["kept", "deleted", "damaged"])
def test_it_holds_over_restarts_with_the_index_or_without(data_dir: Path, index: str) -> None:
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        set_up(client)
        firsts = {name: call() for name, call in everything(client).items()}
    for file in data_dir.glob("engine.db*"):
        if index == "deleted":
            file.unlink()
        elif index == "damaged":
            file.write_bytes(b"no database" * 1000)
    # Config does not name what was set at run time, so that it stays.
    with running_engine(data_dir, instruments=()) as engine, EngineClient(engine.address) as client:
        durable = client.durable_sequence()
        for name, call in everything(client).items():
            assert_repeats(firsts[name], call())
        assert failure_of(lambda: client.cancel_orders("a", "sells")).reason == "KEY_REUSED"
        assert failure_of(lambda: client.set_user("c", "SUSPENDED", "halt")).reason == "KEY_REUSED"
        assert client.durable_sequence() == durable


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineClient]:
    """A key of each kind is used. One engine for all: nothing of what is refused may leave a trace in it."""
    with running_engine(tmp_path_factory.mktemp("used") / "engine") as engine, EngineClient(engine.address) as client:
        set_up(client)
        client.place(stop("a", SELL, "5", price="4", qty="1", client_order_id="stop"))
        for call in everything(client).values():
            call()
        yield client


OTHER_CONTENT: list[tuple[str, Callable[[EngineClient], Any]]] = [
    ("price", lambda c: c.replace(replace("a", "o1", "r", price="301.01", qty="2"))),
    ("price", lambda c: c.replace(replace("a", "o1", "r", qty="2"))),
    ("qty", lambda c: c.replace(replace("a", "o1", "r", price="301", qty="2.0001"))),
    ("display_qty", lambda c: c.replace(replace("a", "o1", "r", price="301", qty="2", display_qty="1"))),
    ("stop_price", lambda c: c.replace(replace("a", "o1", "r", price="301", qty="2", stop_price="1"))),
    ("expected_version", lambda c: c.replace(replace("a", "o1", "r", price="301", qty="2", expected_version=2))),
    ("client_order_id", lambda c: c.replace(replace("a", "o2", "r", price="301", qty="2"))),
    ("order_id", lambda c: c.replace(replace("a", 1, "r", price="301", qty="2"))),
    ("symbols", lambda c: c.cancel_orders("a", "sells", side=SELL)),
    ("symbols", lambda c: c.cancel_orders("a", "sells", side=SELL, symbols=["BTC-USD", "ETH-USD"])),
    ("side", lambda c: c.cancel_orders("a", "sells", symbols=["BTC-USD"])),
    ("symbol", lambda c: c.set_symbol("ETH-USD", "HALTED", "halt", "fire")),
    ("status", lambda c: c.set_symbol("BTC-USD", "TRADING", "halt", "fire")),
    ("reason_text", lambda c: c.set_symbol("BTC-USD", "HALTED", "halt")),
    ("user_id", lambda c: c.set_user("d", "SUSPENDED", "suspend", reason_text="fraud")),
    ("status", lambda c: c.set_user("c", "ACTIVE", "suspend", reason_text="fraud")),
    ("cancel_open_orders", lambda c: c.set_user("c", "SUSPENDED", "suspend", reason_text="fraud", cancel_open_orders=True)),
    ("order_id", lambda c: c.force_cancel(6, "force", "erroneous")),
    ("reason_text", lambda c: c.force_cancel(7, "force", "otherwise")),
    ("instrument", lambda c: c.set_instrument(BTC_USD | {"taker_fee_rate": "0.004"}, "fees")),
]


@pytest.mark.parametrize(("field", "changed"), OTHER_CONTENT, ids=[f"{n} {field}" for n, (field, _) in enumerate(OTHER_CONTENT)])
def test_other_content_under_a_used_key_is_refused_naming_the_field(
    used: EngineClient, field: str, changed: Callable[[EngineClient], Any]
) -> None:
    durable = used.durable_sequence()
    failure = failure_of(lambda: changed(used))
    assert (failure.code, failure.reason, failure.metadata["field"]) == (CODE.ALREADY_EXISTS, "KEY_REUSED", field)
    assert f"was used before with another {field}: " in failure.text
    assert "  " not in failure.text.partition(" was used")[0]
    assert used.durable_sequence() == durable


CONTROLS: dict[str, Callable[[EngineClient, str], Any]] = {
    "set_trading_status": lambda c, key: c.set_symbol("BTC-USD", "HALTED", key),
    "set_user_status": lambda c, key: c.set_user("d", "SUSPENDED", key),
    "force_cancel_order": lambda c, key: c.force_cancel(1, key),
    "set_instrument": lambda c, key: c.set_instrument(BTC_USD, key),
}


@pytest.mark.parametrize(("key", "first"), [("halt", "set_trading_status"), ("suspend", "set_user_status"),
                                            ("force", "force_cancel_order"), ("fees", "set_instrument")])  # fmt: skip
def test_all_controls_of_operators_share_their_keys(used: EngineClient, key: str, first: str) -> None:
    durable = used.durable_sequence()
    for kind, call in CONTROLS.items():
        failure = failure_of(lambda call=call: call(used, key))
        assert (failure.code, failure.reason) == (CODE.ALREADY_EXISTS, "KEY_REUSED"), kind
        if kind != first:
            assert f"request_id {key} was used before for another kind of request: {first}" in failure.text
            assert failure.metadata["field"] == "request_id"
    assert used.durable_sequence() == durable


def test_a_key_of_an_operator_is_none_of_a_users_and_each_kind_of_request_has_its_own(client: EngineClient) -> None:
    set_up(client)
    key = "key"
    answers: list[Any] = [
        client.set_user("a", "ACTIVE", key),
        client.replace(replace("a", "o1", key, qty="0.5")),
        client.replace(replace("b", "b", key, qty="0.5")),
        client.engine.CancelOrder(pb.CancelOrderRequest(user_id="a", client_order_id="o2", request_id=key)),
        client.cancel_orders("a", key),
        client.cancel_orders("b", key),
        client.place(limit("a", SELL, "300", "1", client_order_id=key)),
        client.deposit(pb.DepositRequest(user_id="a", asset="USD", amount="1", request_id=key)),
    ]
    assert [answer.replayed for answer in answers] == [False] * len(answers)


def test_content_is_compared_in_canonical_decimals(client: EngineClient) -> None:
    set_up(client)
    first = client.replace(replace("a", "o1", "r", price="301", qty="2"))
    assert_repeats(first, client.replace(replace("a", "o1", "r", price="0301.00", qty="02.0")))
    rules = client.set_instrument(BTC_USD, "rules")
    spelled = BTC_USD | {"qty_step": "0.00010", "price_max": "01000000", "maker_fee_rate": "0.0010"}
    assert_repeats(rules, client.set_instrument(spelled, "rules"))


def test_what_was_refused_has_used_no_key(client: EngineClient) -> None:
    set_up(client)
    before = client.durable_sequence()
    refusals = [
        failure_of(lambda: client.replace(replace("a", "o1", "k", qty="1"))),
        failure_of(lambda: client.replace(replace("a", "o1", "k", qty="1.5", expected_version=7))),
        failure_of(lambda: client.replace(replace("a", "none", "k", qty="2"))),
        failure_of(lambda: client.replace(replace("a", "o1", "k", qty="10000"))),
        failure_of(lambda: client.set_symbol("NONE", "HALTED", "k")),
        failure_of(lambda: client.force_cancel(99, "k")),
        failure_of(lambda: client.set_instrument(BTC_USD | {"price_step": "0.001"}, "k")),
    ]
    assert [failure.code for failure in refusals] == [
        CODE.FAILED_PRECONDITION, CODE.ABORTED, CODE.NOT_FOUND, CODE.FAILED_PRECONDITION, CODE.NOT_FOUND, CODE.NOT_FOUND,
        CODE.FAILED_PRECONDITION,
    ]  # fmt: skip
    assert [failure.reason for failure in refusals] == [
        "REPLACE_REFUSED", "VERSION_MISMATCH", "ORDER_NOT_FOUND", "REPLACE_REFUSED", "SYMBOL_NOT_FOUND", "ORDER_NOT_FOUND",
        "INSTRUMENT_REFUSED",
    ]  # fmt: skip
    assert client.durable_sequence() == before
    assert not client.replace(replace("a", "o1", "k", qty="1.5")).replayed
    assert not client.set_symbol("BTC-USD", "HALTED", "k").replayed


def test_a_dry_run_uses_no_key_and_is_not_journaled(client: EngineClient) -> None:
    set_up(client)
    before = client.status()
    counted = client.cancel_orders("a", "k", dry_run=True)
    assert (counted.cancelled_count, counted.replayed) == (5, False)
    assert decode_position(counted.position).sequence == before.durable_sequence == client.durable_sequence()
    done = client.cancel_orders("a", "k")
    assert (done.cancelled_count, done.replayed) == (5, False)
    assert client.cancel_orders("a", "k", dry_run=True).cancelled_count == 0
    assert client.cancel_orders("a", "k").replayed


def test_in_one_message_a_repeated_replace_is_known_and_other_content_refused(client: EngineClient) -> None:
    set_up(client)
    first, again, other, next_one = client.submit(
        replace("a", "o1", "r", qty="0.5"),
        replace("a", "o1", "r", qty="0.5"),
        replace("a", "o1", "r", qty="0.6"),
        replace("a", "o1", "s", qty="0.4"),
    ).results
    assert_repeats(first, again)
    assert other.error.reason == error_reason_pb2.ERROR_REASON_KEY_REUSED
    assert (newest(next_one.updates).version, newest(next_one.updates).qty) == (3, "0.4")


MANY = 1100


def many_orders(data_dir: Path, end: Callable[[EngineClient], Any]) -> Any:
    """User a has so many orders that to end them takes three batches; the answer to what ``end`` does."""
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", "b", USD="100000", BTC="100")
        orders = [limit("a", BUY, "10", "0.01")] * MANY
        for start in range(0, MANY, 500):
            client.submit(*orders[start : start + 500])
        client.place(limit("b", BUY, "10", "0.01"))
        answer = end(client)
        assert client.balances("a")["USD"] == ("100000", "0")
        assert len(client.book().bids) == 1
        assert decode_position(answer.position).sequence == client.durable_sequence()
        return answer


def assert_carried_on(data_dir: Path, kind: str, index: str, end: Callable[[EngineClient], Any]) -> tuple[Any, Any]:
    """Cut the ledger after the first of the batches; the answers to a retry, and to another one."""
    cut_after(data_dir, lambda batch: batch.WhichOneof("request") == kind)
    if index == "deleted":
        for file in data_dir.glob("engine.db*"):
            file.unlink()
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        assert client.cancel_orders("a", dry_run=True).cancelled_count == MANY - 500
        retried = end(client)
        assert client.balances("a")["USD"] == ("100000", "0")
        assert not retried.replayed
        again = end(client)
        assert_repeats(retried, again)
        LedgerAudit(client.batches()).check_money()
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        assert_repeats(retried, end(client))
    code, said = verify_ledger(data_dir)
    assert code == 0, said
    return retried, again


@pytest.mark.parametrize("index", ["kept", "deleted"])
def test_a_mass_cancel_that_was_killed_in_the_middle_is_carried_on_by_its_retry(data_dir: Path, index: str) -> None:
    def end(client: EngineClient) -> pb.CancelOrdersResponse:
        return client.cancel_orders("a", "all")

    assert many_orders(data_dir, end).cancelled_count == MANY
    retried, _ = assert_carried_on(data_dir, "cancel_orders", index, end)
    assert retried.cancelled_count == MANY - 500


@pytest.mark.parametrize("index", ["kept", "deleted"])
def test_a_suspension_that_was_killed_in_the_middle_is_carried_on_by_its_retry(data_dir: Path, index: str) -> None:
    def end(client: EngineClient) -> pb.SetUserStatusResponse:
        return client.set_user("a", "SUSPENDED", "out", cancel_open_orders=True)

    many_orders(data_dir, end)
    assert_carried_on(data_dir, "set_user_status", index, end)


def test_a_mass_cancel_that_was_killed_and_never_repeated_leaves_the_counts_of_others_right(data_dir: Path) -> None:
    many_orders(data_dir, lambda client: client.cancel_orders("a", "all"))
    cut_after(data_dir, lambda batch: batch.WhichOneof("request") == "cancel_orders")
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        assert client.cancel_orders("b", "mine").cancelled_count == 1
        assert client.cancel_orders("a").cancelled_count == MANY - 500
        batches = [ledger_pb2.LedgerBatch.FromString(data) for data in client.batches()]
    done = [batch.commands[-1].mass_cancel_done for batch in batches if batch.commands[-1].HasField("mass_cancel_done")]
    assert [(one.user_id, one.request_id, one.cancelled_count) for one in done] == [("b", "mine", 1), ("a", "", MANY - 500)]
    assert not done[1].HasField("request_id")
    code, said = verify_ledger(data_dir)
    assert code == 0, said


DIES_IN_A_LARGE_WRITE = """
import os, signal
write = os.pwrite
def dying(file, data, offset):
    if len(data) > 150_000:
        write(file, memoryview(data)[: len(data) * 2 // 3], offset)
        os.kill(os.getpid(), signal.SIGKILL)
    return write(file, data, offset)
os.pwrite = dying
"""


@pytest.mark.parametrize("kind", ["cancel_orders", "set_user_status"])
def test_an_engine_that_is_killed_while_it_writes_a_request_of_many_batches_lets_the_retry_carry_on(
    data_dir: Path, kind: str
) -> None:
    def end(client: EngineClient) -> Any:
        if kind == "cancel_orders":
            return client.cancel_orders("a", "all")
        return client.set_user("a", "SUSPENDED", "out", cancel_open_orders=True)

    with EngineProcess(data_dir, before=DIES_IN_A_LARGE_WRITE) as engine, engine.client() as client:
        client.fund("a", USD="100000")
        for _ in range(MANY // 100):
            client.submit(*[limit("a", BUY, "10", "0.01")] * 100)
        assert failure_of(lambda: end(client)).code == CODE.UNAVAILABLE
        assert engine.wait() == -9
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        left = client.cancel_orders("a", dry_run=True).cancelled_count
        assert left == MANY - 500, "one whole batch is there, the torn one and what comes after it is not"
        retried = end(client)
        assert not retried.replayed
        assert_repeats(retried, end(client))
        assert client.balances("a")["USD"] == ("100000", "0")
    code, said = verify_ledger(data_dir)
    assert code == 0, said
