"""Connections that tell when they were lost. A server that died may have forgotten, when it is back, what it acknowledged last,
and can be spoken to again through a new connection only; so each lost one is told before there is a new one.

The driver itself finds out that an idle connection has ended when the next heartbeat is due, and a server in a ring answers
through the others before that.
"""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from cassandra.cluster import Cluster

from services.order_history.stores import StoreRefused


def telling_connections(on_lost: Callable[[str], None]) -> type:
    """The driver's class of connections for one Cluster, whose lost ones call ``on_lost`` with the server's address in a thread
    of the driver's: each that was in use and ended by the server's doing or an error, and the first one to a server that is
    back, which may have died a second time while nobody was connected to it. Attempts that come to nothing are not told.
    """
    base: Any = Cluster.connection_class
    if iscoroutinefunction(base.handle_read):
        raise StoreRefused("the CQL driver has no libev here, without which it does not tell in time that a server was lost")
    away = set[str]()

    class TellingConnection(base):  # type: ignore[misc] # the driver has no types
        _is_reading = False

        @classmethod
        def factory(cls, endpoint: Any, *arguments: Any, **named: Any) -> Any:
            """Returns when the server has answered, before anything is asked of it."""
            connection = super().factory(endpoint, *arguments, **named)
            if str(endpoint) in away:
                away.discard(str(endpoint))
                on_lost(str(endpoint))
            return connection

        def handle_read(self, *arguments: Any) -> None:
            """The end of what a server sends is found here."""
            self._is_reading = True
            try:
                super().handle_read(*arguments)
            finally:
                self._is_reading = False

        def close(self) -> None:
            """Called once by whoever wants it closed, the driver or we, and by itself where it was lost."""
            was_lost = (self._is_reading or self.is_defunct) and self.connected_event.is_set()
            if was_lost and not self.is_closed:
                away.add(str(self.endpoint))
                on_lost(str(self.endpoint))
            super().close()

    return TellingConnection
