"""Connections that say which server they lead to and since when it runs, and when they end. A connection cannot outlive the
server's process, so a server that has been spoken to all the time, or runs since the same time as before, has forgotten nothing.

The driver itself finds out that an idle connection has ended when the next heartbeat is due, and a server in a ring answers
through the others before that.
"""

from inspect import iscoroutinefunction
from typing import Any, Final, NamedTuple, Protocol

from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster
from cassandra.protocol import QueryMessage

from services.order_history.stores import StoreRefused

# What the driver gives the connections of its pools alone.
_POOLED: Final = "on_orphaned_stream_released"


class ServerProcess(NamedTuple):
    """A run of a server: ``host_id`` is the node's for good, ``generation`` rises with each start (``gossip_generation`` in
    Cassandra and ScyllaDB), None where the server does not say it.
    """

    host_id: str
    generation: int | None


class Server(NamedTuple):
    """Where a connection leads: one process may have several addresses."""

    address: str
    host_id: str
    generation: int | None

    @property
    def process(self) -> ServerProcess:
        """The process behind the address."""
        return ServerProcess(self.host_id, self.generation)


class ConnectionWatch(Protocol):
    """Is told of connections, in threads of the driver's."""

    def connected(self, server: Server) -> None:
        """There is one more connection to ``server``, over which nothing was asked yet."""
        ...

    def disconnected(self, server: Server) -> None:
        """There is one less, whoever ended it."""
        ...


def telling_connections(watch: ConnectionWatch) -> type:
    """The driver's class of connections for one Cluster. Told are those that carry requests: not the driver's own, nor those by
    which it only sees whether a server is back, nor attempts that come to nothing.
    """
    base: Any = Cluster.connection_class
    if iscoroutinefunction(base.handle_read):
        raise StoreRefused("the CQL driver has no libev here, without which it does not tell in time that a server was lost")

    class TellingConnection(base):  # type: ignore[misc] # the driver has no types
        @classmethod
        def factory(cls, endpoint: Any, timeout: float, *arguments: Any, **named: Any) -> Any:
            """Returns when the server has said who it is, before anything else is asked of it."""
            connection = super().factory(endpoint, timeout, *arguments, **named)
            if _POOLED not in named:
                return connection
            try:
                server = _server_behind(connection, timeout)
            except BaseException:
                connection.close()
                raise
            watch.connected(server)
            connection.__dict__["_told"] = server
            if connection.is_closed:  # meanwhile
                connection._tell_end()
            return connection

        def close(self) -> None:
            """Called by whoever wants it closed, the driver or we, and by itself where it was lost."""
            self._tell_end()
            super().close()
            self._tell_end()  # the connection may have been told of meanwhile

        def _tell_end(self) -> None:
            if (server := self.__dict__.pop("_told", None)) is not None:
                watch.disconnected(server)

    return TellingConnection


def _server_behind(connection: Any, timeout_seconds: float) -> Server:
    # All columns: one that a server does not have would be an error.
    query = QueryMessage("SELECT * FROM system.local", ConsistencyLevel.ONE)
    answer = connection.wait_for_response(query, timeout=timeout_seconds)
    about = dict(zip(answer.column_names, answer.parsed_rows[0], strict=True))
    return Server(str(connection.endpoint), str(about["host_id"]), about.get("gossip_generation"))
