"""The projection: what comes of a batch, and what a batch may not say."""

import hashlib
from collections.abc import Callable
from itertools import product

import pytest

from ordertape.v1 import ledger_pb2, order_pb2
from services.domain.lifecycle import allows
from services.domain.state import ExchangeState
from services.order_history.order_processor import Chunk, LedgerUnreadable, OrderProcessor, ReceivedBatch
from services.wire.ledger_codec import encode_batch
from services.wire.requests import LedgerRequest
from tests.domain.test_exchange import random_flow
from tests.support.exchange import Core
from tests.support.ledger_builder import LedgerBuilder, received

BUY, SELL = order_pb2.SIDE_BUY, order_pb2.SIDE_SELL


@pytest.fixture
def ledger() -> LedgerBuilder:
    builder = LedgerBuilder()
    builder.open_market(("alice", "bob"))
    return builder


def project(ledger: LedgerBuilder, begin: int = 0, end: int | None = None) -> Chunk:
    return OrderProcessor().project(ledger.ledger_id, ledger.batches[begin:end])


def altered(batch: ReceivedBatch, change: Callable[[ledger_pb2.LedgerBatch], None]) -> ReceivedBatch:
    message = ledger_pb2.LedgerBatch.FromString(batch.data)
    change(message)
    data = message.SerializeToString()
    return ReceivedBatch(batch.first_sequence, batch.last_sequence, hashlib.sha256(data).digest(), data, message)


def test_a_chunk_says_where_it_begins_and_ends(ledger: LedgerBuilder) -> None:
    chunk = project(ledger)
    assert (chunk.ledger_id, chunk.first_sequence, chunk.last_sequence) == (ledger.ledger_id, 1, ledger.sequence)
    assert (chunk.epoch, chunk.hash) == (1, ledger.hash)
    assert not chunk.updates


def test_a_resting_order_is_open_and_has_its_client_name(ledger: LedgerBuilder) -> None:
    order_id = ledger.place("alice", client_order_id="first")
    chunk = project(ledger)
    (stored,) = chunk.updates
    assert chunk.open == {order_id: stored}
    assert [placed[:3] for placed in chunk.placed] == [("alice", "first", order_id)]
    assert not chunk.ended
    assert not chunk.closed


def test_an_update_is_kept_as_the_bytes_that_the_ledger_has(ledger: LedgerBuilder) -> None:
    ledger.place("alice")
    (stored,) = project(ledger).updates
    assert stored.data in ledger.batches[-1].data
    assert stored.message == ledger.updates[-1]


def test_a_trade_gives_each_side_its_update_and_is_not_counted_from_the_settlement_too(ledger: LedgerBuilder) -> None:
    maker = ledger.place("alice", SELL, qty=10)
    taker = ledger.place("bob", BUY, qty=4, takes=[(maker, 4)])
    chunk = project(ledger)
    fills = [(u.order_id, u.message.fill.qty) for u in chunk.updates if u.exec_type == order_pb2.EXEC_TYPE_TRADE]
    assert fills == [(taker, "4"), (maker, "4")]
    assert {u.batch_end for u in chunk.updates[1:]} == {ledger.sequence}
    assert list(chunk.open) == [maker]
    assert chunk.closed == [taker]
    (ended,) = chunk.ended
    assert (ended.order_id, ended.status, ended.sequence) == (
        taker, order_pb2.ORDER_STATUS_FILLED, ledger.orders[taker].sequence,
    )  # fmt: skip


def test_a_rejected_order_ends_without_having_been_open(ledger: LedgerBuilder) -> None:
    ledger.reject("alice", client_order_id="refused")
    chunk = project(ledger)
    assert [order.status for order in chunk.ended] == [order_pb2.ORDER_STATUS_REJECTED]
    assert [placed[:3] for placed in chunk.placed] == [("alice", "refused", 1)]
    assert not chunk.open
    assert not chunk.closed


def test_an_order_that_ends_later_is_closed_by_the_later_chunk(ledger: LedgerBuilder) -> None:
    order_id = ledger.place("alice")
    ledger.cancel(order_id)
    assert list(project(ledger, end=-1).open) == [order_id]
    later = project(ledger, begin=-1)
    assert later.closed == [order_id]
    assert not later.open
    assert not later.placed


def test_the_same_batches_give_the_same_chunk_however_often_they_are_projected(ledger: LedgerBuilder) -> None:
    ledger.live_on(50)
    processor = OrderProcessor()
    first = processor.project(ledger.ledger_id, ledger.batches)
    processor.project(ledger.ledger_id, ledger.batches[:20])
    assert processor.project(ledger.ledger_id, ledger.batches) == first


def test_a_hole_between_batches_is_unreadable(ledger: LedgerBuilder) -> None:
    missing = ledger.batches[2].first_sequence
    with pytest.raises(LedgerUnreadable, match=f"ledger sequence {missing}: the next batch begins at {missing + 1}"):
        OrderProcessor().project(ledger.ledger_id, [*ledger.batches[:2], *ledger.batches[3:]])


def test_a_hole_between_commands_is_unreadable(ledger: LedgerBuilder) -> None:
    ledger.place("alice")
    bad = altered(ledger.batches[-1], lambda message: message.commands.__delitem__(0))
    with pytest.raises(LedgerUnreadable, match=f"sequence {bad.first_sequence}: the command in its place says"):
        OrderProcessor().project(ledger.ledger_id, [bad])


def test_a_batch_that_ends_early_is_unreadable(ledger: LedgerBuilder) -> None:
    ledger.place("alice")
    bad = altered(ledger.batches[-1], lambda message: message.commands.pop())
    with pytest.raises(LedgerUnreadable, match=f"sequence {bad.last_sequence}: the batch ends before"):
        OrderProcessor().project(ledger.ledger_id, [bad])


def test_a_command_that_this_program_does_not_know_is_unreadable(ledger: LedgerBuilder) -> None:
    ledger.deposit("alice")

    def replace(message: ledger_pb2.LedgerBatch) -> None:
        unknown = bytes((0xFA, 0x1F, 0))  # field 511, an empty message
        sequence = message.commands[0].sequence
        message.commands[0].ParseFromString(ledger_pb2.LedgerCommand(sequence=sequence).SerializeToString() + unknown)

    bad = altered(ledger.batches[-1], replace)
    with pytest.raises(LedgerUnreadable, match=f"sequence {ledger.sequence}: this program does not know"):
        OrderProcessor().project(ledger.ledger_id, [bad])


def test_only_the_transitions_of_the_lifecycle_are_readable(ledger: LedgerBuilder) -> None:
    ledger.place("alice")
    batch = ledger.batches[-1]
    for previous, exec_type, status in product((None, *range(8)), range(9), range(8)):

        def change(message: ledger_pb2.LedgerBatch) -> None:
            update = message.commands[-1].order_update
            update.exec_type, update.status = exec_type, status  # noqa: B023
            if previous is not None:  # noqa: B023
                update.previous_status = previous  # noqa: B023

        forged = altered(batch, change)
        if allows(previous, exec_type, status):
            assert OrderProcessor().project(ledger.ledger_id, [forged]).updates
        else:
            with pytest.raises(LedgerUnreadable, match=f"sequence {batch.last_sequence}: order 1 cannot go from"):
                OrderProcessor().project(ledger.ledger_id, [forged])


def test_an_update_that_names_another_place_is_unreadable(ledger: LedgerBuilder) -> None:
    ledger.place("alice")
    bad = altered(ledger.batches[-1], lambda message: setattr(message.commands[-1].order_update, "sequence", 1))
    with pytest.raises(LedgerUnreadable, match=f"sequence {ledger.sequence}: its order update says 1"):
        OrderProcessor().project(ledger.ledger_id, [bad])


def test_an_update_with_a_time_that_is_not_its_batches_is_unreadable(ledger: LedgerBuilder) -> None:
    ledger.place("alice")
    bad = altered(ledger.batches[-1], lambda message: setattr(message.commands[-1].order_update.timestamp, "nanos", 1_000))
    with pytest.raises(LedgerUnreadable, match=f"sequence {ledger.sequence}: its order update has the time"):
        OrderProcessor().project(ledger.ledger_id, [bad])


def test_a_ledger_that_the_core_made_is_readable_and_its_orders_begin_in_the_order_of_their_ids() -> None:
    core, state, batches = Core(), ExchangeState(), []
    random_flow(core, 3, 400)
    for _, time, events in core.log:
        request = LedgerRequest("start_engine", ledger_pb2.StartEngine())
        batches.append(received(encode_batch(state, events, request, time, b"").data))
        state.apply(events, time)
    chunk = OrderProcessor().project("0123456789abcdef", batches)
    assert chunk.last_sequence == state.sequence
    first = [u for u in chunk.updates if not u.message.HasField("previous_status")]
    assert len(first) > 100
    assert [u.order_id for u in first] == sorted(u.order_id for u in first)
    assert [u.message.created_at.ToMicroseconds() for u in first] == [u.timestamp for u in first]
    assert {e.order_id for e in chunk.ended} | set(chunk.open) == {u.order_id for u in first}


def test_the_builder_makes_a_chain_without_a_hole(ledger: LedgerBuilder) -> None:
    ledger.live_on(100)
    previous, sequence, time = b"", 1, 0
    for batch in map(received, ledger.data):
        assert batch.message.previous_hash == previous
        assert batch.first_sequence == sequence
        assert batch.message.timestamp.ToMicroseconds() > time
        previous, sequence = batch.hash, batch.last_sequence + 1
        time = batch.message.timestamp.ToMicroseconds() + len(batch.message.commands) - 1
