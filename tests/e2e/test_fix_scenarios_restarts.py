"""FIX Appendix D, scenarios H.1: an order good till cancelled is carried over to the next day. Both services are killed and
started again in between, as the processes that they are, while the client goes on watching.
"""

from collections.abc import Iterator

import pytest

from tests.support.engine_client import BUY, SELL, limit
from tests.support.engine_process import verify_ledger
from tests.support.exchange_process import Exchange
from tests.support.timelines import Scenes, Trader


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with Exchange(tmp_path_factory.mktemp("carried-over")) as exchange:
        yield exchange


@pytest.fixture
def scenes(running: Exchange) -> Iterator[Scenes]:
    """Afterwards the ledger is as its requests make it."""
    with Scenes(running.engine_address, running.history_address) as scenes:
        yield scenes
    code, said = verify_ledger(running.engine_folder)
    assert code == 0, said


def next_day(running: Exchange, scenes: Scenes) -> None:
    running.kill()
    running.start()
    scenes.connect()


def carried_over(running: Exchange, scenes: Scenes) -> tuple[Trader, Trader, int]:
    """Two users, and the order of the first: of 10, 2 are filled on the first day."""
    a, b = scenes.trader("a"), scenes.trader("b")
    order = a.place(limit, SELL, "300", "10")
    b.place(limit, BUY, "300", "2")
    next_day(running, scenes)
    a.assert_life(order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8")
    return a, b, order


def test_h_1_a_the_order_is_filled_on_the_next_day(running: Exchange, scenes: Scenes) -> None:
    a, b, order = carried_over(running, scenes)
    bid = b.place(limit, BUY, "300", "8")
    a.assert_life(order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8", "* TRADE FILLED 10 0")
    b.assert_life(bid, "NEW NEW 0 8", "TRADE FILLED 8 0")


def test_h_1_c_the_order_is_cancelled_on_the_next_day(running: Exchange, scenes: Scenes) -> None:
    a, _, order = carried_over(running, scenes)
    a.cancel(order)
    lines = "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8", "CANCELLED CANCELLED 2 0 USER"
    a.assert_life(order, *lines)
    next_day(running, scenes)
    a.assert_life(order, *lines)


def test_h_1_d_the_orders_qty_goes_up_on_the_next_day(running: Exchange, scenes: Scenes) -> None:
    a, b, order = carried_over(running, scenes)
    a.replace(order, qty="12")
    next_day(running, scenes)
    b.place(limit, BUY, "300", "10")
    a.assert_life(order, "NEW NEW 0 10", "* TRADE PARTIALLY_FILLED 2 8", "REPLACED PARTIALLY_FILLED 2 10", "* TRADE FILLED 12 0")
