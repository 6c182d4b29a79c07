"""Asks the running engine for balances and books. Each answer names the position that it is of, so it can be compared with the
ledger's fold there, however fast the engine goes on.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import grpc

from ordertape.v1 import matching_engine_pb2, matching_engine_pb2_grpc
from services.order_history.engine_client import EngineAway
from services.order_history.operations.engine_state import EngineDifference, EngineState
from services.order_history.operations.ledger_reading import PatientEngine
from services.order_history.order_processor import LedgerUnreadable
from services.wire.position import decode_position

BOOK_LEVELS_MAX: Final = 500
_AT_ONCE_MAX: Final = 32
_LATER: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)

Q = TypeVar("Q")


class BalancesAnswer(NamedTuple):
    """What the engine said of a user's balances at ``sequence``."""

    sequence: int
    user_id: str
    said: matching_engine_pb2.ListBalancesResponse

    def check(self, state: EngineState) -> list[EngineDifference]:
        """Compare it with the fold at its sequence."""
        return state.check_balances(self.sequence, self.user_id, self.said)


class BookAnswer(NamedTuple):
    """What the engine said of an instrument's book at ``sequence``."""

    sequence: int
    symbol: str
    said: matching_engine_pb2.GetOrderBookResponse

    def check(self, state: EngineState) -> list[EngineDifference]:
        """Compare it with the fold at its sequence."""
        return state.check_book(self.sequence, self.symbol, BOOK_LEVELS_MAX, self.said)


Answer: TypeAlias = BalancesAnswer | BookAnswer


class EngineQuestions:
    """The engine's other services, at the ledger feed's address. ``timeout_seconds`` is for one call."""

    def __init__(self, address: str, timeout_seconds: float, patient: PatientEngine) -> None:
        self._channel = grpc.insecure_channel(address)
        self._accounts = matching_engine_pb2_grpc.AccountsStub(self._channel)
        self._engine = matching_engine_pb2_grpc.MatchingEngineStub(self._channel)
        self._timeout_seconds = timeout_seconds
        self._patient = patient

    def balances(self, ledger_id: str, user_ids: Iterable[str]) -> Iterator[BalancesAnswer]:
        """Each user's balances. Raises EngineAway, LedgerUnreadable where the answer is of another ledger, Stop."""
        requests = ((user_id, matching_engine_pb2.ListBalancesRequest(user_id=user_id)) for user_id in user_ids)
        for user_id, answer in self._ask(self._accounts.ListBalances, requests):
            yield BalancesAnswer(_sequence(ledger_id, answer.position), user_id, answer)

    def books(self, ledger_id: str, symbols: Iterable[str]) -> Iterator[BookAnswer]:
        """Each instrument's book, as deep as the engine shows it. Raises as ``balances``."""
        requests = ((symbol, matching_engine_pb2.GetOrderBookRequest(symbol=symbol, depth=BOOK_LEVELS_MAX)) for symbol in symbols)
        for symbol, answer in self._ask(self._engine.GetOrderBook, requests):
            yield BookAnswer(_sequence(ledger_id, answer.position), symbol, answer)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _ask(self, method: Any, requests: Iterable[tuple[str, Q]]) -> Iterator[tuple[str, Any]]:
        """The answers, in order, with the names that go with the requests; so many calls run at once."""
        running: deque[tuple[str, Q, Any]] = deque()
        for name, request in requests:
            running.append((name, request, method.future(request, timeout=self._timeout_seconds)))
            if len(running) == _AT_ONCE_MAX:
                yield self._answer(method, *running.popleft())
        while running:
            yield self._answer(method, *running.popleft())

    def _answer(self, method: Any, name: str, request: Any, call: Any) -> tuple[str, Any]:
        while True:
            try:
                answer = call.result()
            except grpc.RpcError as error:
                away = EngineAway(f"asked about {name}: {error.code().name} {error.details()}")
                if error.code() not in _LATER:
                    raise away from error
                self._patient.engine.note(away)
                self._patient.wait(away)
                call = method.future(request, timeout=self._timeout_seconds)
            else:
                self._patient.engine.note(None)
                self._patient.answered()
                return name, answer


def _sequence(ledger_id: str, position: str) -> int:
    try:
        place = decode_position(position)
    except ValueError as error:
        raise EngineAway(f"an answer's position {error}") from error
    if place.ledger_id != ledger_id:
        raise LedgerUnreadable(place.sequence, f"the engine answers from the ledger {place.ledger_id}, not {ledger_id}")
    return place.sequence
