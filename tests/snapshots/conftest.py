"""A ledger with every kind of order open and every control used, and copies of it to do harm to."""

import shutil
from pathlib import Path

import pytest

from ordertape.v1 import order_pb2
from services.domain.kinds import OrderType, TimeInForce
from services.matching_engine.layout import LEDGER_FOLDER, SNAPSHOTS_FOLDER
from services.matching_engine.ledger import SegmentReader
from tests.snapshots.states import state_at
from tests.support.engine_client import BUY, SELL, EngineClient, limit, stop
from tests.support.engine_exchange import ETH_USD, running_engine
from tests.support.engine_flow import fund_users, random_requests

SESSION_END = 86_399


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of an engine that was stopped after a life with everything in it, without a snapshot."""
    data_dir = tmp_path_factory.mktemp("lived") / "engine"
    requests = list(random_requests(41, 900))
    with running_engine(data_dir, session_end_seconds=SESSION_END) as engine, EngineClient(engine.address) as client:
        fund_users(client)
        client.fund("many", USD="100000")
        send(client, requests[:400])
        client.set_instrument(ETH_USD | {"taker_fee_rate": "0.003", "price_band_rate": "0.5"}, "changed")
        client.set_user("poor", "SUSPENDED", "suspended")
        client.set_user("nobody-yet", "SUSPENDED", "suspended-before-anything")
        send(client, [limit("many", BUY, "2", "0.01", client_order_id=f"m{number}") for number in range(620)])
        client.cancel_orders("many", "all-of-them")
        send(client, requests[400:])
        send(client, every_kind())
        client.set_symbol("ETH-USD", "HALTED", "halted")
        client.force_cancel(next(engine.state.orders.all()).terms.order_id, "forced")
    return data_dir


def every_kind() -> list[order_pb2.OrderUpdate]:
    """Orders that stay open, of every kind that can."""
    far = {"time_in_force": order_pb2.TIME_IN_FORCE_GTD, "expire_time": {"seconds": 4_000_000_000}}
    day = {"time_in_force": order_pb2.TIME_IN_FORCE_DAY}
    return [
        limit("a", BUY, "5", "1", client_order_id="named"),
        limit("a", BUY, "5", "1", display_qty="0.3", **far),
        limit("b", BUY, "5", "2", **day),
        stop("b", BUY, "900", qty="1"),
        stop("b", BUY, "900", quote_qty="33"),
        stop("c", SELL, "3", qty="1", price="2.5", **far),
        stop("c", SELL, "3", qty="1", price="2.5", **day),
    ]


def send(client: EngineClient, requests: list) -> None:
    for start in range(0, len(requests), 50):
        client.submit(*requests[start : start + 50])


@pytest.fixture(scope="session")
def open_kinds(lived: Path) -> set[tuple[OrderType, TimeInForce]]:
    """Which kinds of orders are open at the end of the life."""
    state = state_at(SegmentReader.open(lived / LEDGER_FOLDER))
    return {(order.terms.order_type, order.terms.time_in_force) for order in state.orders.all()}


@pytest.fixture
def data_dir(lived: Path, tmp_path: Path) -> Path:
    """A copy of the life that the test may change."""
    return Path(shutil.copytree(lived, tmp_path / "engine"))


@pytest.fixture
def snapshots(data_dir: Path) -> Path:
    """The folder of the copy's snapshots."""
    return data_dir / SNAPSHOTS_FOLDER
