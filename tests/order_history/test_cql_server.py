"""The CQL server that the store's tests run on does what they take for granted: it answers the driver, keeps what it acknowledged
over kill -9, hangs and comes back, and a ring of three goes on without one of its nodes.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cassandra import ConsistencyLevel, OperationTimedOut
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from tests.support.cql_server import CqlNode, CqlRing, CqlServer
from tests.support.cql_session import cql_session
from tests.support.eventually import eventually

pytestmark = pytest.mark.cql

ROWS = 500


def make_table(session: Session, copies: int) -> None:
    replication = {"class": "NetworkTopologyStrategy", "datacenter1": str(copies)}
    session.execute(f"CREATE KEYSPACE kept WITH replication = {replication}")
    session.execute("CREATE TABLE kept.rows (id int PRIMARY KEY, said text)")


def write_rows(session: Session, ids: range) -> None:
    insert = session.prepare("INSERT INTO kept.rows (id, said) VALUES (?, ?)")
    insert.consistency_level = ConsistencyLevel.LOCAL_QUORUM
    execute_concurrent_with_args(session, insert, [(number, f"row {number}") for number in ids], concurrency=32)


def ids_of(session: Session, ids: range) -> list[int]:
    """Which of them are there, asked one by one."""
    select = session.prepare("SELECT id FROM kept.rows WHERE id = ?")
    select.consistency_level = ConsistencyLevel.LOCAL_QUORUM
    found = execute_concurrent_with_args(session, select, [(number,) for number in ids], concurrency=32)
    return [row.id for _, rows in found for row in rows]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[CqlNode]:
    """A node of the test's own: what it acknowledges is on the disk."""
    with CqlNode(tmp_path / "node", commitlog_sync="batch") as node:
        yield node


def test_the_server_answers_the_driver(cql_server: CqlServer) -> None:
    with cql_session(cql_server.contact_points) as session:
        (row,) = session.execute("SELECT release_version FROM system.local")
    assert row.release_version


def test_a_killed_node_comes_back_with_all_that_it_acknowledged(node: CqlNode) -> None:
    with cql_session(node.contact_point) as session:
        make_table(session, copies=1)
        write_rows(session, range(ROWS))
        node.kill()
    assert not node.answers()
    node.start()
    with cql_session(node.contact_point) as session:
        assert ids_of(session, range(ROWS)) == list(range(ROWS))


def test_a_frozen_node_answers_nothing_and_goes_on_when_it_is_thawed(node: CqlNode) -> None:
    with cql_session(node.contact_point, timeout_seconds=2.0) as session:
        query = "SELECT release_version FROM system.local"
        assert session.execute(query).one() is not None
        node.freeze()
        assert not node.answers()
        with pytest.raises(OperationTimedOut):
            session.execute(query)
        node.thaw()
        eventually(node.answers, timeout_seconds=30)
        assert session.execute(query, timeout=30).one() is not None


def test_a_stopped_node_is_gone_and_starts_again_on_its_folder(node: CqlNode) -> None:
    node.stop()
    assert not node.answers()
    node.start()
    assert node.answers()


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="no_such_setting"),
        CqlNode(tmp_path / "node", settings={"no_such_setting": "true"}),
    ):
        pass


def test_a_ring_keeps_taking_rows_while_one_node_is_dead(tmp_path: Path) -> None:
    with CqlRing(tmp_path) as ring, cql_session(ring.contact_points) as session:
        make_table(session, copies=3)
        write_rows(session, range(ROWS))
        ring.nodes[1].kill()
        write_rows(session, range(ROWS, 2 * ROWS))
        ring.nodes[1].start()
        ring.wait_until_whole()
        assert ids_of(session, range(2 * ROWS)) == list(range(2 * ROWS))
