"""Order sessions: SubmitOrders as a stream. Answers in order under the caller's numbers, each durable before it is said, no
message lost in the engine's or the client's hurry; and the orders of who is gone are cancelled, where that was asked for.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from ordertape.v1 import error_reason_pb2, ledger_pb2, order_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from services.matching_engine.bootstrap import Engine
from services.wire.position import decode_position
from tests.support.engine_client import (
    BUY,
    CANCELLED,
    FILLED,
    NEW,
    SELL,
    EngineClient,
    cancel,
    limit,
    newest,
    replace,
)
from tests.support.engine_exchange import running_engine, start_engine
from tests.support.engine_process import EngineProcess, verify_ledger
from tests.support.eventually import eventually
from tests.support.order_session import OrderSession

CODE = grpc.StatusCode
DISCONNECT = order_pb2.CANCEL_REASON_DISCONNECT


@pytest.fixture
def session(engine: Engine) -> Iterator[OrderSession]:
    with OrderSession(engine.address) as session:
        yield session


def ends_of(client: EngineClient, user_id: str) -> list[tuple[str | None, int]]:
    """How the user's orders were cancelled: by which request, for which reason; in the ledger's order."""
    batches = [ledger_pb2.LedgerBatch.FromString(data) for data in client.batches()]
    return [
        (batch.WhichOneof("request"), command.order_update.cancel_reason)
        for batch in batches
        for command in batch.commands
        if command.order_update.user_id == user_id and command.order_update.status == CANCELLED
    ]


def reason_of(error: grpc.RpcError | None) -> str:
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    assert status is not None
    status.details[0].Unpack(info)
    return info.reason


def test_a_session_does_what_submit_orders_does_and_answers_under_the_callers_number(
    client: EngineClient, session: OrderSession
) -> None:
    first = session.ask(limit("a", SELL, "300", "2", client_order_id="o"), limit("b", BUY, "300", "1"))
    assert [newest(result.updates).status for result in first.results] == [NEW, FILLED]
    second = session.ask(replace("a", "o", "r", qty="1.5"), cancel("a", "o", "c"), cancel("a", "o", "c"), cancel("a", "none"))
    replaced, cancelled, again, unknown = second.results
    assert (newest(replaced.updates).qty, newest(cancelled.updates).status) == ("1.5", CANCELLED)
    assert (again.replayed, again.position) == (True, cancelled.position)
    assert (unknown.error.code, unknown.error.reason) == (5, error_reason_pb2.ERROR_REASON_ORDER_NOT_FOUND)
    assert second.position == cancelled.position
    assert decode_position(second.position).sequence == client.durable_sequence()
    assert client.submit(limit("a", SELL, "300", "2", client_order_id="o")).results[0].replayed  # keys are the same everywhere


def test_a_message_without_items_is_answered_with_the_position(client: EngineClient, session: OrderSession) -> None:
    before = client.durable_sequence()
    answer = session.ask()
    assert (list(answer.results), decode_position(answer.position).sequence) == ([], before)
    assert client.durable_sequence() == before


def test_one_bad_item_fails_itself_alone(client: EngineClient, session: OrderSession) -> None:
    good = limit("a", BUY, "10", "1")
    bad = pb.PlaceOrderRequest(user_id="a b", symbol="BTC-USD", side=99, order_type=2, price="1")  # type: ignore[arg-type]
    session.send_message(pb.OrderSessionRequest(items=[pb.SubmitOrdersItem(place=good), pb.SubmitOrdersItem(place=bad),
                                                       pb.SubmitOrdersItem(), pb.SubmitOrdersItem(place=good)]))  # fmt: skip
    (answer,) = eventually(lambda: list(session.answers))
    first, failed, empty, last = answer.results
    assert [newest(result.updates).status for result in (first, last)] == [NEW, NEW]
    fields = [violation.field for violation in failed.error.field_violations]
    assert (failed.error.code, fields) == (3, ["place.user_id", "place.side", "place.price", "place.qty"])
    assert [violation.field for violation in empty.error.field_violations] == ["action"]
    assert [newest(result.updates).status for result in session.ask(good).results] == [NEW]


def test_many_messages_in_flight_are_answered_in_order_each_with_the_number_that_it_came_with(
    engine: Engine, client: EngineClient
) -> None:
    numbers = [5, 5, -1, 0, (1 << 63) - 1, -(1 << 63), *range(1000, 0, -1)]
    with OrderSession(engine.address) as one, OrderSession(engine.address) as two:
        for number in numbers:
            one.send(limit("a", BUY, "10", "0.01"), limit("a", BUY, "11", "0.01"), correlation_id=number)
            two.send(limit("b", SELL, "300", "0.01"), correlation_id=number)
        for session in (one, two):
            eventually(lambda session=session: len(session.answers) == len(numbers), 60)
            assert [answer.correlation_id for answer in session.answers] == numbers
            sequences = [decode_position(answer.position).sequence for answer in session.answers]
            assert sequences == sorted(set(sequences))
            numbered = [newest(result.updates).order_number for answer in session.answers for result in answer.results]
            assert numbered == sorted(numbered)
    assert (one.code, two.code) == (CODE.OK, CODE.OK)
    assert len(client.book().bids) == 2
    assert client.cancel_orders("a", dry_run=True).cancelled_count == 2 * len(numbers)


def test_a_client_that_does_not_listen_is_held_back_and_holds_nobody_up(engine: Engine, client: EngineClient) -> None:
    messages, items = 60, [limit("a", BUY, "10", "0.001")] * 100
    with OrderSession(engine.address, hears=False) as deaf:
        for _ in range(messages):
            deaf.send(*items)
        wait_until_it_stands_still(client)
        decided = client.cancel_orders("a", dry_run=True).cancelled_count
        assert 0 < decided < messages * len(items) / 2, "the engine went on for somebody who takes no answers"
        assert newest(client.place(limit("b", BUY, "10", "1")).updates).status == NEW
        deaf.hear()
        eventually(lambda: len(deaf.answers) == messages, 60)
    assert [answer.correlation_id for answer in deaf.answers] == list(range(1, messages + 1))
    assert client.cancel_orders("a", dry_run=True).cancelled_count == messages * len(items)


def wait_until_it_stands_still(client: EngineClient) -> None:
    """The engine has begun and does nothing more."""
    seen = [0]

    def nothing_happens() -> bool:
        seen.append(client.durable_sequence())
        time.sleep(0.3)
        return 20 < seen[-2] == seen[-1] == client.durable_sequence()

    eventually(nothing_happens, 30)


def test_a_message_that_breaks_a_rule_ends_the_session_after_the_answers_before_it(engine: Engine, client: EngineClient) -> None:
    item = pb.SubmitOrdersItem(place=limit("a", BUY, "10", "1"))
    wish = pb.CancelOnDisconnect(user_id="a")
    for message, fields in [
        (pb.OrderSessionRequest(items=[item] * 501), ["items"]),
        (pb.OrderSessionRequest(items=[item], cancel_on_disconnect=wish), ["cancel_on_disconnect"]),
    ]:
        before = client.durable_sequence()
        with OrderSession(engine.address) as session:
            session.send(limit("a", BUY, "10", "1"))
            session.send_message(message)
            session.send(limit("a", BUY, "10", "1"))
            assert session.wait_for_end() == CODE.INVALID_ARGUMENT
            assert len(session.answers) == 1
            assert reason_of(session.error) == "INVALID_REQUEST"
            bad_request = error_details_pb2.BadRequest()
            rpc_status.from_call(session.error).details[1].Unpack(bad_request)
            assert [violation.field for violation in bad_request.field_violations] == fields
        assert client.durable_sequence() == before + 2
    assert ends_of(client, "a") == []


@pytest.mark.parametrize("how", ["finished", "lost", "refused"])
def test_the_orders_of_who_is_gone_are_cancelled_at_once_whoever_placed_them(
    engine: Engine, client: EngineClient, data_dir: Path, how: str
) -> None:
    client.place(limit("a", SELL, "300", "1"))
    client.place(limit("b", SELL, "300", "1"))
    with OrderSession(engine.address, user_id="a") as session:
        session.ask(limit("a", BUY, "10", "1"), limit("a", SELL, "301", "2", symbol="ETH-USD"), limit("b", BUY, "10", "1"))
        assert ends_of(client, "a") == []
        if how == "finished":
            session.finish()
        elif how == "lost":
            session.lose()
        else:
            session.send_message(pb.OrderSessionRequest(items=[pb.SubmitOrdersItem()] * 501))
        eventually(lambda: ends_of(client, "a") == [("session_lost", DISCONNECT)] * 3)
    assert ends_of(client, "b") == []
    assert client.balances("a") == {"BTC": ("1000", "0"), "ETH": ("1000", "0"), "USD": ("1000000", "0")}
    assert_the_ledger_is_right(data_dir)


def test_a_session_that_asked_for_nothing_leaves_its_orders_and_one_without_orders_leaves_no_trace(
    engine: Engine, client: EngineClient
) -> None:
    with OrderSession(engine.address) as session:
        session.ask(limit("a", BUY, "10", "1"))
    before = client.durable_sequence()
    with OrderSession(engine.address, user_id="nobody") as session:
        session.ask()
    assert (client.durable_sequence(), ends_of(client, "a")) == (before, [])


def test_more_orders_than_a_command_ends_are_cancelled_in_several(engine: Engine, client: EngineClient, data_dir: Path) -> None:
    with OrderSession(engine.address, user_id="a") as session:
        for _ in range(3):
            session.ask(*[limit("a", BUY, "10", "0.01")] * 400)
    eventually(lambda: not client.book().bids)
    batches = [ledger_pb2.LedgerBatch.FromString(data) for data in client.batches()]
    ended = [sum(c.HasField("order_update") for c in batch.commands) for batch in batches if batch.HasField("session_lost")]
    assert ended == [500, 500, 200]
    assert_the_ledger_is_right(data_dir)


def test_with_a_grace_the_orders_stay_until_it_is_over(engine: Engine, client: EngineClient) -> None:
    with OrderSession(engine.address, user_id="a", grace_seconds=1) as session:
        session.ask(limit("a", BUY, "10", "1"))
        lost_at = time.monotonic()
        session.lose()
    time.sleep(0.3)
    assert client.cancel_orders("a", dry_run=True).cancelled_count == 1
    eventually(lambda: ends_of(client, "a") == [("session_lost", DISCONNECT)])
    assert time.monotonic() - lost_at >= 1


def test_a_new_session_within_the_grace_keeps_the_orders_and_takes_over_the_wish(engine: Engine, client: EngineClient) -> None:
    with OrderSession(engine.address, user_id="a", grace_seconds=1) as session:
        session.ask(limit("a", BUY, "10", "1"))
        session.lose()
    with OrderSession(engine.address, user_id="a") as back:
        back.ask()
        time.sleep(1.3)
        assert client.cancel_orders("a", dry_run=True).cancelled_count == 1
        # Of two sessions of one user, the end of the last one counts.
        with OrderSession(engine.address, user_id="a") as second:
            second.ask()
        assert ends_of(client, "a") == []
    eventually(lambda: ends_of(client, "a") == [("session_lost", DISCONNECT)])


def test_another_users_session_or_one_that_asked_for_nothing_does_not_keep_the_orders(
    engine: Engine, client: EngineClient
) -> None:
    with OrderSession(engine.address) as plain, OrderSession(engine.address, user_id="b") as other:
        plain.ask(limit("a", BUY, "9", "1"))
        other.ask(limit("b", BUY, "9", "1"))
        with OrderSession(engine.address, user_id="a", grace_seconds=1) as session:
            session.ask(limit("a", BUY, "10", "1"))
        eventually(lambda: ends_of(client, "a") == [("session_lost", DISCONNECT)] * 2)
        assert ends_of(client, "b") == []


CLIENT = """
import sys
from tests.support.engine_client import BUY, limit
from tests.support.order_session import OrderSession
session = OrderSession(sys.argv[1], user_id="a", grace_seconds=int(sys.argv[2]))
session.__enter__()
session.ask(limit("a", BUY, "10", "1"), limit("a", BUY, "10", "1"))
print("placed", flush=True)
sys.stdin.read()
"""


def test_the_orders_of_a_client_that_was_killed_are_cancelled(engine: Engine, client: EngineClient) -> None:
    with Popen([sys.executable, "-c", CLIENT, engine.address, "0"], stdin=PIPE, stdout=PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"placed\n"
        assert client.cancel_orders("a", dry_run=True).cancelled_count == 2
        killed.kill()
    eventually(lambda: ends_of(client, "a") == [("session_lost", DISCONNECT)] * 2)


def test_an_engine_that_drains_ends_idle_sessions_at_once_and_cancels_what_they_asked_for(data_dir: Path) -> None:
    engine = start_engine(data_dir)
    with EngineClient(engine.address) as client:
        client.fund("a", "b", "c", USD="1000")
        with (
            OrderSession(engine.address, user_id="a") as at_once,
            OrderSession(engine.address, user_id="b", grace_seconds=3600) as with_grace,
            OrderSession(engine.address) as plain,
        ):
            for session, user_id in ((at_once, "a"), (with_grace, "b"), (plain, "c")):
                session.ask(limit(user_id, BUY, "10", "1"))
            with OrderSession(engine.address, user_id="d", grace_seconds=3600) as gone:
                client.fund("d", USD="1000")
                gone.ask(limit("d", BUY, "10", "1"))
            began = time.monotonic()
            engine.drain(grace_seconds=10)
            assert time.monotonic() - began < 5
            engine.close()
            for session in (at_once, with_grace, plain):
                assert session.wait_for_end() == CODE.UNAVAILABLE
                assert reason_of(session.error) == "DRAINING"
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        assert {user: ends_of(client, user) for user in "abcd"} == {
            **{user: [("session_lost", DISCONNECT)] for user in "abd"}, "c": []
        }  # fmt: skip
    assert_the_ledger_is_right(data_dir)


def test_an_engine_that_drains_answers_what_it_has_taken_in_and_refuses_the_rest(data_dir: Path) -> None:
    engine = start_engine(data_dir)
    stopping = threading.Event()
    with EngineClient(engine.address) as client, OrderSession(engine.address) as session:
        client.fund("a", USD="100000")
        eventually(lambda: client.durable_sequence() > 0)

        def send() -> None:
            while not stopping.is_set():
                session.send(limit("a", BUY, "10", "0.01", client_order_id=f"k{session.sent}"))
                time.sleep(0.001)

        sender = threading.Thread(target=send)
        sender.start()
        eventually(lambda: len(session.answers) > 100)
        engine.drain(grace_seconds=10)
        engine.close()
        stopping.set()
        sender.join()
        assert session.wait_for_end() == CODE.UNAVAILABLE
        assert reason_of(session.error) == "DRAINING"
        answered = len(session.answers)
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        assert client.cancel_orders("a", dry_run=True).cancelled_count == answered
        assert [answer.correlation_id for answer in session.answers] == list(range(1, answered + 1))


def test_a_client_that_takes_no_answers_does_not_keep_its_orders_when_the_engine_stops(data_dir: Path) -> None:
    engine = start_engine(data_dir)
    with EngineClient(engine.address) as client, OrderSession(engine.address, user_id="a", hears=False) as deaf:
        client.fund("a", USD="1000")
        for _ in range(100):
            deaf.send(*[limit("a", BUY, "10", "0.001")] * 100)
        wait_until_it_stands_still(client)
        assert not engine.servers[0].drain(grace_seconds=0.5)
        engine.close()
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        assert client.cancel_orders("a", dry_run=True).cancelled_count == 0
        assert set(ends_of(client, "a")) == {("session_lost", DISCONNECT)}
    assert_the_ledger_is_right(data_dir)


def test_sigterm_with_sessions_open_ends_the_engine_in_order_and_quickly(data_dir: Path) -> None:
    with EngineProcess(data_dir) as engine:
        address = engine.address()
        with engine.client() as client:
            client.fund("a", USD="1000")
            with OrderSession(address, user_id="a") as session:
                session.ask(limit("a", BUY, "10", "1"))
                began = time.monotonic()
                engine.terminate()
                assert engine.wait() == 0, engine.log
                assert time.monotonic() - began < 5
        assert "Traceback" not in engine.log
        engine.start()
        with engine.client() as client:
            assert ends_of(client, "a") == [("session_lost", DISCONNECT)]


def test_an_engine_that_was_killed_has_cancelled_nothing_and_has_what_it_answered(data_dir: Path) -> None:
    with EngineProcess(data_dir) as engine:
        with engine.client() as client:
            client.fund("a", USD="1000")
        with OrderSession(engine.address(), user_id="a") as session:
            for number in range(20):
                session.ask(limit("a", BUY, "10", "0.1", client_order_id=f"k{number}"))
            engine.kill()
            assert session.wait_for_end() == CODE.UNAVAILABLE
        engine.start()
        with engine.client() as client, OrderSession(engine.address(), user_id="a") as back:
            (again,) = back.ask(limit("a", BUY, "10", "0.1", client_order_id="k7")).results
            assert again.replayed
            assert client.cancel_orders("a", dry_run=True).cancelled_count == 20
    assert_the_ledger_is_right(data_dir)


def test_as_many_sessions_as_the_engine_takes_leave_calls_and_the_ledgers_readers_alone(data_dir: Path) -> None:
    settings = {"sessions_max": 5, "replays_max": 1, "calls_max": 4}
    with running_engine(data_dir, **settings) as engine, EngineClient(engine.address) as client, ExitStack() as open_sessions:
        client.fund("a", USD="1000")
        sessions = [open_sessions.enter_context(OrderSession(engine.address)) for _ in range(5)]
        for session in sessions:
            session.ask()
        with OrderSession(engine.address) as one_too_many:
            one_too_many.send()
            assert one_too_many.wait_for_end() == CODE.RESOURCE_EXHAUSTED
            assert reason_of(one_too_many.error) == "TOO_MANY_CALLS"
        assert newest(client.place(limit("a", BUY, "10", "1")).updates).status == NEW
        assert client.batches()
        sessions[0].finish()
        eventually(lambda: engine.servers[0].in_flight == 4)
        with OrderSession(engine.address) as next_one:
            next_one.ask()


def assert_the_ledger_is_right(data_dir: Path) -> None:
    code, said = verify_ledger(data_dir)
    assert code == 0, said
