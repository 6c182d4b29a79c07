"""The one place that speaks to scylla-driver: connects, writes many statements at once with every outcome checked, reads in
pages from an event loop, and says which servers it is connected to.
"""

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from cassandra import (
    ConsistencyLevel,
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    ReadTimeout,
    RequestExecutionException,
    Unauthorized,
    Unavailable,
    WriteTimeout,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, ResponseFuture, ResultSet, Session
from cassandra.concurrent import execute_concurrent
from cassandra.connection import ConnectionException
from cassandra.policies import (
    ConstantReconnectionPolicy,
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    RetryPolicy,
    TokenAwarePolicy,
)
from cassandra.protocol import AlreadyExistsException, ErrorMessage, SyntaxException
from cassandra.query import PreparedStatement, Statement, tuple_factory

from services.order_history.stores import StoreDamaged, StoreRefused, StoreUnavailable
from services.order_history.stores.cql_connections import ConnectionWatch, Server, telling_connections
from services.order_history.stores.cql_settings import CqlSettings

Row: TypeAlias = tuple[Any, ...]

_PROTOCOL: Final = 4
_RECONNECT_SECONDS: Final = 0.5
# Until the next one an idle connection that was lost is taken for one.
_HEARTBEAT_SECONDS: Final = 1
_PAUSE_SECONDS: Final = 0.1
_SCANNED_ROWS: Final = 1_000
# Ours or an operator's mistake: trying again changes nothing.
_WRONG: Final = (InvalidRequest, SyntaxException, AlreadyExistsException, Unauthorized)
_TROUBLE: Final = (
    ConnectionException, DriverException, ErrorMessage, NoHostAvailable, OperationTimedOut, RequestExecutionException, OSError,
)  # fmt: skip
# The server that was asked, or one that it asked, is just being lost.
_ANOTHER_MAY_ANSWER: Final = (ConnectionException, NoHostAvailable, ReadTimeout, Unavailable)


@contextmanager
def translated_errors(context: str = "") -> Iterator[None]:
    """The driver's errors as the store's: StoreUnavailable to try again, StoreDamaged where the server refuses what we say."""
    try:
        yield
    except _WRONG as error:
        raise StoreDamaged(f"{context}{error}") from error
    except _TROUBLE as error:
        raise StoreUnavailable(f"{context}{_text(error)}") from error


class CqlSession:
    """A connection to the servers of ``settings``, without a keyspace until ``use_keyspace``.

    ``watch`` is told of its connections until it is closed. Raises StoreUnavailable, and StoreRefused where the servers do not
    let us in.
    """

    def __init__(self, settings: CqlSettings, watch: ConnectionWatch | None = None) -> None:
        self._settings = settings
        self.closed = False
        _quieten_driver()
        profile = ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc=settings.datacenter or "")),
            retry_policy=_AskAnother(),
            consistency_level=ConsistencyLevel.name_to_value[settings.consistency],
            request_timeout=settings.timeout_seconds,
            row_factory=tuple_factory,
        )
        self._cluster = Cluster(
            contact_points=[host for host, _ in settings.hosts],
            port=settings.hosts[0][1],
            auth_provider=PlainTextAuthProvider(settings.username, settings.password) if settings.username else None,
            ssl_context=_ssl_context(settings),
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            protocol_version=_PROTOCOL,
            connect_timeout=settings.timeout_seconds,
            control_connection_timeout=settings.timeout_seconds,
            idle_heartbeat_interval=_HEARTBEAT_SECONDS,
            idle_heartbeat_timeout=settings.timeout_seconds,
            reconnection_policy=ConstantReconnectionPolicy(_RECONNECT_SECONDS, max_attempts=None),
            **({"connection_class": telling_connections(_UntilClosed(self, watch))} if watch else {}),
        )
        try:
            # All that can be reached, so that whoever comes later has been away.
            self._session: Session = self._cluster.connect(wait_for_all_pools=True)
        except NoHostAvailable as error:
            self._cluster.shutdown()
            refused = [why for why in error.errors.values() if "uthenticat" in str(why)]
            if refused:
                raise StoreRefused(f"{settings} does not let us in: {refused[0]}") from error
            raise StoreUnavailable(f"{settings} cannot be reached: {_text(error)}") from error
        except BaseException:
            self._cluster.shutdown()
            raise

    @property
    def nodes(self) -> int:
        """How many nodes the nearest data centre has."""
        return len(self._hosts_nearby())

    @property
    def datacenter(self) -> str:
        """The nearest data centre."""
        connected = self._cluster.metadata.get_host(self._session.hosts[0].endpoint) if self._session.hosts else None
        return self._settings.datacenter or (connected.datacenter if connected else "") or "datacenter1"

    def members(self) -> set[str]:
        """The host_id of each node that acknowledges writes, up or down: of the nearest data centre where the consistency says so
        (LOCAL_...), else of all.
        """
        is_local = self._settings.consistency.startswith("LOCAL_")
        return {str(host.host_id) for host in (self._hosts_nearby() if is_local else self._cluster.metadata.all_hosts())}

    def use_keyspace(self) -> None:
        """Let unqualified names mean the settings' keyspace. Raises StoreDamaged where there is none."""
        with translated_errors():
            self._session.set_keyspace(self._settings.keyspace)

    def keyspaces(self) -> set[str]:
        """The names of all keyspaces."""
        return {name for (name,) in self.execute("SELECT keyspace_name FROM system_schema.keyspaces")}

    def is_scylla(self) -> bool:
        """Whether the servers are ScyllaDB, which has a table of its own features."""
        return "scylla_local" in {
            name for (name,) in self.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'system'")
        }

    def tables(self) -> set[str]:
        """The names of the keyspace's tables."""
        rows = self.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", (self._settings.keyspace,))
        return {name for (name,) in rows}

    def execute(
        self, cql: str | Statement, values: Sequence[Any] | None = None, timeout_seconds: float | None = None
    ) -> list[Row]:
        """All rows of a statement that may be said again. Raises StoreUnavailable, StoreDamaged."""
        with translated_errors():
            return list(self._session.execute(cql, values, timeout=timeout_seconds or self._settings.timeout_seconds))

    def prepare(self, cql: str) -> PreparedStatement:
        """A statement that may be said again. Raises StoreUnavailable, StoreDamaged."""
        with translated_errors():
            prepared = self._session.prepare(cql)
        prepared.is_idempotent = True
        return prepared

    def write_all(self, statements: Iterable[Statement]) -> None:
        """Have every statement acknowledged; they run at once, at most ``requests_max``, in no order, each at most twice.

        Raises StoreUnavailable where one was not (it may have been applied all the same), StoreDamaged where the server refuses;
        what has not been sent by then is not: where nothing is answered, each of them would wait in vain.
        """
        waiting = iter(statements)
        while failed := self._write(waiting):
            time.sleep(_PAUSE_SECONDS)
            if failed := self._write(statement for statement, _ in failed):
                with translated_errors(f"{len(failed)} writes were not acknowledged, the first: "):
                    raise failed[0][1]

    def scan(self, prepared: PreparedStatement) -> Iterator[Row]:
        """Every row of a statement without values, page by page, in the calling thread. Raises StoreUnavailable."""
        statement = prepared.bind(())
        statement.fetch_size = _SCANNED_ROWS
        with translated_errors():
            yield from self._session.execute(statement, timeout=None)

    def read_all(self, statements: Iterable[Statement]) -> Iterator[Row]:
        """The rows of many statements, read at once, in the calling thread. Raises StoreUnavailable."""
        statements = [(statement, None) for statement in statements]
        with translated_errors():
            for outcome in execute_concurrent(self._session, statements, concurrency=self._settings.requests_max):
                yield from outcome.result_or_exc

    async def one(self, prepared: PreparedStatement, values: Sequence[Any]) -> Row | None:
        """The first row, for the event loop."""
        async for page in self.pages(prepared, values):
            if page:
                return page[0]
        return None

    async def rows(self, prepared: PreparedStatement, values: Sequence[Any]) -> list[Row]:
        """All rows, for the event loop."""
        return [row async for page in self.pages(prepared, values) for row in page]

    async def pages(
        self, prepared: PreparedStatement, values: Sequence[Any], page_rows: int = _SCANNED_ROWS
    ) -> AsyncIterator[list[Row]]:
        """The rows page by page, for the event loop: a page may be empty and not the last. Raises StoreUnavailable."""
        if self.closed:
            raise StoreUnavailable("the store is closed")
        statement = prepared.bind(values)
        statement.fetch_size = page_rows
        paging_state: bytes | None = None
        while True:
            with translated_errors():
                try:
                    rows, paging_state = await self._page(statement, paging_state)
                except _ANOTHER_MAY_ANSWER:
                    rows, paging_state = await self._page(statement, paging_state)
            yield rows
            if paging_state is None:
                return

    def close(self) -> None:
        """End all connections; once more does nothing."""
        self.closed = True
        self._cluster.shutdown()

    def _hosts_nearby(self) -> list[Any]:
        return [host for host in self._cluster.metadata.all_hosts() if host.datacenter == self.datacenter]

    async def _page(self, statement: Statement, paging_state: bytes | None) -> tuple[list[Row], bytes | None]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[list[Row], bytes | None]] = loop.create_future()
        future = self._session.execute_async(statement, paging_state=paging_state)

        def settle(outcome: Callable[[], None]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: None if answer.done() else outcome())

        def succeed(rows: list[Row]) -> None:
            state = ResultSet(future, rows).paging_state
            settle(lambda: answer.set_result((rows, state)))

        future.add_callbacks(succeed, lambda error: settle(lambda: answer.set_exception(error)))
        return await answer

    def _write(self, statements: Iterator[Statement]) -> list[tuple[Statement, Exception]]:
        """Send statements until one fails; those that did, and why."""
        places = threading.Semaphore(self._settings.requests_max)
        failed: list[tuple[Statement, Exception]] = []

        def fail(error: Exception, statement: Statement) -> None:
            failed.append((statement, error))
            places.release()

        places.acquire()
        while not failed and (statement := next(statements, None)) is not None:
            try:
                future: ResponseFuture = self._session.execute_async(statement)
            except Exception as error:
                fail(error, statement)
            else:
                future.add_callbacks(lambda _rows: places.release(), fail, errback_args=(statement,))
            places.acquire()
        for _ in range(self._settings.requests_max - 1):
            places.acquire()
        return failed


class _UntilClosed:
    """Tells of what happens to a session, and not of its end."""

    def __init__(self, session: CqlSession, watch: ConnectionWatch) -> None:
        self._session = session
        self.connected = watch.connected
        self._disconnected = watch.disconnected

    def disconnected(self, server: Server) -> None:
        """See ConnectionWatch."""
        if not self._session.closed:
            self._disconnected(server)


class _AskAnother(FallthroughRetryPolicy):  # type: ignore[misc] # the driver has no types
    """Passes on to the next server, once, what one cannot do that is just back: it answers before it knows that others are up.
    All that is ever said may be said again.
    """

    on_unavailable = RetryPolicy.on_unavailable


def _quieten_driver() -> None:
    """While a server is away the driver warns of each attempt to reach it, with its stack, several times a second. What there is
    to know of that the store says itself.
    """
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger("cassandra").setLevel(logging.ERROR)


def _ssl_context(settings: CqlSettings) -> ssl.SSLContext | None:
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        # Certificates of nodes name the cluster, seldom each address.
        context.check_hostname = False
        if settings.tls_cert is not None:
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:
        raise StoreRefused(f"the TLS files of {settings} cannot be used: {error}") from error
    return context


def _text(error: Exception) -> str:
    if isinstance(error, NoHostAvailable):
        return "; ".join(f"{host}: {why}" for host, why in error.errors.items()) or str(error)
    if isinstance(error, WriteTimeout | OperationTimedOut):
        return f"no answer in time: {error}"
    return str(error)
