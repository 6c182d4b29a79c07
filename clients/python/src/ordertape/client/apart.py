"""Reads a stream in a thread of its own, so that what a signal raises in the main thread never arises inside gRPC, whose C code
does not expect it there (seen twice: an interrupted watch that died of SIGSEGV before it could say its position).
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Apart(Generic[T]):
    """What the stream gives, in order, to its end; raises what it raises. ``ahead_max``: how many pieces may wait to be taken, so
    that the service hears of it where a terminal or a disk is slow. ``stop`` ends the stream where its thread waits for it.
    """

    def __init__(self, stream: Iterator[T], ahead_max: int = 16, stop: Callable[[], object] = lambda: None) -> None:
        self._stop = stop
        self._buffer: _Buffer[T] = _Buffer(ahead_max)
        # The thread knows the buffer and not this object, which so ends with its last reader.
        self._thread = threading.Thread(target=_read, args=(stream, self._buffer), name="stream", daemon=True)
        self._begun = threading.Lock()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._thread.ident is None and self._begun.acquire(blocking=False):
            self._thread.start()
        return self._buffer.take()

    def close(self) -> None:
        """End the stream; whoever waits for it comes to its end."""
        self._buffer.close()
        self._stop()

    def __del__(self) -> None:
        self.close()


class _Buffer(Generic[T]):
    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._error: Exception | None = None

    def put(self, item: T) -> bool:
        """Whether somebody still wants it."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._size or self._ended)
            self._items.append(item)
            self._changed.notify_all()
            return not self._ended

    def end(self, error: Exception | None) -> None:
        with self._changed:
            self._ended = True
            self._error = error
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._ended = True
            self._items.clear()
            self._changed.notify_all()

    def take(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
            if error is not None:
                raise error
            raise StopIteration


def _read(stream: Iterator[T], buffer: _Buffer[T]) -> None:
    try:
        for one in stream:
            if not buffer.put(one):
                return
        buffer.end(None)
    except Exception as error:
        buffer.end(error)
