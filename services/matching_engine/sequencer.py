"""The sequencer: one thread that gives every command its time and place, decides it, and answers only after the sync of the
group in which it was decided. What queued while the last group was being synced goes into the next one.

Reads and refusals pass through it too: they are decided from state that may hold unsynced commands of their own group.
"""

import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

import structlog

from ordertape.v1 import ledger_pb2
from services.domain.commands import Command, ExpireDue, SessionLost, TriggerStop
from services.domain.errors import Refused
from services.domain.exchange import decide
from services.domain.state import ExchangeState
from services.domain.stops import next_triggered
from services.matching_engine.clock import DEPARTURE_MICROSECONDS_MAX, EngineClock
from services.matching_engine.feed import Feed
from services.matching_engine.keys import Key, completes_request
from services.matching_engine.ledger import Ledger, StoredBatch
from services.matching_engine.memory import Memory
from services.matching_engine.work import Answer, Mutation, Outcome, Read, SessionEnd, Submission, Submitted, Work
from services.serving.failures import draining
from services.wire.errors import CallError
from services.wire.ledger_codec import EncodedBatch, encode_batch
from services.wire.position import encode_position
from services.wire.refusals import call_error_of
from services.wire.requests import LedgerRequest

GROUP_COMMANDS_MAX: Final = 2000
GATHER_SECONDS_MAX: Final = 0.002
HEARTBEAT_SECONDS: Final = 0.1
LOOK_AROUND_SECONDS: Final = 0.5

T = TypeVar("T")
_WorkT = TypeVar("_WorkT", bound=Work)
_log = structlog.get_logger()


class Sequencer:
    """Owns the state, the ledger and the feed from ``start`` to ``stop``; every other thread talks to it by the queue.

    ``on_fatal`` is called with the reason where it cannot go on (a failed write or sync, a defect): it must end the process,
    since callers are left without an answer on purpose.
    """

    def __init__(
        self,
        state: ExchangeState,
        ledger: Ledger,
        memory: Memory,
        feed: Feed,
        clock: EngineClock,
        on_fatal: Callable[[str], None],
    ) -> None:
        self.state = state
        self._ledger = ledger
        self._memory = memory
        self._feed = feed
        self._clock = clock
        self._on_fatal = on_fatal
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._group: list[EncodedBatch] = []
        self._last_hash = ledger.last_hash
        self._alarmed_departure = 0
        self._next_look_around = 0.0
        self._next_heartbeat = 0.0
        self._last_group_size = 0
        self._durable_changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="sequencer", daemon=True)

    # -- for the threads of callers

    def start(self) -> None:
        """Begin to take work."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is queued and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def submit(self, mutations: Sequence[Mutation]) -> Submitted:
        """Decide the mutations in order, each by itself, and wait until they are durable. Raises CallError when stopped."""
        return self._put(Submission(mutations)).wait()

    def read(self, read: Callable[[ExchangeState], T]) -> T:
        """Call ``read`` with the state in the sequencer's thread and wait until all that it saw is durable.

        Raises CallError: what ``read`` refuses, or when stopped.
        """
        result = self._put(Read(read)).wait()
        if isinstance(result, Refused):
            raise call_error_of(result)
        return result

    def session_lost(self, user_id: str) -> None:
        """Cancel the open orders of a lost session's user and wait until that is durable. Raises CallError when stopped."""
        self._put(SessionEnd(user_id)).wait()

    def wait_durable_beyond(self, sequence: int, timeout_seconds: float) -> int:
        """The durable sequence, as soon as it is beyond ``sequence`` or the time is up."""
        with self._durable_changed:
            self._durable_changed.wait_for(lambda: self._ledger.durable_sequence > sequence, timeout_seconds)
            return self._ledger.durable_sequence

    def _put(self, work: _WorkT) -> _WorkT:
        if not self._thread.is_alive():
            raise draining()
        self._queue.put(work)
        return work

    # -- in the sequencer's thread

    def decide_one(self, mutation: Mutation) -> Outcome:
        """Decide one mutation and add its batch to the group; a repeat gets the first answer, a refusal changes nothing."""
        command, request, key = mutation
        try:
            if key is not None:
                first = self._memory.first_answer(key, request)
                if first is not None:
                    return Answer(first, self.position(first.last_sequence), replayed=True)
            batch = self._carry_out(command, request, key)
            return Answer(batch, self.position(batch.last_sequence), replayed=False)
        except CallError as error:
            return error
        except Refused as refusal:
            return self._memory.explain(refusal, command)

    def position(self, sequence: int) -> str:
        """The position of a sequence in this ledger."""
        return encode_position(self._ledger.ledger_id, sequence)

    def end_session(self, user_id: str) -> None:
        """A session that asked for cancel on disconnect is lost: cancel the user's open orders."""
        lost = LedgerRequest("session_lost", ledger_pb2.SessionLost(user_id=user_id))
        now = self._expire_due()
        while self.state.orders.count_of_user(user_id):
            self._decide(SessionLost(user_id), lost, None, now)
            now = self._now()

    def run_internal(self, command: Command, request: LedgerRequest) -> None:
        """Decide and sync a command of the engine itself, before ``start``."""
        self._decide(command, request, None, self._now())
        self._commit([])

    def catch_up(self) -> None:
        """Before ``start``: expire what fell due while the engine was down, then trigger the stop orders that the last trades
        have reached already.
        """
        self._expire_due()
        self._trigger_stops()
        self._commit([])

    def _carry_out(self, command: Command, request: LedgerRequest, key: Key | None) -> EncodedBatch:
        """One request: what is due expires before it, what it triggers comes after it; one about many orders takes as many
        batches as it needs, with nothing between them. Returns the batch that answers it: the last of them.
        """
        batch = self._decide(command, request, key, self._expire_due())
        while not completes_request(request.name, batch.message):
            batch = self._decide(command, request, key, self._now())
        self._trigger_stops()
        return batch

    def _expire_due(self) -> int:
        """Expire all that is due by now; returns the time by which nothing is."""
        now = self._now()
        while (due := self.state.orders.next_expiry) is not None and due <= now:
            self._decide(ExpireDue(), LedgerRequest("expire_due", ledger_pb2.ExpireDue()), None, now)
            now = self._now()
        return now

    def _trigger_stops(self) -> None:
        while self.state.orders.has_stops and (order_id := next_triggered(self.state)) is not None:
            now = self._expire_due()
            if self.state.orders.get(order_id) is None:
                continue  # it was due, too
            request = LedgerRequest("trigger_stop", ledger_pb2.TriggerStop(order_id=order_id))
            self._decide(TriggerStop(order_id), request, None, now)

    def _now(self) -> int:
        return max(self._clock.now(), self.state.time + 1)

    def _decide(self, command: Command, request: LedgerRequest, key: Key | None, now: int) -> EncodedBatch:
        events = decide(self.state, command, now)
        batch = encode_batch(self.state, events, request, now, self._last_hash)
        self.state.apply(events, now)
        self._last_hash = sha256(batch.data).digest()
        self._group.append(batch)
        self._memory.remember(batch, key if completes_request(request.name, batch.message) else None)
        return batch

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:
            _log.critical("the sequencer failed", exc_info=True)
            self._on_fatal(f"the sequencer failed: {error}")
            raise

    def _turn(self) -> bool:
        """One group: everything that is queued, up to a limit. False where it is time to end."""
        now = time.monotonic()
        if now >= self._next_look_around:
            self._look_around()
        if now >= self._next_heartbeat:
            self._publish(())
        try:
            work = self._queue.get(timeout=self._patience())
        except Empty:
            self.catch_up()
            return True
        self._gather()
        group: list[Work] = []
        keys: list[Key] = []
        commands = 0
        while work is not None:
            group.append(work)
            commands += len(work.mutations)
            keys += [mutation.key for mutation in work.mutations if mutation.key is not None]
            if commands >= GROUP_COMMANDS_MAX or self._queue.empty():
                break
            work = self._queue.get()
        self._memory.look_up(keys)
        self._expire_due()  # before reads, too
        for member in group:
            member.run(self)
        self._commit(group)
        self._last_group_size = len(group)
        return work is not None

    def _patience(self) -> float:
        """How long to wait for work, in seconds: until a heartbeat or an expiry is due."""
        due = self.state.orders.next_expiry
        if due is None:
            return HEARTBEAT_SECONDS
        return min(HEARTBEAT_SECONDS, max(0.0, (due - self._clock.now()) / 1e6))

    def _gather(self) -> None:
        """Give the callers of the last group, who are about to call again, a moment to do so: a sync shared by few costs as much
        as one shared by many. A caller who is alone never waits.
        """
        give_up = time.monotonic() + GATHER_SECONDS_MAX
        while self._queue.qsize() + 1 < self._last_group_size and time.monotonic() < give_up:
            time.sleep(GATHER_SECONDS_MAX / 10)

    def _commit(self, done: Sequence[Work]) -> None:
        """Sync the group, then answer and publish it."""
        group = self._group
        if group:
            self._ledger.append([StoredBatch(batch.first_sequence, batch.last_sequence, batch.data) for batch in group])
            self._group = []
        for work in done:
            work.release()
        if group:
            self._publish([batch.data for batch in group])
            self._memory.synced(group[-1].last_sequence)
            with self._durable_changed:
                self._durable_changed.notify_all()

    def _publish(self, batches: Sequence[bytes]) -> None:
        """Push durable batches, or a heartbeat where nothing else went out for a while."""
        self._feed.publish(self.state.ledger_id, self.state.epoch, self._ledger.durable_sequence, batches)
        self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS

    def _look_around(self) -> None:
        """Notice what has changed around the engine: who listens to the feed, and whether the wall clock was moved."""
        self._next_look_around = time.monotonic() + LOOK_AROUND_SECONDS
        self._feed.watch()
        departure = self._clock.departure()
        if abs(departure - self._alarmed_departure) > DEPARTURE_MICROSECONDS_MAX:
            self._alarmed_departure = departure
            _log.error("the wall clock has departed from engine time and is not followed", departure_seconds=departure / 1e6)
