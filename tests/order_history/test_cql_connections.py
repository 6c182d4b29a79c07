"""A CQL session tells of each connection that it loses, at once, and of nothing else: what is written again hangs on it."""

import time
from collections.abc import Iterator

import pytest

from services.order_history.stores import StoreUnavailable
from services.order_history.stores.cql_session import CqlSession
from services.order_history.stores.cql_settings import parse_cql_address
from tests.support.bad_wire import Cable
from tests.support.cql_server import CqlServer
from tests.support.eventually import eventually

pytestmark = pytest.mark.cql

QUERY = "SELECT release_version FROM system.local"


@pytest.fixture
def cable(cql_server: CqlServer) -> Iterator[Cable]:
    """The only way to one of the servers."""
    with Cable(cql_server.contact_points.split(",")[0]) as cable:
        yield cable


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def session(cable: Cable, told: list[str]) -> Iterator[CqlSession]:
    session = CqlSession(parse_cql_address(f"scylla://{cable.address}/none?timeout_seconds=2"), told.append)
    yield session
    session.close()


def is_answered(session: CqlSession) -> bool:
    try:
        return bool(session.execute(QUERY))
    except StoreUnavailable as down:
        raise AssertionError(str(down)) from down


def test_a_lost_connection_is_told_at_once_though_nothing_is_asked(cable: Cable, session: CqlSession, told: list[str]) -> None:
    assert is_answered(session)
    assert told == []
    cable.reset()
    eventually(lambda: told, 0.5)
    assert set(told) == {cable.address}


def test_a_loss_is_told_before_the_server_answers_again(cable: Cable, session: CqlSession, told: list[str]) -> None:
    for _ in range(5):
        before = len(told)
        cable.reset()
        eventually(lambda: is_answered(session))
        assert len(told) > before


def test_attempts_to_reach_a_server_are_not_told_and_that_it_is_back_is(cql_server: CqlServer, told: list[str]) -> None:
    target = cql_server.contact_points.split(",")[0]
    with Cable(target) as cable:
        session = CqlSession(parse_cql_address(f"scylla://{cable.address}/none?timeout_seconds=2"), told.append)
    try:
        eventually(lambda: told, 0.5)
        time.sleep(2.5)  # five attempts
        lost = len(told)
        assert lost <= 2, "one for requests, one of the driver's own"
        back = Cable(target)
        back.address = cable.address
        with back:
            eventually(lambda: is_answered(session))
            assert len(told) == lost + 1
            session.close()
    finally:
        session.close()


def test_a_server_that_answers_nothing_any_more_is_told(cable: Cable, session: CqlSession, told: list[str]) -> None:
    cable.cut()
    eventually(lambda: told, 8)
    cable.mend()
    eventually(lambda: is_answered(session))


def test_closing_is_no_loss(session: CqlSession, told: list[str]) -> None:
    assert is_answered(session)
    session.close()
    assert told == []
