"""What ExportOrderHistory promises, at a whole service that follows an engine: all of a user's updates, in order, once, up to a
position; to be gone on with after any of its positions; and what ends it early.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from ordertape.v1 import order_pb2
from services.order_history.outgoing import MESSAGE_BYTES_MAX, MESSAGE_UPDATES_MAX
from services.wire.position import decode_position, encode_position
from tests.support.eventually import eventually
from tests.support.exporter import SlowReader, export
from tests.support.fake_engine import FakeEngine
from tests.support.ledger_builder import LedgerBuilder
from tests.support.running_history import RunningHistory

USERS = ("alice", "bob", "carol")
SYMBOLS = ("BTC-USD", "ETH-USD")


@pytest.fixture(scope="module")
def traded() -> LedgerBuilder:
    """Some thousand updates of three users; not to be changed."""
    ledger = LedgerBuilder()
    ledger.open_market(USERS, SYMBOLS)
    ledger.live_on(2_500, USERS, SYMBOLS)
    return ledger


@pytest.fixture(scope="module")
def history(traded: LedgerBuilder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHistory]:
    folder = tmp_path_factory.mktemp("export")
    with FakeEngine(traded.batches) as engine, RunningHistory(engine, folder / "history", wait_seconds_max=0.5) as history:
        history.wait_until_applied(traded.sequence)
        yield history


@pytest.fixture
def ledger() -> LedgerBuilder:
    """A market without orders, for a test that goes on with it."""
    ledger = LedgerBuilder()
    ledger.open_market(USERS, SYMBOLS)
    return ledger


def publish(engine: FakeEngine, ledger: LedgerBuilder, batches: int) -> None:
    for batch in ledger.batches[-batches:]:
        engine.publish(batch)


def updates_of(ledger: LedgerBuilder, user_id: str, after: int = 0, until: int | None = None) -> list[order_pb2.OrderUpdate]:
    return [u for u in ledger.updates if u.user_id == user_id and after < u.sequence <= (until or ledger.sequence)]


def position_at(ledger: LedgerBuilder, sequence: int) -> str:
    return encode_position(ledger.ledger_id, sequence)


def batch_ends(ledger: LedgerBuilder, every: int) -> list[int]:
    return [0, *[batch.last_sequence for batch in ledger.batches][::every], ledger.sequence]


def microseconds_later(time: Timestamp, microseconds: int) -> Timestamp:
    moment = Timestamp()
    moment.FromMicroseconds(time.ToMicroseconds() + microseconds)
    return moment


@pytest.mark.parametrize("user_id", USERS)
def test_an_export_is_all_of_the_users_updates_and_nobody_elses_in_ledger_order(
    traded: LedgerBuilder, history: RunningHistory, user_id: str
) -> None:
    exported = export(history.channel, user_id)
    assert exported.error is None
    assert exported.updates == updates_of(traded, user_id)
    assert len(exported.messages) > 1
    assert [update.user_update_number for update in exported.updates] == list(range(1, len(exported.updates) + 1))


def test_every_message_says_where_the_export_ends_and_only_the_last_one_is_there(
    traded: LedgerBuilder, history: RunningHistory
) -> None:
    exported = export(history.channel, "alice")
    end = position_at(traded, traded.sequence)
    assert {message.until for message in exported.messages} == {end}
    assert [message.position == end for message in exported.messages] == [False] * (len(exported.messages) - 1) + [True]
    assert {message.last_user_update_number for message in exported.messages} == {len(updates_of(traded, "alice"))}


def test_a_position_stands_only_where_a_batch_ends_and_all_up_to_it_came(traded: LedgerBuilder, history: RunningHistory) -> None:
    exported = export(history.channel, "alice")
    ends = {batch.last_sequence for batch in traded.batches}
    came = 0
    for message in exported.messages:
        came += len(message.updates)
        sequence = decode_position(message.position).sequence
        assert sequence in ends
        assert exported.updates[:came] == updates_of(traded, "alice", until=sequence)


def test_resumed_after_any_position_the_rest_comes_exactly_once(traded: LedgerBuilder, history: RunningHistory) -> None:
    for sequence in batch_ends(traded, every=97):
        rest = export(history.channel, "alice", after=position_at(traded, sequence))
        assert rest.updates == updates_of(traded, "alice", after=sequence)
        assert rest.position == position_at(traded, traded.sequence)


def test_until_a_position_nothing_later_comes(traded: LedgerBuilder, history: RunningHistory) -> None:
    for sequence in batch_ends(traded, every=97):
        exported = export(history.channel, "alice", until=position_at(traded, sequence))
        mine = updates_of(traded, "alice", until=sequence) if sequence else []
        assert exported.updates == mine
        assert exported.position == position_at(traded, sequence)
        assert {message.last_user_update_number for message in exported.messages} == {len(mine)}


def test_pieces_between_positions_are_the_whole(traded: LedgerBuilder, history: RunningHistory) -> None:
    ends = batch_ends(traded, every=311)
    pieces = [
        export(history.channel, "bob", after=position_at(traded, begin), until=position_at(traded, end)).updates
        for begin, end in pairwise(ends)
    ]
    assert [update for piece in pieces for update in piece] == updates_of(traded, "bob")


def test_symbols_let_through_what_they_name_and_the_last_number_is_that_of_all(
    traded: LedgerBuilder, history: RunningHistory
) -> None:
    mine = updates_of(traded, "alice")
    for symbols in (["ETH-USD"], ["ETH-USD", "BTC-USD"], ["SOL-USD", "BTC-USD"]):
        exported = export(history.channel, "alice", symbols=symbols)
        assert exported.updates == [update for update in mine if update.symbol in symbols]
        assert exported.messages[-1].last_user_update_number == len(mine)
        assert exported.position == position_at(traded, traded.sequence)


@pytest.mark.parametrize("fields", [{"symbols": ["SOL-USD"]}, {"user_id": "nobody"}])
def test_where_nothing_is_wanted_one_message_says_so(
    traded: LedgerBuilder, history: RunningHistory, fields: dict[str, list[str]]
) -> None:
    exported = export(history.channel, **{"user_id": "alice", **fields})  # type: ignore[arg-type]
    assert exported.error is None
    assert [len(message.updates) for message in exported.messages] == [0]
    assert exported.position == exported.messages[0].until == position_at(traded, traded.sequence)
    assert exported.messages[0].last_user_update_number == (0 if "user_id" in fields else len(updates_of(traded, "alice")))


def test_times_are_half_open_to_the_microsecond(traded: LedgerBuilder, history: RunningHistory) -> None:
    mine = updates_of(traded, "alice")
    for first, last in ((0, 1), (10, 10), (13, 700), (len(mine) // 2, len(mine) - 1)):
        begin, end = mine[first].timestamp, mine[last].timestamp
        exported = export(history.channel, "alice", updated_from=begin, updated_until=end)
        assert exported.updates == mine[first:last]
        assert exported.messages[-1].last_user_update_number == (last if last > first else 0)
        later = microseconds_later(begin, 1)
        assert export(history.channel, "alice", updated_from=later).updates == mine[first + 1 :]
        assert export(history.channel, "alice", updated_until=microseconds_later(end, 1)).updates == mine[: last + 1]


def test_a_time_between_two_updates_of_a_batch_parts_them(ledger: LedgerBuilder, tmp_path: Path) -> None:
    maker = ledger.place("bob", order_pb2.SIDE_SELL, qty=2)
    ledger.place("alice", qty=2, takes=[(maker, 1), (maker, 1)])
    with FakeEngine(ledger.batches) as engine, RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        mine = updates_of(ledger, "alice")
        assert len(mine) == 3
        assert export(history.channel, "alice", updated_until=mine[1].timestamp).updates == mine[:1]
        assert export(history.channel, "alice", updated_from=mine[1].timestamp).updates == mine[1:]


def test_a_position_and_a_time_bound_the_same_export(traded: LedgerBuilder, history: RunningHistory) -> None:
    mine = updates_of(traded, "alice")
    after = batch_ends(traded, every=500)[2]
    exported = export(
        history.channel,
        "alice",
        after=position_at(traded, after),
        updated_from=mine[3].timestamp,
        updated_until=mine[-5].timestamp,
        symbols=["BTC-USD"],
    )
    assert exported.updates == [update for update in mine[3:-5] if update.sequence > after and update.symbol == "BTC-USD"]


@pytest.mark.parametrize("field", ["at_least", "until", "after"])
def test_a_position_ahead_of_the_history_is_waited_for(ledger: LedgerBuilder, tmp_path: Path, field: str) -> None:
    with FakeEngine(ledger.batches) as engine, RunningHistory(engine, tmp_path / "history") as history:
        ledger.place("alice")
        ahead = position_at(ledger, ledger.sequence)
        with SlowReader(history.history.server.address, "alice", **{field: ahead}) as reader:
            eventually(lambda: history.history.server.in_flight)
            publish(engine, ledger, 1)
            exported = reader.rest()
    assert exported.error is None
    assert exported.position == ahead
    assert exported.updates == ([] if field == "after" else updates_of(ledger, "alice"))


@pytest.mark.parametrize("deadline", [1.0, None])
def test_a_position_that_does_not_come_in_time_is_unavailable(
    traded: LedgerBuilder, history: RunningHistory, deadline: float | None
) -> None:
    exported = export(
        history.channel, "alice", at_least=position_at(traded, traded.sequence + 1), timeout=deadline  # type: ignore[arg-type]
    )  # fmt: skip
    assert exported.error is not None
    assert exported.error.code() is grpc.StatusCode.UNAVAILABLE
    assert exported.error_info.reason == "NOT_YET_APPLIED"
    assert exported.error_info.metadata["applied_position"] == position_at(traded, traded.sequence)
    assert exported.error_info.metadata["position"] == position_at(traded, 0)


def test_while_orders_come_an_export_ends_where_the_history_was_when_it_began(ledger: LedgerBuilder, tmp_path: Path) -> None:
    ledger.live_on(1_500, USERS, SYMBOLS)
    with FakeEngine(ledger.batches) as engine, RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        enough = threading.Event()

        def trade() -> None:
            while not enough.is_set():
                before = len(ledger.batches)
                ledger.live_on(20, USERS, SYMBOLS, seed=before)
                publish(engine, ledger, len(ledger.batches) - before)

        trading = threading.Thread(target=trade)
        trading.start()
        exports = [export(history.channel, USERS[number % 3]) for number in range(20)]
        enough.set()
        trading.join()
        ends = [decode_position(exported.position).sequence for exported in exports]
        assert len(set(ends)) > 5
        for number, (exported, end) in enumerate(zip(exports, ends, strict=True)):
            assert exported.updates == updates_of(ledger, USERS[number % 3], until=end)


def test_bad_input_names_each_field_its_rule_and_its_value(traded: LedgerBuilder, history: RunningHistory) -> None:
    exported = export(
        history.channel,
        "no spaces",
        symbols=["BTC USD"],
        after="yesterday",
        until="",
        updated_from=Timestamp(nanos=-1),
        updated_until=Timestamp(seconds=10**12),
        at_least="x",
    )
    assert exported.error is not None
    assert exported.error.code() is grpc.StatusCode.INVALID_ARGUMENT
    violations = exported.violations
    assert violations["user_id"] == "must be 1 to 64 characters of A-Z a-z 0-9 . _ : -, is 'no spaces'"
    assert violations["symbols"].endswith("is 'BTC USD'")
    assert violations["after"] == "must be a position from an earlier answer, is 'yesterday'"
    assert violations["until"] == "must be a position from an earlier answer; leave it out to end with what is there now"
    assert violations["updated_from"].endswith("is 0 s and -1 ns")
    assert violations["updated_until"].endswith("is 1000000000000 s and 0 ns")
    assert violations["at_least"].endswith("is 'x'")


def test_a_missing_user_an_empty_after_and_too_many_symbols_are_refused(history: RunningHistory) -> None:
    exported = export(history.channel, "", symbols=[f"S{number}" for number in range(101)], after="")
    assert set(exported.violations) == {"user_id", "symbols", "after"}
    assert exported.violations["symbols"] == "must be at most 100 values, are 101"
    assert exported.violations["user_id"].startswith("is required")


def test_an_end_before_the_beginning_is_refused(traded: LedgerBuilder, history: RunningHistory) -> None:
    begin, end = position_at(traded, 20), position_at(traded, 19)
    exported = export(history.channel, "alice", after=begin, until=end)
    assert exported.violations == {"until": f"must not be before after ({begin}), is {end}"}
    assert export(history.channel, "alice", after=begin, until=begin).updates == []


@pytest.mark.parametrize("field", ["after", "until", "at_least"])
def test_a_position_of_another_ledger_is_out_of_range(traded: LedgerBuilder, history: RunningHistory, field: str) -> None:
    exported = export(history.channel, "alice", **{field: encode_position("f" * 16, 5)})
    assert exported.error is not None
    assert exported.error.code() is grpc.StatusCode.OUT_OF_RANGE
    assert exported.error_info.metadata["oldest_position"] == position_at(traded, 0)


def test_a_batch_larger_than_a_message_has_one_position_at_its_end(ledger: LedgerBuilder, tmp_path: Path) -> None:
    makers = [(ledger.place("bob", order_pb2.SIDE_SELL, qty=1), 1) for _ in range(2_600)]
    ledger.place("alice", qty=1)
    before = ledger.sequence
    ledger.place("alice", qty=2_600, takes=makers)
    ledger.place("alice", qty=1)
    with FakeEngine(ledger.batches) as engine, RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        exported = export(history.channel, "alice")
        assert exported.updates == updates_of(ledger, "alice")
        inside = [index for index, message in enumerate(exported.messages) if not message.position]
        assert len(inside) >= 2
        assert max(len(message.updates) for message in exported.messages) <= MESSAGE_UPDATES_MAX
        assert max(message.ByteSize() for message in exported.messages) <= MESSAGE_BYTES_MAX
        assert exported.messages[inside[0] - 1].position == position_at(ledger, before)
        assert export(history.channel, "alice", until=position_at(ledger, before + 1)).updates == exported.updates[:1]


def test_a_reader_that_stalls_is_cut_off_with_its_position_and_goes_on_without_loss(
    traded: LedgerBuilder, tmp_path: Path
) -> None:
    with (
        FakeEngine(traded.batches) as engine,
        RunningHistory(engine, tmp_path / "history", watch_stall_seconds=0.5) as history,
    ):
        history.wait_until_applied(traded.sequence)
        with SlowReader(history.history.server.address, "alice") as reader:
            reader.next_message()
            eventually(lambda: history.history.exports.running == 0)
            cut = reader.rest()
        assert cut.error is not None
        assert cut.error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert cut.error_info.reason == "READER_TOO_SLOW"
        assert "0.5 s" in str(cut.error.details())
        assert cut.error_info.metadata["position"] == cut.position
        rest = export(history.channel, "alice", after=cut.position, until=cut.messages[0].until)
        assert cut.updates + rest.updates == updates_of(traded, "alice")
        assert rest.updates


def test_a_reader_that_is_only_slow_gets_all(traded: LedgerBuilder, history: RunningHistory) -> None:
    with SlowReader(history.history.server.address, "alice", window_bytes=512) as reader:
        for _ in range(2):
            reader.next_message()
        exported = reader.rest()
    assert exported.error is None
    assert exported.updates == updates_of(traded, "alice")


def test_a_drain_ends_an_export_with_its_position_and_another_history_goes_on(traded: LedgerBuilder, tmp_path: Path) -> None:
    with FakeEngine(traded.batches) as engine:
        with ExitStack() as running:
            history = running.enter_context(RunningHistory(engine, tmp_path / "history"))
            history.wait_until_applied(traded.sequence)
            with SlowReader(history.history.server.address, "alice") as reader:
                reader.next_message()
                stopping = threading.Thread(target=running.close)
                stopping.start()
                eventually(lambda: history.history.exports.running == 0)
                cut = reader.rest()
                stopping.join()
        assert cut.error is not None
        assert cut.error.code() is grpc.StatusCode.UNAVAILABLE
        assert cut.error_info.reason == "DRAINING"
        assert cut.error_info.metadata["position"] == cut.position
        with RunningHistory(engine, tmp_path / "another") as history:
            rest = export(history.channel, "alice", after=cut.position, until=cut.messages[0].until)
            assert cut.whole_updates + rest.updates == updates_of(traded, "alice")


def test_a_drain_ends_an_export_that_waits_for_a_position(traded: LedgerBuilder, tmp_path: Path) -> None:
    ahead = position_at(traded, traded.sequence + 1)
    with FakeEngine(traded.batches) as engine, ExitStack() as running:
        history = running.enter_context(RunningHistory(engine, tmp_path / "history"))
        history.wait_until_applied(traded.sequence)
        with SlowReader(history.history.server.address, "alice", until=ahead) as reader:
            eventually(lambda: history.history.server.in_flight)
            begin = time.monotonic()
            running.close()
            assert time.monotonic() - begin < 4, "the grace of a drain is 5 s"
            assert reader.rest().error_info.reason == "DRAINING"


def test_an_export_whose_reader_leaves_ends(traded: LedgerBuilder, history: RunningHistory) -> None:
    with SlowReader(history.history.server.address, "alice") as reader:
        reader.next_message()
        assert history.history.server.in_flight == 1
    eventually(lambda: history.history.server.in_flight == 0)


def test_a_history_that_halted_exports_nothing(ledger: LedgerBuilder, tmp_path: Path) -> None:
    ledger.place("alice")
    with FakeEngine(ledger.batches) as engine, RunningHistory(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        history.in_loop(lambda: history.history.view.halt("ledger sequence 9: it cannot be right"))
        exported = export(history.channel, "alice")
    assert exported.error is not None
    assert exported.error.code() is grpc.StatusCode.DATA_LOSS
    assert exported.updates == []


def test_a_history_that_met_no_ledger_yet_does_not_say_that_nothing_is_all(tmp_path: Path) -> None:
    with FakeEngine() as engine:
        engine.stop()
        with RunningHistory(engine, tmp_path / "history") as history:
            exported = export(history.channel, "alice")
    assert exported.error is not None
    assert exported.error.code() is grpc.StatusCode.UNAVAILABLE
    assert exported.error_info.reason == "NOT_YET_APPLIED"
