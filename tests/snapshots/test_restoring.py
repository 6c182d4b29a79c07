"""A state that comes back from a snapshot is the state that went in, and everything that follows is as it would have been."""

import shutil
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from ordertape.v1 import ledger_pb2, snapshot_pb2
from services.domain.exchange import decide
from services.domain.kinds import OrderType, TimeInForce
from services.domain.state import ExchangeState
from services.matching_engine import clock
from services.matching_engine.keys import stored_request
from services.matching_engine.layout import LEDGER_FOLDER, SNAPSHOTS_FOLDER
from services.matching_engine.ledger import SegmentReader, StoredBatch
from services.matching_engine.snapshots import list_snapshots, make_snapshot
from services.wire.fields import microseconds_of
from services.wire.ledger_codec import encode_batch
from services.wire.requests import LedgerRequest
from services.wire.snapshot_codec import decode_state, encode_state
from services.wire.stored_requests import command_of
from tests.snapshots.states import state_at, state_hash, states_of
from tests.support.engine_client import EngineClient
from tests.support.engine_exchange import running_engine
from tests.support.engine_flow import fund_users, random_requests
from tests.support.engine_process import EngineProcess, verify_ledger
from tests.support.eventually import eventually


def through_bytes(state: ExchangeState) -> ExchangeState:
    """The state from the bytes of its snapshot."""
    pieces = [piece.SerializeToString() for piece in encode_state(state, b"\1" * 32)]
    return decode_state(map(snapshot_pb2.SnapshotPiece.FromString, pieces))


def test_the_life_has_every_kind_of_order_open_and_every_control_in_it(
    lived: Path, open_kinds: set[tuple[OrderType, TimeInForce]]
) -> None:
    waiting = (TimeInForce.GTC, TimeInForce.GTD, TimeInForce.DAY)
    assert open_kinds >= {(OrderType.LIMIT, time) for time in waiting}
    assert open_kinds >= {(OrderType.STOP_LIMIT, time) for time in waiting}
    assert (OrderType.STOP, TimeInForce.GTC) in open_kinds
    state = state_at(SegmentReader.open(lived / LEDGER_FOLDER))
    assert (state.halted, state.suspended) == ({"ETH-USD"}, {"poor", "nobody-yet"})
    orders = list(state.orders.all())
    assert any(order.terms.display_qty is not None for order in orders)
    assert any(order.terms.version > 1 for order in orders)
    assert any(order.triggered_at is not None for order in orders)
    assert any(order.filled for order in orders)
    assert any(order.queue_sequence > orders[0].terms.order_id and order.terms.version > 1 for order in orders)


def test_after_any_batch_of_a_ledger_what_comes_back_is_what_went_in(lived: Path) -> None:
    mass_cancels_under_way = 0
    for number, (_, state) in enumerate(states_of(SegmentReader.open(lived / LEDGER_FOLDER))):
        mass_cancels_under_way += state.mass_cancelled > 0
        if number % 40 == 0 or state.mass_cancelled:
            back = through_bytes(state)
            assert back.describe() == state.describe()
            assert [order.terms.order_id for order in back.orders.all()] == [order.terms.order_id for order in state.orders.all()]
            assert all(order.terms.instrument is back.instruments[order.terms.symbol] for order in back.orders.all())
            assert back.orders.next_expiry == state.orders.next_expiry
    assert mass_cancels_under_way == 1


def test_equal_states_have_equal_bytes(lived: Path) -> None:
    state = state_at(SegmentReader.open(lived / LEDGER_FOLDER))
    back = through_bytes(state)
    assert list(encode_state(back, b"\2")) == list(encode_state(state, b"\2"))


@pytest.mark.parametrize("share", [0.05, 0.35, 0.6, 0.9])
def test_from_a_snapshot_on_the_requests_give_the_same_batches_again_byte_for_byte(lived: Path, share: float) -> None:
    ledger = SegmentReader.open(lived / LEDGER_FOLDER)
    state = through_bytes(state_at(ledger, int(ledger.durable_sequence * share)))
    last_hash = ledger.hash_at(state.sequence)
    assert last_hash is not None
    for stored in ledger.read(state.sequence):
        assert run_again(stored, state, last_hash) == stored.data
        last_hash = sha256(stored.data).digest()
    assert state_hash(state) == state_hash(state_at(ledger))


def run_again(stored: StoredBatch, state: ExchangeState, last_hash: bytes) -> bytes:
    """Decides a batch's request anew, and applies what comes out."""
    batch = ledger_pb2.LedgerBatch.FromString(stored.data)
    time = microseconds_of(batch.timestamp)
    events = decide(state, command_of(batch), time)
    again = encode_batch(state, events, LedgerRequest(*stored_request(batch)), time, last_hash)
    state.apply(events, time)
    return again.data


@pytest.fixture
def frozen_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still but for what the sequencer adds, so that two runs have the same times."""
    now = clock.time.time_ns()
    monkeypatch.setattr(clock, "time", SimpleNamespace(time_ns=lambda: now, monotonic_ns=lambda: 0))


def test_kill_9_and_the_start_from_a_snapshot_is_the_start_from_the_whole_ledger_and_so_is_the_rest_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    killed, whole = tmp_path / "engine", tmp_path / "whole"
    monkeypatch.setenv("ORDERTAPE_ENGINE_SNAPSHOT_EVERY_COMMANDS", "400")
    requests = list(random_requests(7, 900))
    with EngineProcess(killed) as engine:
        with engine.client() as client:
            fund_users(client)
            for start in range(0, 600, 50):
                client.submit(*requests[start : start + 50])
            eventually(lambda: list_snapshots(killed / SNAPSHOTS_FOLDER), 30)
            client.submit(*requests[600:700])
        engine.kill()
    monkeypatch.delenv("ORDERTAPE_ENGINE_SNAPSHOT_EVERY_COMMANDS")
    shutil.copytree(killed, whole)
    shutil.rmtree(whole / SNAPSHOTS_FOLDER)
    request.getfixturevalue("frozen_clock")
    states, rests, began_with = [], [], []
    for folder in (killed, whole):
        with (
            capture_logs() as logs,
            running_engine(folder, accept_clock=True) as engine,
            EngineClient(engine.address) as client,
        ):
            began_with += [entry["snapshot_sequence"] for entry in logs if entry["event"] == "recovered"]
            states.append((engine.state.describe(), state_hash(engine.state)))
            after = client.durable_sequence()
            for start in range(700, 900, 50):
                client.submit(*requests[start : start + 50])
            rests.append((client.batches(after), state_hash(engine.state)))
    assert (began_with[0] > 0, began_with[1]) == (True, 0)
    assert states[0] == states[1]
    assert rests[0] == rests[1]
    assert len(rests[0][0]) > 100
    code, said = verify_ledger(killed)
    assert code == 0, said
    assert "snapshots are what the ledger says up to there" in said


def test_a_start_reads_only_what_came_after_the_snapshot_and_knows_old_keys_and_ended_orders_without_an_index(
    data_dir: Path, snapshots: Path
) -> None:
    ledger = SegmentReader.open(data_dir / LEDGER_FOLDER)
    assert make_snapshot(data_dir / LEDGER_FOLDER, snapshots) is not None
    expected = state_at(ledger).describe()
    for with_index in (True, False):
        if not with_index:
            for file in data_dir.glob("engine.db*"):
                file.unlink()
        with running_engine(data_dir, instruments=()) as engine, EngineClient(engine.address) as client:
            names = ("accounts", "orders", "queues", "users", "instruments", "last_order_id")
            described = engine.state.describe()
            if with_index:
                assert [described[name] for name in names] == [expected[name] for name in names]
            first = next(r for r in random_requests(41, 1) if r.DESCRIPTOR.name == "PlaceOrderRequest")
            assert client.place(first).replayed
            assert client.cancel_orders("many", "all-of-them").replayed
            audit = [ledger_pb2.LedgerBatch.FromString(data) for data in client.batches()]
            assert audit[-1].epoch == 2 + (not with_index)
    code, said = verify_ledger(data_dir)
    assert code == 0, said
