"""`ordertape demo` end to end: a minute of the recording through two real processes, with its proof; and that the proof finds
what is wrong.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_history_pb2_grpc
from services.cli.client import Engine, History
from services.cli.demo.command import CALL_SECONDS, PATIENCE_SECONDS, SYMBOL, _wait_until_stored, run
from services.cli.demo.flow import Cancel, Flow, Place, flow_of
from services.cli.demo.recording import OrderRow, Recording, TradeRow, cache_folder, cached_wheel
from services.cli.demo.replay import Sending
from services.cli.failures import Failure
from services.cli.processes import EXCHANGE_CONFIG, Listen, LocalExchange
from tests.cli.conftest import Run


@pytest.fixture(scope="module")
def exchange() -> Iterator[LocalExchange]:
    with LocalExchange(None, Listen(), EXCHANGE_CONFIG, lambda _name, _line: None) as local:
        yield local


def test_a_minute_of_the_recording_comes_out_as_the_venue_made_it(tmp_path: Path) -> None:
    try:
        cached_wheel(cache_folder())
    except Failure as failure:
        pytest.skip(f"the recording cannot be fetched here: {failure}")
    command = (sys.executable, "-m", "services.cli", "demo", "--minutes", "1", "-o", "json", "--data-dir", str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["trades"] == "21 of 21"
    assert (report["orders"], report["ordersStored"]) == (10_722, 10_722)
    assert report["updatesStored"] == 10_722 + 599 + 2 * 21
    assert {check["name"]: check["equal"] for check in report["checks"]}["post-only orders refused"] == 3_604


def small_flow() -> Flow:
    """Two orders that trade, one that is refused, one that is cancelled, one that stays: made from rows like the venue's."""

    def row(venue_id: str, price: str, volume: str, action: str, direction: str) -> OrderRow:
        return OrderRow(venue_id, 0, price, volume, action, direction)

    live = [
        row("1", "99", "5", "created", "bid"),
        row("2", "101", "1.5", "created", "ask"),
        row("3", "101", "1", "created", "bid"),
        row("3", "101", "0", "deleted", "bid"),
        row("4", "101", "7", "created", "bid"),
        row("4", "101", "7", "deleted", "bid"),
        row("5", "98", "2", "created", "bid"),
        row("5", "98", "2", "deleted", "bid"),
    ]
    return flow_of(Recording([], live, [], [TradeRow("3", "2", "buy", "101", "1")]))


def replayed(exchange: LocalExchange, flow: Flow) -> dict[str, list[str]]:
    """Sends the flow; returns the differences of each check that found any."""
    with (
        Engine(exchange.engine_address, CALL_SECONDS, PATIENCE_SECONDS) as engine,
        History(exchange.history_address, CALL_SECONDS, PATIENCE_SECONDS) as history,
    ):
        report = run(engine, history, flow, Sending(SYMBOL, items_per_message=3))
    return {check["name"]: check["differences"] for check in report["checks"] if not check["ok"]}


def test_a_flow_that_is_sent_twice_is_booked_once_and_proved_twice(exchange: LocalExchange) -> None:
    assert replayed(exchange, small_flow()) == {}
    assert replayed(exchange, small_flow()) == {}


def test_the_proof_names_what_differs(exchange: LocalExchange) -> None:
    """The same orders once more, held against a venue that says something else."""
    flow = small_flow()
    flow.items = [
        replace(item, remaining=item.remaining - 1) if isinstance(item, Cancel) else replace(item, refused=False)
        for item in flow.items
    ]
    flow.trades = [replace(flow.trades[0], sell_id="9")]
    flow.open_orders["1"] = replace(flow.open_orders["1"], leaves=flow.open_orders["1"].leaves + 1)
    found = replayed(exchange, flow)
    assert found["remaining size at cancel"] == ["5: expected 1, got 2"]
    assert found["other orders accepted"] == ["4: expected accepted, got REJECT_REASON_POST_ONLY_WOULD_TAKE"]
    assert "('3', '9'" in found["trades"][0]
    assert found["orders in the book"] == ["1: expected ('bids', '99', '6'), got ('bids', '99', '5')"]
    assert len(found["book levels"]) == 1
    assert "4: expected ORDER_STATUS_FILLED, got ORDER_STATUS_REJECTED" in found["final status of each order"]


def test_orders_that_the_venue_does_not_know_are_found(exchange: LocalExchange) -> None:
    flow = small_flow()
    extra = Place("extra", 0, True, "97", "1", None, post_only=True, refused=False)
    sent = replace_items(flow, [*flow.items, extra])
    assert replayed(exchange, sent).keys() >= {"final status of each order", "orders in the book"}
    assert replayed(exchange, flow).keys() >= {"orders stored", "updates stored", "orders in the book"}


def replace_items(flow: Flow, items: list[Place | Cancel]) -> Flow:
    return Flow(items, flow.trades, flow.open_orders, flow.left_out)


def test_an_instrument_that_does_not_fit_is_refused_before_anything_is_sent(exchange: LocalExchange) -> None:
    with Engine(exchange.engine_address, 5) as engine, History(exchange.history_address, 5) as history:
        with pytest.raises(Failure, match=r"notional_min 1, not 0, maker_fee_rate 0\.001, not 0"):
            run(engine, history, small_flow(), Sending("BTC-USD"))
        with pytest.raises(Failure, match="does not exist"):
            run(engine, history, small_flow(), Sending("NO-SUCH"))


class SlowHistory:
    """A history that is asked for a position in vain, until it has come there in these steps."""

    orders = order_history_pb2_grpc.OrderHistoryStub(grpc.insecure_channel("127.0.0.1:1"))

    def __init__(self, *steps: int) -> None:
        self.steps = list(steps)

    def call(self, _method: object, request: history_pb2.GetHistoryStatusRequest) -> history_pb2.GetHistoryStatusResponse:
        if request.at_least and self.steps:
            raise Failure(78, "not yet")
        return history_pb2.GetHistoryStatusResponse(applied_sequence=self.steps.pop(0) if self.steps else 0, store="scylla")


def test_a_history_that_is_behind_is_waited_for_as_long_as_it_comes_nearer() -> None:
    assert _wait_until_stored(SlowHistory(0, 10, 20), "position") == "scylla"  # type: ignore[arg-type]
    with pytest.raises(Failure, match="not yet"):
        _wait_until_stored(SlowHistory(0, 10, 10, 20), "position")  # type: ignore[arg-type]


def test_one_address_without_the_other_is_wrong_usage(ordertape: Run) -> None:
    assert ordertape("demo", "--engine", "127.0.0.1:1").exit_code == 2


def test_a_wheel_that_is_not_the_known_one_is_refused(ordertape: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERTAPE_CACHE", str(tmp_path))
    (tmp_path / "ob_analytics-0.1.0-py3-none-any.whl").write_bytes(b"something else")
    result = ordertape("demo")
    assert result.exit_code == 5
    assert "delete it and try again" in result.stderr
