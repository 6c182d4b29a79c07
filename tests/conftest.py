"""The CQL server that tests share, and what becomes of them where there is none: they are skipped and say what is missing; where
the environment says CI, where nobody would read that, they fail.
"""

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.cql_jars import CqlServerMissing

if TYPE_CHECKING:
    from tests.support.cql_server import CqlServer

# The first of them may have to fetch the server.
CQL_TIMEOUT_SECONDS = 300


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests marked ``cql`` in one worker, so that one server is enough for all of them."""
    for item in items:
        if item.get_closest_marker("cql") is not None:
            item.add_marker(pytest.mark.xdist_group("cql"))
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(CQL_TIMEOUT_SECONDS))


@pytest.hookimpl(wrapper=True)
def pytest_collection_finish(session: pytest.Session) -> Generator[None, object, object]:
    """Tell the groups to pytest-xdist's scheduler. Version 3.8 writes them where pytest 9.2 no longer reads them, and then groups
    nothing and says nothing: https://github.com/pytest-dev/pytest-xdist/issues/1386
    """
    written = {item: getattr(item, "_nodeid", item.nodeid) for item in session.items}
    own = {item: item._id for item, node_id in written.items() if node_id != item.nodeid}
    for item, node_id in own.items():
        item._id = type(node_id).parse(written[item])
    result = yield
    for item, node_id in own.items():
        item._id = node_id
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    """A fixture that needs a server may raise CqlServerMissing."""
    return (yield from _skipped_without_server())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """So may a test that starts nodes of its own."""
    return (yield from _skipped_without_server())


def _skipped_without_server() -> Generator[None, object, object]:
    try:
        return (yield)
    except CqlServerMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NO CQL SERVER, SO THIS IS NOT TESTED HERE: {missing}")


@pytest.fixture(scope="session")
def cql_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[CqlServer]":
    """The server that ORDERTAPE_TEST_CQL names (HOST:PORT[,HOST:PORT]), or a node that lives as long as the tests. A test that
    kills or freezes one starts one of its own.
    """
    # Lazily, since the driver takes 0.1 s and most runs have no use for it.
    from tests.support.cql_server import CqlNode, CqlServer, named_server

    named = named_server()
    if named is not None:
        yield named
        return
    with CqlNode(tmp_path_factory.mktemp("cql") / "node") as node:
        yield CqlServer(node.contact_point)
