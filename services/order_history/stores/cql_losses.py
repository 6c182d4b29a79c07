"""Whether a CQL store has all that it acknowledged. It may not from the moment in which a server is lost, which can have
forgotten its last seconds, until the server is back and was not restarted, or what it may have forgotten is written again.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import structlog

from services.order_history.stores.cql_connections import Server, ServerProcess

log = structlog.stdlib.get_logger(__name__)

_BEFORE_US = ""
"""In the place of a host_id: whichever it was that forgot something before the store was opened."""


class _Loss(NamedTuple):
    number: int
    generation: int | None
    """What the server has to say when it is back for nothing to be lost; None: whatever it says."""


_NO_LOSS = _Loss(0, None)


class Losses:
    """The losses so far, and those that are not settled. Any thread may ask and tell; ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._connections = Counter[ServerProcess]()
        self._generations: dict[str, int | None] = {}
        self._open: dict[str, _Loss] = {}
        self._has_begun = False
        self._quiet_since = clock()
        self.count = 0
        """Losses so far."""

    @property
    def are_settled(self) -> bool:
        """Whether the store is whole."""
        return not self._open

    @property
    def newest_open(self) -> int:
        """The number of the newest loss that is not settled, 0 where all are."""
        with self._lock:
            return max((loss.number for loss in self._open.values()), default=0)

    @property
    def quiet_since(self) -> float:
        """Since when the store is whole and was so without a break; infinite while it is not. A server that was away has synced
        nothing meanwhile: what it acknowledged before that is no safer than what it acknowledges now.
        """
        with self._lock:
            return float("inf") if self._open else self._quiet_since

    def begin(self, members: Collection[str], known: Mapping[str, int], *, is_whole: bool) -> None:
        """The store was opened, and is whole where ``is_whole`` says so or all ``members`` (host_ids) of the cluster have the
        generations that are ``known`` as those in which they have forgotten nothing.
        """
        with self._lock:
            running = self._running()
            unchanged = bool(members) and all(running.get(member) == known.get(member, -1) for member in members)
            if not (is_whole or unchanged):
                self._add(_BEFORE_US, None)
            self._quiet_since = self._clock()
            self._has_begun = True

    def connected(self, server: Server) -> None:
        """See ConnectionWatch."""
        with self._lock:
            says_the_same = self._generations.get(server.host_id, -1) == server.generation
            is_same = says_the_same and (server.generation is not None or self._connections[server.process] > 0)
            self._connections[server.process] += 1
            self._generations[server.host_id] = server.generation
            if not self._has_begun:
                return
            lost_generation = self._open.get(server.host_id, _NO_LOSS).generation
            is_back = lost_generation is not None and lost_generation == server.generation
            if not is_same:
                self._add(server.host_id, None)
            elif is_back:
                del self._open[server.host_id]
                self._quiet_since = self._clock()
        if not is_same:
            log.warning("server of the store started anew: what it may have forgotten is written again", server=server.address)
        elif is_back:
            log.info("server of the store back, which has forgotten nothing", server=server.address)

    def disconnected(self, server: Server) -> None:
        """See ConnectionWatch. The server is lost with its last connection."""
        with self._lock:
            self._connections[server.process] -= 1
            if self._connections[server.process] > 0:
                return
            del self._connections[server.process]
            if self._generations[server.host_id] != server.generation or not self._has_begun:
                return
            open_loss = self._open.get(server.host_id)
            self._add(server.host_id, open_loss.generation if open_loss else server.generation)
        log.warning("server of the store lost: what it may have forgotten is written again", server=server.address)

    def settle(self, number: int) -> None:
        """What the losses up to ``number`` may have taken is written again."""
        with self._lock:
            self._open = {host_id: loss for host_id, loss in self._open.items() if loss.number > number}
            self._quiet_since = self._clock()

    def whole_servers(self) -> dict[str, int]:
        """The generations, by host_id, of the connected servers: they have forgotten nothing in them; none while the store is not
        whole.
        """
        with self._lock:
            return {} if self._open else self._running()

    def _add(self, host_id: str, generation: int | None) -> None:
        self.count += 1
        self._open[host_id] = _Loss(self.count, generation)

    def _running(self) -> dict[str, int]:
        """Without those that say no generation, and the old processes whose connections are just ending."""
        return {
            host_id: generation
            for host_id, generation in self._connections
            if generation is not None and generation == self._generations[host_id]
        }
