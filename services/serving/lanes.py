"""Threads for calls, in lanes: unary calls, streams, sessions, and the control calls (health, reflection, refusals), so that none
of them can take the threads of another, and each is bounded and counted.

A lane stands in for the thread pool that ``grpc.server`` wants. Of a pool's futures gRPC uses one thing, the callback at the
end, so a lane makes no more than that, which saves a tenth and more of a small call's processor time. Its threads are
daemons, since a handler that never returns must not keep a stopped process alive.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any


class Lane(ThreadPoolExecutor):
    """At most ``threads_max`` threads, started as they are needed. ``in_flight``: how many calls run or wait."""

    def __init__(self, name: str, threads_max: int) -> None:
        super().__init__(threads_max, thread_name_prefix=name)
        self.name = name
        self.in_flight = 0
        self._threads_max = threads_max
        self._started = 0
        self._lock = threading.Lock()
        self._inbox: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...], _Ticket] | None] = SimpleQueue()

    def submit(self, fn: Callable[..., object], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``fn`` on a thread of the lane; the result has ``add_done_callback`` and nothing else of a future."""
        ticket = _Ticket(self._lock)
        with self._lock:
            self.in_flight += 1
            short_of_threads = self._started < min(self.in_flight, self._threads_max)
            if short_of_threads:
                self._started += 1
        if short_of_threads:
            threading.Thread(target=self._work, name=f"{self.name}-{self._started}", daemon=True).start()
        self._inbox.put((partial(fn, **kwargs) if kwargs else fn, args, ticket))
        return ticket

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """End the threads once they have done what is queued; they are never waited for."""
        with self._lock:
            for _ in range(self._started):
                self._inbox.put(None)

    def _work(self) -> None:
        while (job := self._inbox.get()) is not None:
            fn, args, ticket = job
            try:
                fn(*args)
            finally:
                with self._lock:
                    self.in_flight -= 1
                    ticket.done = True
                if ticket.callback is not None:
                    ticket.callback(ticket)
            del job, fn, args, ticket  # an idle thread must not keep the last call's messages alive


class _Ticket:
    __slots__ = ("_lock", "callback", "done")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.callback: Callable[[_Ticket], object] | None = None
        self.done = False

    def add_done_callback(self, callback: "Callable[[_Ticket], object]") -> None:
        with self._lock:
            if not self.done:
                self.callback = callback
                return
        callback(self)
