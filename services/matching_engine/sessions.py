"""Order sessions: what their clients send, until they or the engine end; and what becomes of the orders of those that asked for
cancel on disconnect: when the last of a user's sessions is over, and no other has begun within its grace, the user's open orders
are cancelled. When the engine stops, at once: nobody watches over them then.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import structlog

from ordertape.v1 import matching_engine_pb2
from services.serving.failures import draining

_log = structlog.get_logger()

_Message = matching_engine_pb2.OrderSessionRequest


class Sessions:
    """The sessions that run. ``end_session`` cancels a user's open orders and returns when that is durable."""

    def __init__(self, end_session: Callable[[str], None]) -> None:
        self._end_session = end_session
        self._lock = threading.Lock()
        self._inboxes: set[_Inbox] = set()
        self._running: dict[str, int] = {}
        self._waiting: dict[str, threading.Timer] = {}
        self._draining = False

    def messages(self, requests: Iterator[_Message]) -> Generator[_Message, None, None]:
        """What a client sends, to the end. Raises CallError where the engine drains, and what ``requests`` raises."""
        inbox = _Inbox(requests)
        with self._lock:
            self._inboxes.add(inbox)
        try:
            while not self._draining and (request := inbox.next()) is not None:
                yield request
        finally:
            with self._lock:
                self._inboxes.discard(inbox)
            inbox.close()
        if self._draining:
            raise draining()

    @contextmanager
    def session(self, wish: matching_engine_pb2.CancelOnDisconnect) -> Iterator[None]:
        """A session that asks for cancel on disconnect runs for as long as the block does."""
        user_id = wish.user_id
        with self._lock:
            self._running[user_id] = self._running.get(user_id, 0) + 1
            timer = self._waiting.pop(user_id, None)
            if timer is not None:
                timer.cancel()
        try:
            yield
        finally:
            self._over(user_id, wish.grace_seconds)

    def drain(self) -> None:
        """The engine stops: sessions end with what they are at, and what waits for a grace ends with it."""
        with self._lock:
            self._draining = True
            inboxes, waiting = list(self._inboxes), list(self._waiting.items())
            self._waiting.clear()
        for inbox in inboxes:
            inbox.wake()
        for user_id, timer in waiting:
            timer.cancel()
            self._end_session(user_id)

    def close(self) -> None:
        """The sessions that could not end in time, since their clients take no answers, are over all the same."""
        with self._lock:
            users = list(self._running)
            self._running.clear()
        for user_id in users:
            self._end_session(user_id)

    def _over(self, user_id: str, grace_seconds: int) -> None:
        with self._lock:
            if user_id not in self._running:
                return  # closed
            self._running[user_id] -= 1
            if self._running[user_id]:
                return
            del self._running[user_id]
            if grace_seconds and not self._draining:
                timer = threading.Timer(grace_seconds, self._grace_is_over, (user_id,))
                timer.daemon = True
                self._waiting[user_id] = timer
                timer.start()
                return
        self._end_session(user_id)

    def _grace_is_over(self, user_id: str) -> None:
        with self._lock:
            if self._waiting.pop(user_id, None) is None or user_id in self._running:
                return
        _log.info("session lost", user_id=user_id)
        self._end_session(user_id)


class _Inbox:
    """Reads a session's requests in a thread of its own, one ahead of who takes them: nobody can be woken who waits in gRPC's
    iterator, and a session whose client is silent has to end when the engine stops.
    """

    def __init__(self, requests: Iterator[_Message]) -> None:
        self._requests = requests
        self._read_so_far: SimpleQueue[_Message | Exception | None] = SimpleQueue()
        self._room = threading.Semaphore()
        self._closed = False
        threading.Thread(target=self._read, name="session-inbox", daemon=True).start()

    def next(self) -> _Message | None:
        """The next message, None at the end or when woken. Raises what reading it raised."""
        message = self._read_so_far.get()
        self._room.release()
        if isinstance(message, Exception):
            raise message
        return message

    def wake(self) -> None:
        """End the wait in ``next``."""
        self._read_so_far.put(None)

    def close(self) -> None:
        """Nobody takes anything any more. The thread ends with the call."""
        self._closed = True
        self._room.release()

    def _read(self) -> None:
        try:
            for request in self._requests:
                self._read_so_far.put(request)
                self._room.acquire()
                if self._closed:
                    return
            self._read_so_far.put(None)
        except Exception as error:  # the handler's to tell
            self._read_so_far.put(error)
