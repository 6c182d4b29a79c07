"""`ordertape conform` passes servers that keep the contract, and names just the promise that a wrong one breaks."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ordertape.v1 import instrument_pb2, order_pb2
from ordertape.v1 import matching_engine_pb2 as engine_pb2
from services.cli.conformance.kit import CHECKS
from services.cli.conformance.stage import STEPS_MAX, grid_of
from services.cli.failures import Failure
from tests.cli.conftest import Run
from tests.support.engine_client import EngineClient, limit
from tests.support.exchange_process import Exchange
from tests.support.meddling_proxy import Meddle, MeddlingProxy


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with Exchange(tmp_path_factory.mktemp("exchange")) as exchange:
        yield exchange


def conform(ordertape: Run, engine: str, history: str, *more: str) -> tuple[int, dict[str, Any]]:
    result = ordertape("conform", "--engine", engine, "--history", history, "-o", "json", *more)
    assert result.stdout, result.stderr
    return result.exit_code, json.loads(result.stdout)


def test_our_services_keep_every_promise(ordertape: Run, exchange: Exchange) -> None:
    code, said = conform(ordertape, exchange.engine_address, exchange.history_address)
    assert [check for check in said["checks"] if check["result"] != "passed"] == []
    assert (code, said["passed"], said["failed"]) == (0, len(CHECKS), 0)
    assert len(CHECKS) >= 45


def test_an_exchange_that_is_in_use_is_left_as_it_was(ordertape: Run, exchange: Exchange) -> None:
    with EngineClient(exchange.engine_address) as client:
        client.fund("dora", USD="100000", ETH="10")
        for side, price in ((order_pb2.SIDE_BUY, "2500"), (order_pb2.SIDE_SELL, "2510")):
            client.place(limit("dora", side, price, "1", symbol="ETH-USD"))
        before = client.book("ETH-USD"), client.balances("dora")
        code, said = conform(ordertape, exchange.engine_address, exchange.history_address, "--symbol", "ETH-USD")
        assert (code, said["failed"]) == (0, 0), said
        after = client.book("ETH-USD"), client.balances("dora")
    assert (before[0].bids, before[0].asks, before[1]) == (after[0].bids, after[0].asks, after[1])


def test_the_table_says_what_was_expected_and_what_was_seen(ordertape: Run, exchange: Exchange) -> None:
    with MeddlingProxy(exchange.engine_address, exchange.history_address, WRONG["never replays a deposit"][0]) as wrong:
        result = ordertape("conform", "--engine", wrong.address, "--history", wrong.address)
    assert result.exit_code == 1
    line = next(line for line in result.stdout.splitlines() if "FAILED" in line)
    assert "a deposit is made once" in line
    assert "a retry never does a thing twice" in line
    assert "replayed, first and again: (False, True)  (False, False)" in line
    assert f"passed {len(CHECKS) - 1}" in result.stdout


def never_replays(answer: Any) -> Any:
    answer.replayed = False
    return answer


def says_it_twice(message: Any) -> Any:
    if message.HasField("updates"):
        message.updates.updates.extend(list(message.updates.updates))
    return message


def gives_away_a_bit(answer: Any) -> Any:
    for balance in answer.balances:
        if balance.asset == "BTC" and "." in balance.available:
            balance.available += "1"
    return answer


def leaves_out_the_last_fill(answer: Any) -> Any:
    if len(answer.fills) > 1:
        del answer.fills[-1]
    return answer


def forgets_the_last_position(message: Any) -> Any:
    message.until = message.until + "0"
    return message


def flips_the_hash(answer: Any) -> Any:
    if answer.HasField("hash"):
        answer.hash = bytes(32)
    return answer


WRONG: dict[str, tuple[dict[str, Meddle], list[str]]] = {
    "never replays a deposit": ({"Operator/Deposit": never_replays}, ["a deposit is made once"]),
    "never replays a place": (
        {"MatchingEngine/PlaceOrder": never_replays},
        ["a place that is sent again is answered again"],
    ),
    "tells a watch everything twice": (
        {"OrderHistory/WatchOrders": says_it_twice},
        ["a watch begins with what is open", "a watch resumes after any position"],
    ),
    "gives money away": ({"Accounts/ListBalances": gives_away_a_bit}, ["a trade moves money exactly"]),
    "leaves out a fill": ({"OrderHistory/ListFills": leaves_out_the_last_fill}, ["every fill is listed"]),
    "ends an export elsewhere": (
        {"OrderHistory/ExportOrderHistory": forgets_the_last_position},
        ["an export is everything up to its end"],
    ),
    "tells another hash": ({"LedgerFeed/GetLedgerStatus": flips_the_hash}, ["the ledger is a chain"]),
    "hands everything on": ({}, []),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_server_that_is_wrong_in_one_way_fails_where_that_is_checked(ordertape: Run, exchange: Exchange, wrong: str) -> None:
    meddle, failing = WRONG[wrong]
    with MeddlingProxy(exchange.engine_address, exchange.history_address, meddle) as proxy:
        code, said = conform(ordertape, proxy.address, proxy.address)
    failed = {check["check"]: (check["expected"], check["seen"]) for check in said["checks"] if check["result"] == "FAILED"}
    assert list(failed) == failing, failed
    assert code == (1 if failing else 0)
    assert all(expected and seen and expected != seen for expected, seen in failed.values())


def test_a_symbol_that_is_not_there_is_wrong_usage(ordertape: Run, exchange: Exchange) -> None:
    where = ("--engine", exchange.engine_address, "--history", exchange.history_address)
    result = ordertape("conform", *where, "--symbol", "NO-SUCH")
    assert result.exit_code == 2
    assert "there is no instrument NO-SUCH; there are: BTC-USD," in result.stderr


def test_nobody_there_is_said_at_once(ordertape: Run) -> None:
    result = ordertape("conform", "--engine", "127.0.0.1:1", "--history", "127.0.0.1:1")
    assert result.exit_code == 78


RULES = instrument_pb2.Instrument(
    symbol="X-Y",
    price_step="0.5",
    qty_step="0.1",
    price_min="0.5",
    price_max="1000",
    qty_min="0.1",
    qty_max="100",
    notional_min="10",
)


@pytest.mark.parametrize(
    ("bid", "ask", "last", "middle"),
    [
        (None, None, None, "100"),
        (None, None, "42.5", "42.5"),
        ("50", None, None, "52.5"),
        (None, "50", None, "47.5"),
        ("50", "61", "1", "55.5"),
    ],
)
def test_prices_are_between_the_best_of_the_book(bid: str | None, ask: str | None, last: str | None, middle: str) -> None:
    grid = grid_of(RULES, _book(bid, ask, last))
    assert grid.price(0) == middle
    assert bid is None or float(grid.price(-STEPS_MAX)) > float(bid)
    assert ask is None or float(grid.price(STEPS_MAX)) < float(ask)
    assert float(grid.qty(1)) * float(grid.price(-STEPS_MAX)) >= 10


@pytest.mark.parametrize(("bid", "ask"), [("50", "54"), ("999", None), (None, "2")])
def test_a_book_without_room_is_refused(bid: str | None, ask: str | None) -> None:
    with pytest.raises(Failure, match="no room between its best prices"):
        grid_of(RULES, _book(bid, ask, None))


def _book(bid: str | None, ask: str | None, last: str | None) -> engine_pb2.GetOrderBookResponse:
    level = lambda price: [] if price is None else [engine_pb2.BookLevel(price=price, qty="1", order_count=1)]  # noqa: E731
    return engine_pb2.GetOrderBookResponse(bids=level(bid), asks=level(ask), last_trade_price=last)
