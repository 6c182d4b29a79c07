"""A server of each kind: a test that takes ``kind`` or ``server`` runs against both."""

from collections.abc import Iterator

import pytest

from ordertape.v1.ledger_pb2_grpc import LedgerFeedStub
from tests.serving.running_servers import KINDS, Running, feed_client, running


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server(kind: str) -> Iterator[Running]:
    with running(kind) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[LedgerFeedStub]:
    with feed_client(server.address) as client:
        yield client
