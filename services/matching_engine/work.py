"""What waits in the sequencer's queue, and what its callers get: mutations with their outcomes, and reads."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from google.protobuf.message import Message

from services.domain.commands import Command
from services.domain.errors import Refused
from services.domain.state import ExchangeState
from services.matching_engine.keys import Key, key_of
from services.wire.errors import CallError
from services.wire.ledger_codec import EncodedBatch
from services.wire.requests import LedgerRequest

T = TypeVar("T")


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


class Decider(Protocol):
    """What a piece of work may do in the sequencer's thread."""

    state: ExchangeState

    def decide_one(self, mutation: Mutation) -> Outcome:
        """Decide one mutation."""
        ...

    def position(self, sequence: int) -> str:
        """The position of a sequence in this ledger."""
        ...

    def end_session(self, user_id: str) -> None:
        """Cancel the open orders of a lost session's user."""
        ...


class Work(Protocol):
    """Something that waits in the queue."""

    @property
    def mutations(self) -> Sequence[Mutation]:
        """What it would have decided."""
        ...

    def run(self, sequencer: Decider) -> None:
        """Decide or read it."""
        ...

    def release(self) -> None:
        """Let the caller see the result."""
        ...


class Waiting(Generic[T]):
    """A result that a caller waits for. A bare lock: three times quicker than an Event or a Future."""

    __slots__ = ("_lock", "result")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.result: T

    def release(self) -> None:
        """See Work."""
        self._lock.release()

    def wait(self) -> T:
        """The result, once it is released."""
        self._lock.acquire()
        return self.result


class Submission(Waiting[Submitted]):
    """Mutations that one caller waits for."""

    __slots__ = ("mutations",)

    def __init__(self, mutations: Sequence[Mutation]) -> None:
        super().__init__()
        self.mutations = mutations

    def run(self, sequencer: Decider) -> None:
        """See Work."""
        outcomes = [sequencer.decide_one(mutation) for mutation in self.mutations]
        self.result = Submitted(outcomes, sequencer.position(sequencer.state.sequence))


class Read(Waiting[T | Refused]):
    """Something that one caller wants to know."""

    __slots__ = ("_read",)
    mutations: Sequence[Mutation] = ()

    def __init__(self, read: Callable[[ExchangeState], T]) -> None:
        super().__init__()
        self._read = read

    def run(self, sequencer: Decider) -> None:
        """See Work."""
        try:
            self.result = self._read(sequencer.state)
        except Refused as refusal:
            self.result = refusal


class SessionEnd(Waiting[None]):
    """A session that asked for cancel on disconnect is over."""

    __slots__ = ("_user_id",)
    mutations: Sequence[Mutation] = ()

    def __init__(self, user_id: str) -> None:
        super().__init__()
        self._user_id = user_id

    def run(self, sequencer: Decider) -> None:
        """See Work."""
        sequencer.end_session(self._user_id)
        self.result = None


def mutation_of(command: Command, name: str, request: Message) -> Mutation:
    """The mutation that a checked request asks for; ``name`` is the request's in LedgerBatch's oneof."""
    return Mutation(command, LedgerRequest(name, request), key_of(name, request))
