"""What the end to end tests share: a flow of orders, and what the history of an undisturbed run of it says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.wire.position import encode_position
from tests.support.exact_watch import ExactWatch, watching
from tests.support.exchange_process import Exchange
from tests.support.exchange_proof import prove
from tests.support.history_dump import dump_of_any_run
from tests.support.order_flow import USERS, Load, Step, flow_of

MESSAGES = 160


@pytest.fixture(scope="session")
def flow() -> list[Step]:
    """Orders of four users with everything that can become of an order, sent one message after the other."""
    return flow_of(seed=3, messages=MESSAGES)


@pytest.fixture(scope="session")
def undisturbed(flow: list[Step], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The tables after the flow where nothing went wrong, without what differs from run to run."""
    with Exchange(tmp_path_factory.mktemp("undisturbed")) as exchange:
        with Load(exchange.engine_address, flow) as load:
            load.finish()
            prove(exchange, load)
        return dump_of_any_run(exchange.history_folder)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    """Both services, running."""
    with Exchange(tmp_path) as exchange:
        yield exchange


@pytest.fixture
def watches(exchange: Exchange) -> Iterator[list[ExactWatch]]:
    """Two clients for each user that watch from the ledger's beginning."""
    with watching(exchange.history_address, USERS, encode_position(exchange.ledger_id, 0)) as watches:
        yield watches
