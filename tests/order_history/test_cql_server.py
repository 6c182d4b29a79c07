"""The CQL server that the store's tests run on answers the driver, and says why where it cannot start."""

from pathlib import Path

import pytest

from tests.support.cql_server import CqlNode, CqlServer
from tests.support.cql_session import cql_session

pytestmark = pytest.mark.cql


def test_the_server_answers_the_driver(cql_server: CqlServer) -> None:
    with cql_session(cql_server.contact_points) as session:
        (row,) = session.execute("SELECT release_version FROM system.local")
    assert row.release_version


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="no_such_setting"),
        CqlNode(tmp_path / "node", settings={"no_such_setting": "true"}),
    ):
        pass
