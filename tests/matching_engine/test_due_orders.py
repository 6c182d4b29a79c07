"""What time and the last trade bring about by themselves: orders that fall due and stops that are reached, while the engine runs,
between two steps of it, and while it was down.
"""

import time
from pathlib import Path

import pytest

from ordertape.v1 import ledger_pb2, order_pb2
from services.matching_engine.bootstrap import Engine
from tests.support.engine_audit import LedgerAudit
from tests.support.engine_client import BUY, EXPIRED, SELL, EngineClient, cancel, failure_of, limit, newest, stop
from tests.support.engine_clock import MovableClock
from tests.support.engine_exchange import running_engine
from tests.support.engine_flow import timestamp_in
from tests.support.engine_forgery import cut_after
from tests.support.engine_process import EngineProcess, verify_ledger
from tests.support.eventually import eventually
from tests.support.timelines import line_of

GTD, DAY = order_pb2.TIME_IN_FORCE_GTD, order_pb2.TIME_IN_FORCE_DAY
DAY_SECONDS = 86_400


@pytest.fixture
def clock(engine: Engine) -> MovableClock:
    return MovableClock(engine)


def batches_of(client: EngineClient, after_sequence: int = 0) -> list[ledger_pb2.LedgerBatch]:
    return [ledger_pb2.LedgerBatch.FromString(data) for data in client.batches(after_sequence)]


def causes(batches: list[ledger_pb2.LedgerBatch]) -> list[str | None]:
    return [batch.WhichOneof("request") for batch in batches]


def life(client: EngineClient, order_id: int) -> list[str]:
    """The order's lines, from the ledger."""
    updates = [command.order_update for batch in batches_of(client) for command in batch.commands]
    return [line_of(update) for update in updates if update.order_id == order_id]


def assert_the_ledger_is_right(data_dir: Path) -> None:
    code, said = verify_ledger(data_dir)
    assert code == 0, said


def test_an_idle_engine_expires_an_order_when_its_time_comes(client: EngineClient) -> None:
    order = newest(client.place(limit("a", SELL, "300", "1", time_in_force=GTD, expire_time=timestamp_in(0.2))).updates)
    eventually(lambda: len(life(client, order.order_id)) == 2, 5)
    expiry = batches_of(client)[-1]
    assert expiry.WhichOneof("request") == "expire_due"
    late = expiry.timestamp.ToMicroseconds() - order.expire_time.ToMicroseconds()
    assert 0 <= late < 1_000_000
    assert client.balances("a")["BTC"] == ("1000", "0")


def test_whoever_comes_after_the_time_of_an_order_finds_it_expired_also_to_read(
    client: EngineClient, clock: MovableClock
) -> None:
    for what in ("book", "balances", "dry run", "cancel", "trade"):
        name = f"gtd {what}".replace(" ", "-")
        changes = {"time_in_force": GTD, "expire_time": clock.time_in(1800), "client_order_id": name}
        order = newest(client.place(limit("a", SELL, "300", "1", **changes)).updates)
        clock.ahead_seconds += 3600
        if what == "book":
            assert not client.book().asks
        elif what == "balances":
            assert client.balances("a")["BTC"] == ("1000", "0")
        elif what == "dry run":
            assert client.cancel_orders("a", dry_run=True).cancelled_count == 0
        elif what == "cancel":
            assert "too late: order" in failure_of(lambda name=name: client.cancel(cancel("a", name))).text
        else:
            bid = newest(client.place(limit("b", BUY, "300", "1")).updates)
            assert line_of(bid) == "NEW NEW 0 1"
        assert life(client, order.order_id) == ["NEW NEW 0 1", "EXPIRED EXPIRED 0 0 GTD_REACHED"]


def test_orders_that_are_due_expire_in_the_order_of_their_times_five_hundred_in_a_command(
    client: EngineClient, clock: MovableClock, data_dir: Path
) -> None:
    orders = [
        limit("a", BUY, "10", "0.01", time_in_force=GTD, expire_time=clock.time_in(1000 - number % 7)) for number in range(1201)
    ]
    for start in range(0, len(orders), 400):
        client.submit(*orders[start : start + 400])
    before = client.durable_sequence()
    clock.ahead_seconds = 3600
    client.fund("b", USD="1")
    batches = batches_of(client, before)
    assert causes(batches) == ["expire_due", "expire_due", "expire_due", "deposit"]
    updates = [[c.order_update for c in batch.commands if c.HasField("order_update")] for batch in batches[:3]]
    assert [len(of_batch) for of_batch in updates] == [500, 500, 201]
    times = [update.expire_time.ToMicroseconds() for of_batch in updates for update in of_batch]
    assert times == sorted(times)
    assert client.balances("a")["USD"] == ("1000000", "0")
    LedgerAudit(client.batches()).check_money()
    assert_the_ledger_is_right(data_dir)


def test_a_stop_that_falls_due_at_the_trade_that_reaches_it_expires_and_the_engine_goes_on(
    engine: Engine, client: EngineClient, clock: MovableClock, data_dir: Path
) -> None:
    changes = {"time_in_force": GTD, "expire_time": clock.time_in(60)}
    order = newest(client.place(stop("a", SELL, "100", qty="1", **changes)).updates)
    kept = newest(client.place(stop("a", SELL, "100", qty="1")).updates)
    client.place(limit("b", BUY, "100", "5"))
    clock.leaps_when = lambda: engine.state.books["BTC-USD"].last_trade_price is not None
    client.place(limit("a", SELL, "100", "1"))
    assert life(client, order.order_id) == ["NEW NEW 0 1", "EXPIRED EXPIRED 0 0 GTD_REACHED"]
    assert life(client, kept.order_id) == ["NEW NEW 0 1", "TRIGGERED NEW 0 1", "TRADE FILLED 1 0"]
    assert_the_ledger_is_right(data_dir)


@pytest.mark.parametrize("kept", [False, True])
def test_orders_that_fall_due_as_a_session_is_lost_expire_and_the_others_are_cancelled(
    engine: Engine, client: EngineClient, clock: MovableClock, data_dir: Path, kept: bool
) -> None:
    order = newest(client.place(limit("a", SELL, "300", "1", time_in_force=GTD, expire_time=clock.time_in(60))).updates)
    if kept:
        client.place(limit("a", SELL, "300", "2"))
    before = client.durable_sequence()
    clock.ahead_seconds = 3600
    engine.sequencer.session_lost("a")
    assert causes(batches_of(client, before)) == ["expire_due", *(["session_lost"] if kept else [])]
    assert life(client, order.order_id)[-1] == "EXPIRED EXPIRED 0 0 GTD_REACHED"
    assert not client.book().asks
    assert_the_ledger_is_right(data_dir)


def test_what_fell_due_while_the_engine_was_down_expires_before_it_serves_stamped_with_the_present(data_dir: Path) -> None:
    with EngineProcess(data_dir) as engine:
        with engine.client() as client:
            client.fund("a", USD="100000", BTC="10")
            client.place(limit("a", SELL, "300", "1", time_in_force=GTD, expire_time=timestamp_in(3600)))
            order = newest(
                client.place(limit("a", BUY, "10", "1", time_in_force=GTD, expire_time=timestamp_in(0.4))).updates
            )  # fmt: skip
            assert client.book().bids
        engine.kill()
        time.sleep(max(0.0, order.expire_time.ToMicroseconds() / 1e6 - time.time()))
        started = time.time_ns() // 1000
        engine.start()
        with engine.client() as client:
            assert not client.book().bids
            assert client.balances("a")["USD"] == ("100000", "0")
            assert len(client.book().asks) == 1
            epoch = [batch for batch in batches_of(client) if batch.epoch == 2]
    assert causes(epoch) == ["start_engine", "expire_due"]
    assert epoch[1].timestamp.ToMicroseconds() >= max(started, order.expire_time.ToMicroseconds())
    ended = epoch[1].commands[-1].order_update
    assert (ended.status, ended.order_id, line_of(ended)) == (EXPIRED, order.order_id, "EXPIRED EXPIRED 0 0 GTD_REACHED")
    assert_the_ledger_is_right(data_dir)


def test_a_day_order_ends_with_the_session_of_config_also_where_the_engine_was_down_then(data_dir: Path) -> None:
    end = (int(time.time()) + 7200) % DAY_SECONDS
    with running_engine(data_dir, session_end_seconds=end) as engine, EngineClient(engine.address) as client:
        clock = MovableClock(engine)
        client.fund("a", USD="100000", BTC="10")
        today = newest(client.place(limit("a", BUY, "10", "1", time_in_force=DAY)).updates)
        assert today.expire_time.seconds % DAY_SECONDS == end
        assert 0 < today.expire_time.seconds - today.created_at.seconds <= 7200
        assert today.expire_time.nanos == 0
        clock.ahead_seconds = 7201
        assert not client.book().bids
        assert life(client, today.order_id) == ["NEW NEW 0 1", "EXPIRED EXPIRED 0 0 SESSION_END"]
        tomorrow = newest(client.place(limit("a", BUY, "10", "2", time_in_force=DAY)).updates)
        assert tomorrow.expire_time.seconds == today.expire_time.seconds + DAY_SECONDS
        stops = newest(client.place(stop("a", SELL, "5", price="4", qty="1", time_in_force=DAY)).updates)
        clock.ahead_seconds -= 10  # a step back of the clock is none of the engine's time
        client.place(limit("a", BUY, "11", "1"))
    # A day later, with another end of the session, which is none of the open orders' concern. (Time goes on from the ledger's.)
    later = (end + 3600) % DAY_SECONDS
    with running_engine(data_dir, session_end_seconds=later, accept_clock=True) as engine, EngineClient(engine.address) as client:
        MovableClock(engine).ahead_seconds = DAY_SECONDS + 7200
        assert len(client.book().bids) == 1
        for order_id in (tomorrow.order_id, stops.order_id):
            assert life(client, order_id)[-1] == "EXPIRED EXPIRED 0 0 SESSION_END"
        update = newest(client.place(limit("a", BUY, "10", "3", time_in_force=DAY)).updates)
        assert update.expire_time.seconds % DAY_SECONDS == later
    assert_the_ledger_is_right(data_dir)


def test_a_triggered_stop_limit_order_keeps_its_end(client: EngineClient, clock: MovableClock) -> None:
    changes = {"price": "100", "qty": "1", "time_in_force": GTD, "expire_time": clock.time_in(60)}
    order = newest(client.place(stop("a", BUY, "100", **changes)).updates)
    client.place(limit("a", BUY, "101", "1"))
    client.place(limit("b", SELL, "101", "1"))
    assert [level.price for level in client.book().bids] == ["100"]
    clock.ahead_seconds = 3600
    assert not client.book().bids
    assert life(client, order.order_id) == ["NEW NEW 0 1", "TRIGGERED NEW 0 1", "EXPIRED EXPIRED 0 0 GTD_REACHED"]


def test_a_stop_that_the_last_trade_had_reached_when_the_engine_died_is_triggered_before_it_serves_again(data_dir: Path) -> None:
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", "b", USD="100000", BTC="10")
        late = newest(client.place(stop("a", SELL, "99", qty="1")).updates)
        early = newest(client.place(stop("a", SELL, "100", qty="1")).updates)
        client.submit(limit("b", BUY, "98", "1"), limit("b", BUY, "99", "1"), limit("b", BUY, "100", "1"))
        client.place(limit("a", SELL, "100", "1", client_order_id="reaches"))
        whole = [life(client, order.order_id) for order in (late, early)]
    assert [lines[-1] for lines in whole] == ["TRADE FILLED 1 0"] * 2
    # The disk has the trade, and not what came after it in the same write.
    cut_after(data_dir, lambda batch: batch.place_order.client_order_id == "reaches")
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        assert [life(client, order.order_id) for order in (late, early)] == whole
        epoch = [batch for batch in batches_of(client) if batch.epoch == 2]
        assert causes(epoch) == ["start_engine", "trigger_stop", "trigger_stop"]
        assert [batch.trigger_stop.order_id for batch in epoch[1:]] == [early.order_id, late.order_id]
        assert not client.book().bids
    assert_the_ledger_is_right(data_dir)


def test_a_halt_holds_stops_back_until_the_symbol_is_resumed_also_over_a_restart(data_dir: Path) -> None:
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", "b", USD="100000", BTC="10")
        order = newest(client.place(stop("a", SELL, "100", qty="1")).updates)
        client.submit(limit("b", BUY, "98", "1"), limit("b", BUY, "100", "1"))
        client.place(limit("a", SELL, "100", "1", client_order_id="reaches"))
    cut_after(data_dir, lambda batch: batch.place_order.client_order_id == "reaches")
    # Halted as soon as the engine is back: the stop is triggered first.
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.set_symbol("BTC-USD", "HALTED", "halt")
        assert life(client, order.order_id)[-1] == "TRADE FILLED 1 0"
        waits = newest(client.place(stop("a", SELL, "99", qty="1")).updates)
        assert line_of(waits) == "REJECTED REJECTED 0 0 SYMBOL_HALTED"
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        assert newest(client.place(limit("b", BUY, "1", "1")).updates).reject_reason == order_pb2.REJECT_REASON_SYMBOL_HALTED
        client.set_symbol("BTC-USD", "TRADING", "resume")
        triggered = client.place(stop("a", SELL, "98", qty="1", time_in_force=DAY))
        assert [line_of(update) for update in triggered.updates] == ["NEW NEW 0 1"]
        assert life(client, newest(triggered.updates).order_id)[1:] == ["TRIGGERED NEW 0 1", "EXPIRED EXPIRED 0 0 MARKET_REST"]
    assert_the_ledger_is_right(data_dir)
