"""The sequencer: one thread that gives every command its time and place, decides it, and answers only after the sync of the
group in which it was decided. What queued while the last group was being synced goes into the next one.

Reads and refusals pass through it too: they are decided from state that may hold unsynced commands of their own group.
"""

import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from queue import Empty, SimpleQueue
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import structlog

from services.domain.commands import Command
from services.domain.errors import Refused
from services.domain.exchange import decide
from services.domain.state import ExchangeState
from services.matching_engine.clock import DEPARTURE_MICROSECONDS_MAX, EngineClock
from services.matching_engine.feed import Feed
from services.matching_engine.keys import Key
from services.matching_engine.ledger import Ledger, StoredBatch
from services.matching_engine.memory import Memory
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
_log = structlog.get_logger()


class Mutation(NamedTuple):
    """A command of a client, the request that it came from, as journaled, and the key that makes a repeat known."""

    command: Command
    request: LedgerRequest
    key: Key | None


class Answer(NamedTuple):
    """What a mutation brought about: its batch, durable by the time that anybody sees it, and the position after it."""

    batch: EncodedBatch
    position: str
    replayed: bool


Outcome = Answer | CallError


class Submitted(NamedTuple):
    """One outcome for each mutation, and the position after the last."""

    outcomes: list[Outcome]
    position: str


class _Work(Protocol):
    """Something that waits in the queue."""

    @property
    def mutations(self) -> Sequence[Mutation]:
        """What it would have decided."""
        ...

    def run(self, sequencer: "Sequencer") -> None:
        """Decide or read it."""
        ...

    def release(self) -> None:
        """Let the caller see the result."""
        ...


class _Waiting(Generic[T]):
    """A result that a caller waits for. A bare lock: three times quicker than an Event or a Future."""

    __slots__ = ("_lock", "result")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.result: T

    def release(self) -> None:
        self._lock.release()

    def wait(self) -> T:
        self._lock.acquire()
        return self.result


class _Submission(_Waiting[Submitted]):
    __slots__ = ("mutations",)

    def __init__(self, mutations: Sequence[Mutation]) -> None:
        super().__init__()
        self.mutations = mutations

    def run(self, sequencer: "Sequencer") -> None:
        outcomes = [sequencer.decide_one(mutation) for mutation in self.mutations]
        self.result = Submitted(outcomes, sequencer.position(sequencer.state.sequence))


class _Read(_Waiting[T | Refused]):
    __slots__ = ("_read",)
    mutations: Sequence[Mutation] = ()

    def __init__(self, read: Callable[[ExchangeState], T]) -> None:
        super().__init__()
        self._read = read

    def run(self, sequencer: "Sequencer") -> None:
        try:
            self.result = self._read(sequencer.state)
        except Refused as refusal:
            self.result = refusal


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
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
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
        return self._put(_Submission(mutations)).wait()

    def read(self, read: Callable[[ExchangeState], T]) -> T:
        """Call ``read`` with the state in the sequencer's thread and wait until all that it saw is durable.

        Raises CallError: what ``read`` refuses, or when stopped.
        """
        result = self._put(_Read(read)).wait()
        if isinstance(result, Refused):
            raise call_error_of(result)
        return result

    def wait_durable_beyond(self, sequence: int, timeout_seconds: float) -> int:
        """The durable sequence, as soon as it is beyond ``sequence`` or the time is up."""
        with self._durable_changed:
            self._durable_changed.wait_for(lambda: self._ledger.durable_sequence > sequence, timeout_seconds)
            return self._ledger.durable_sequence

    def _put(self, work: "_WorkT") -> "_WorkT":
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
            batch = self._decide(command, request, key)
            return Answer(batch, self.position(batch.last_sequence), replayed=False)
        except CallError as error:
            return error
        except Refused as refusal:
            return self._memory.explain(refusal, command)

    def position(self, sequence: int) -> str:
        """The position of a sequence in this ledger."""
        return encode_position(self._ledger.ledger_id, sequence)

    def run_internal(self, command: Command, request: LedgerRequest) -> None:
        """Decide and sync a command of the engine itself, before ``start``."""
        self._decide(command, request, None)
        self._commit([])

    def _decide(self, command: Command, request: LedgerRequest, key: Key | None) -> EncodedBatch:
        now = max(self._clock.now(), self.state.time + 1)
        events = decide(self.state, command, now)
        batch = encode_batch(self.state, events, request, now, self._last_hash)
        self.state.apply(events, now)
        self._last_hash = sha256(batch.data).digest()
        self._group.append(batch)
        self._memory.remember(batch, key)
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
            work = self._queue.get(timeout=HEARTBEAT_SECONDS)
        except Empty:
            return True
        self._gather()
        group: list[_Work] = []
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
        for member in group:
            member.run(self)
        self._commit(group)
        self._last_group_size = len(group)
        return work is not None

    def _gather(self) -> None:
        """Give the callers of the last group, who are about to call again, a moment to do so: a sync shared by few costs as much
        as one shared by many. A caller who is alone never waits.
        """
        give_up = time.monotonic() + GATHER_SECONDS_MAX
        while self._queue.qsize() + 1 < self._last_group_size and time.monotonic() < give_up:
            time.sleep(GATHER_SECONDS_MAX / 10)

    def _commit(self, done: Sequence[_Work]) -> None:
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


_WorkT = TypeVar("_WorkT", bound=_Work)
