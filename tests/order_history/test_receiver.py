"""The receiver's rules, one by one and by hand: what is next, repeated, missing, or cannot be right."""

import pytest

from ordertape.v1 import ledger_pb2
from services.order_history.order_processor import LedgerUnreadable, ReceivedBatch
from services.order_history.receiver import Next, Receiver
from tests.support.ledger_builder import LEDGER_ID, LedgerBuilder, received


@pytest.fixture
def ledger() -> LedgerBuilder:
    ledger = LedgerBuilder()
    ledger.open_market(["alice", "bob"])
    return ledger


def status(ledger: LedgerBuilder, at: Receiver, ledger_id: str = LEDGER_ID) -> ledger_pb2.GetLedgerStatusResponse:
    answer = ledger_pb2.GetLedgerStatusResponse(ledger_id=ledger_id, epoch=ledger.epoch, durable_sequence=ledger.sequence)
    ends = {batch.last_sequence: batch.hash for batch in ledger.batches} | {0: b""}
    if at.sequence in ends:
        answer.hash = ends[at.sequence]
    return answer


def live_receiver(ledger: LedgerBuilder, silence_seconds: float = 3.0) -> Receiver:
    """A receiver that has all of the ledger and listens."""
    receiver = Receiver("", 0, b"", gap_patience_seconds=0.2, silence_seconds=silence_seconds)
    receiver.on_status(status(ledger, receiver))
    receiver.on_replayed(ledger.frame(ledger.batches))
    receiver.on_replay_end()
    receiver.take_received()
    return receiver


def hear(receiver: Receiver, ledger: LedgerBuilder, *batches: ReceivedBatch, now: float = 0.0) -> None:
    receiver.on_frame(ledger.frame(batches).SerializeToString(), now)


def place(ledger: LedgerBuilder) -> ReceivedBatch:
    ledger.place("alice")
    return ledger.batches[-1]


def test_the_first_question_comes_before_anything_is_taken(ledger: LedgerBuilder) -> None:
    receiver = Receiver("", 0, b"")
    assert receiver.next is Next.ASK
    receiver.on_status(status(ledger, receiver))
    assert receiver.next is Next.REPLAY
    assert receiver.ledger_id == LEDGER_ID


def test_a_history_that_has_everything_goes_live_without_a_replay(ledger: LedgerBuilder) -> None:
    receiver = Receiver(LEDGER_ID, ledger.sequence, ledger.hash)
    receiver.on_status(status(ledger, receiver))
    assert receiver.next is Next.LISTEN


def test_an_empty_ledger_is_no_halt() -> None:
    ledger = LedgerBuilder()
    receiver = Receiver("", 0, b"")
    receiver.on_status(status(ledger, receiver))
    assert receiver.next is Next.LISTEN


def test_a_replay_hands_over_whole_contiguous_batches(ledger: LedgerBuilder) -> None:
    receiver = Receiver("", 0, b"")
    receiver.on_status(status(ledger, receiver))
    receiver.on_replayed(ledger.frame(ledger.batches[:2]))
    receiver.on_replayed(ledger.frame(ledger.batches[2:]))
    assert receiver.received_commands == ledger.sequence
    assert receiver.take_received() == ledger.batches
    assert receiver.received_commands == 0
    receiver.on_replay_end()
    assert receiver.next is Next.LISTEN
    assert receiver.gaps_repaired == 0


def test_the_next_batches_of_the_feed_are_taken(ledger: LedgerBuilder) -> None:
    receiver = live_receiver(ledger)
    batches = [place(ledger), place(ledger)]
    hear(receiver, ledger, *batches)
    assert receiver.take_received() == batches
    assert receiver.next is Next.LISTEN


def test_a_repeat_is_dropped(ledger: LedgerBuilder) -> None:
    receiver = live_receiver(ledger)
    first, second = place(ledger), place(ledger)
    hear(receiver, ledger, first, second)
    hear(receiver, ledger, first)
    hear(receiver, ledger, first, second)
    assert receiver.take_received() == [first, second]
    assert receiver.next is Next.LISTEN


def test_a_repeat_with_another_hash_at_our_sequence_halts(ledger: LedgerBuilder) -> None:
    receiver = live_receiver(ledger)
    first = place(ledger)
    hear(receiver, ledger, first)
    forged = ledger_pb2.LedgerBatch.FromString(first.data)
    forged.timestamp.seconds += 1
    with pytest.raises(LedgerUnreadable, match="came again with the hash") as halt:
        hear(receiver, ledger, received(forged.SerializeToString()))
    assert halt.value.sequence == first.last_sequence


def test_a_hole_asks_for_a_replay_and_keeps_what_came_before_it(ledger: LedgerBuilder) -> None:
    receiver = live_receiver(ledger)
    first, lost, third = place(ledger), place(ledger), place(ledger)
    hear(receiver, ledger, first, third)
    assert receiver.take_received() == [first]
    assert receiver.next is Next.REPLAY
    receiver.on_replayed(ledger.frame([lost, third]))
    receiver.on_replay_end()
    assert receiver.take_received() == [lost, third]
    assert receiver.gaps_repaired == 1
    assert receiver.next is Next.LISTEN


def test_a_heartbeat_ahead_is_a_hole_only_after_200_ms(ledger: LedgerBuilder) -> None:
    receiver = live_receiver(ledger)
    place(ledger)
    hear(receiver, ledger, now=10.0)
    receiver.on_tick(10.19)
    assert receiver.next is Next.LISTEN
    receiver.on_tick(10.21)
    assert receiver.next is Next.REPLAY


def test_a_delayed_frame_within_200_ms_is_no_hole(ledger: LedgerBuilder) -> None:
    receiver = live_receiver(ledger)
    late = place(ledger)
    hear(receiver, ledger, now=10.0)
    hear(receiver, ledger, late, now=10.1)
    receiver.on_tick(10.5)
    assert receiver.next is Next.LISTEN
    assert receiver.take_received() == [late]


def test_steady_progress_behind_heartbeats_is_no_hole(ledger: LedgerBuilder) -> None:
    receiver = live_receiver(ledger)
    batches = [place(ledger) for _ in range(20)]
    for number, batch in enumerate(batches):
        hear(receiver, ledger, batch, now=10 + number / 10)
        ahead = ledger.frame((), durable_sequence=batch.last_sequence + 1)
        receiver.on_frame(ahead.SerializeToString(), 10 + number / 10)
        receiver.on_tick(10 + number / 10 + 0.05)
        assert receiver.next is Next.LISTEN


def test_silence_asks_the_engine(ledger: LedgerBuilder) -> None:
    receiver = live_receiver(ledger, silence_seconds=3.0)
    hear(receiver, ledger, now=10.0)
    receiver.on_tick(12.9)
    assert receiver.next is Next.LISTEN
    receiver.on_tick(13.1)
    assert receiver.next is Next.ASK


def test_a_new_epoch_asks_before_anything_of_it_is_taken(ledger: LedgerBuilder) -> None:
    receiver = live_receiver(ledger)
    ledger.start_engine()
    hear(receiver, ledger, ledger.batches[-1])
    assert receiver.next is Next.ASK
    assert receiver.take_received() == []


def test_a_frame_of_an_earlier_epoch_is_old_and_not_wrong(ledger: LedgerBuilder) -> None:
    early = place(ledger)
    old_frame = ledger.frame([early]).SerializeToString()
    ledger.start_engine()
    receiver = live_receiver(ledger)
    receiver.on_frame(old_frame, 0.0)
    assert receiver.next is Next.LISTEN
    assert receiver.take_received() == []


def test_a_connection_made_anew_asks(ledger: LedgerBuilder) -> None:
    receiver = live_receiver(ledger)
    receiver.on_connected()
    assert receiver.next is Next.ASK


def test_an_engine_that_leaves_is_asked_again_from_where_we_are(ledger: LedgerBuilder) -> None:
    receiver = Receiver("", 0, b"")
    receiver.on_status(status(ledger, receiver))
    receiver.on_replayed(ledger.frame(ledger.batches[:2]))
    receiver.on_engine_away()
    assert receiver.next is Next.ASK
    receiver.on_status(status(ledger, receiver))
    receiver.on_replayed(ledger.frame(ledger.batches[2:]))
    assert receiver.take_received() == ledger.batches


def test_another_ledger_halts(ledger: LedgerBuilder) -> None:
    receiver = live_receiver(ledger)
    with pytest.raises(LedgerUnreadable, match="the engine has the ledger ffffffffffffffff"):
        receiver.on_status(status(ledger, receiver, ledger_id="ffffffffffffffff"))
    stray = ledger_pb2.LedgerFrame(ledger_id="ffffffffffffffff", epoch=1)
    with pytest.raises(LedgerUnreadable, match="the feed has the ledger"):
        receiver.on_frame(stray.SerializeToString(), 0.0)


def test_a_ledger_put_back_from_an_older_copy_halts(ledger: LedgerBuilder) -> None:
    older = LedgerBuilder(batches=list(ledger.batches), epoch=ledger.epoch)
    place(ledger)
    receiver = live_receiver(ledger)
    with pytest.raises(LedgerUnreadable, match="put back from an older copy") as halt:
        receiver.on_status(status(older, receiver))
    assert halt.value.sequence == ledger.sequence


def test_another_hash_at_our_sequence_halts(ledger: LedgerBuilder) -> None:
    receiver = Receiver(LEDGER_ID, ledger.sequence, b"\x01" * 32)
    with pytest.raises(LedgerUnreadable, match="they have parted"):
        receiver.on_status(status(ledger, receiver))


def test_no_end_of_a_batch_at_our_sequence_halts(ledger: LedgerBuilder) -> None:
    place(ledger)
    receiver = Receiver(LEDGER_ID, ledger.sequence - 1, b"\x01" * 32)
    with pytest.raises(LedgerUnreadable, match="no end of a batch"):
        receiver.on_status(status(ledger, receiver))


def test_a_broken_hash_chain_halts_behind_what_came_before(ledger: LedgerBuilder) -> None:
    receiver = live_receiver(ledger)
    good, bad = place(ledger), place(ledger)
    forged = ledger_pb2.LedgerBatch.FromString(bad.data)
    forged.previous_hash = b"\x02" * 32
    with pytest.raises(LedgerUnreadable, match="hash chain is broken") as halt:
        hear(receiver, ledger, good, received(forged.SerializeToString()))
    assert halt.value.sequence == bad.first_sequence
    assert receiver.take_received() == [good]


def test_a_batch_across_our_sequence_halts(ledger: LedgerBuilder) -> None:
    batch = place(ledger)
    receiver = Receiver(LEDGER_ID, batch.first_sequence, b"\x01" * 32)
    receiver.next = Next.LISTEN
    with pytest.raises(LedgerUnreadable, match="they have parted"):
        receiver.on_replayed(ledger.frame([batch]))


def test_a_replay_with_a_hole_halts(ledger: LedgerBuilder) -> None:
    receiver = live_receiver(ledger)
    place(ledger)
    with pytest.raises(LedgerUnreadable, match="leaves it out"):
        receiver.on_replayed(ledger.frame([place(ledger)]))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xff\xff", id="no frame"),
        pytest.param(
            ledger_pb2.LedgerFrame(ledger_id=LEDGER_ID, epoch=1, batches=[b"\xff\xff"]).SerializeToString(), id="no batch"
        ),
        pytest.param(
            ledger_pb2.LedgerFrame(ledger_id=LEDGER_ID, epoch=1, batches=[b""]).SerializeToString(), id="an empty batch"
        ),
    ],
)
def test_what_cannot_be_read_halts_naming_the_sequence(ledger: LedgerBuilder, data: bytes) -> None:
    receiver = live_receiver(ledger)
    with pytest.raises(LedgerUnreadable) as halt:
        receiver.on_frame(data, 0.0)
    assert halt.value.sequence == ledger.sequence + 1
