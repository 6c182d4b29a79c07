"""A CQL session tells of each connection that is for requests, to which server it leads and when it ends: what is written again
hangs on it.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.order_history.stores import StoreUnavailable
from services.order_history.stores.cql_connections import Server
from services.order_history.stores.cql_session import CqlSession
from services.order_history.stores.cql_settings import parse_cql_address
from tests.support.bad_wire import Cable
from tests.support.cql_server import CqlNode, CqlServer
from tests.support.eventually import eventually

pytestmark = pytest.mark.cql

QUERY = "SELECT release_version FROM system.local"


class Told:
    """What a session has told of (ConnectionWatch)."""

    def __init__(self) -> None:
        self.begun: list[Server] = []
        self.ended: list[Server] = []

    def connected(self, server: Server) -> None:
        """Keep it."""
        self.begun.append(server)

    def disconnected(self, server: Server) -> None:
        """Keep it."""
        self.ended.append(server)

    def open(self) -> int:
        """Connections that there are."""
        return len(self.begun) - len(self.ended)


def session_through(cable: Cable, told: Told) -> CqlSession:
    return CqlSession(parse_cql_address(f"scylla://{cable.address}/none?timeout_seconds=2"), told)


@pytest.fixture
def cable(cql_server: CqlServer) -> Iterator[Cable]:
    """The only way to one of the servers."""
    with Cable(cql_server.contact_points.split(",")[0]) as cable:
        yield cable


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def session(cable: Cable, told: Told) -> Iterator[CqlSession]:
    session = session_through(cable, told)
    yield session
    session.close()


def is_answered(session: CqlSession) -> bool:
    try:
        return bool(session.execute(QUERY))
    except StoreUnavailable as down:
        raise AssertionError(str(down)) from down


def test_a_connection_is_told_with_the_server_behind_it(cable: Cable, session: CqlSession, told: Told) -> None:
    assert is_answered(session)
    assert told.open() == len(told.begun) > 0
    (server,) = set(told.begun)
    assert (server.address, {server.host_id}) == (cable.address, session.members())
    assert server.generation is not None


def test_a_lost_connection_is_told_at_once_though_nothing_is_asked(cable: Cable, session: CqlSession, told: Told) -> None:
    assert is_answered(session)
    assert told.ended == []
    before = told.open()
    cable.reset()
    eventually(lambda: len(told.ended) >= before, 0.5)


def test_a_server_is_told_as_back_before_it_answers_again_and_is_the_same(cable: Cable, session: CqlSession, told: Told) -> None:
    for _ in range(5):
        begun = len(told.begun)
        cable.reset()
        eventually(lambda: is_answered(session))
        assert len(told.begun) > begun
    assert len(set(told.begun)) == 1


def test_attempts_to_reach_a_server_are_not_told(cql_server: CqlServer, told: Told) -> None:
    target = cql_server.contact_points.split(",")[0]
    with Cable(target) as cable:
        session = session_through(cable, told)
    try:
        eventually(lambda: told.open() == 0, 0.5)
        begun = len(told.begun)
        time.sleep(2.5)  # five attempts
        assert (len(told.begun), told.open()) == (begun, 0)
        back = Cable(target)
        back.address = cable.address
        with back:
            eventually(lambda: is_answered(session))
            assert told.open() > 0
            session.close()
    finally:
        session.close()


def test_a_server_that_answers_nothing_any_more_is_told(cable: Cable, session: CqlSession, told: Told) -> None:
    cable.cut()
    eventually(lambda: told.open() == 0, 8)
    cable.mend()
    eventually(lambda: is_answered(session))


def test_closing_is_no_loss(session: CqlSession, told: Told) -> None:
    assert is_answered(session)
    session.close()
    assert told.ended == []


@pytest.mark.torture
def test_a_server_that_was_restarted_says_so_and_one_that_hung_does_not(tmp_path: Path, told: Told) -> None:
    with CqlNode(tmp_path / "node") as node, Cable(node.contact_point) as cable:
        session = session_through(cable, told)
        try:
            node.freeze()
            eventually(lambda: told.open() == 0, 12)
            node.thaw()
            eventually(lambda: is_answered(session))
            assert len(set(told.begun)) == 1
            node.kill()
            node.start()
            eventually(lambda: is_answered(session))
            first, second = sorted(set(told.begun), key=lambda server: server.generation or 0)
            assert (second.host_id, second.generation) > (first.host_id, first.generation)
        finally:
            session.close()
