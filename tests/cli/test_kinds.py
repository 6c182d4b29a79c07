"""Every kind of order, every change and every control of the operator through the command, against real services."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.support.eventually import eventually
from tests.support.exchange_process import Exchange

ENDS_ON_2100_01_01 = ("--expire-time", "2100-01-01")


class Cli:
    """The command against one exchange; each test trades on its own users and leaves an empty book behind."""

    def __init__(self, run: Run, exchange: Exchange) -> None:
        self._run = run
        self._to = {"engine": ("--engine", exchange.engine_address), "history": ("--history", exchange.history_address)}

    def run(self, service: str, *arguments: str, exit_code: int = 0) -> str:
        """What the command prints; all of its output where it ends otherwise than it must."""
        result = self._run(*arguments, *self._to[service])
        assert result.exit_code == exit_code, result.output
        return result.output

    def engine(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        """The answer of a command that reaches the engine."""
        answer: dict[str, Any] = json.loads(self.run("engine", *arguments, "-o", "json", exit_code=exit_code))
        return answer

    def place(self, user: str, *arguments: str, symbol: str = "BTC-USD", exit_code: int = 0) -> dict[str, Any]:
        """The last update of a new order."""
        answer = self.engine("place", symbol, *arguments, "--user", user, exit_code=exit_code)
        update: dict[str, Any] = answer["updates"][-1]
        return update

    def order(self, user: str, name: str) -> dict[str, Any]:
        """The order and its updates as the history tells them."""
        at_least = ("--at-least", self.position)
        found: dict[str, Any] = json.loads(self.run("history", "order", name, "--user", user, *at_least, "-o", "json"))
        return found

    @property
    def position(self) -> str:
        """The position of all that was answered so far."""
        position: str = self.engine("instruments")["position"]
        return position

    def give(self, *users: str) -> None:
        for user in users:
            for asset, amount in (("USD", "1000000"), ("BTC", "100"), ("ETH", "100")):
                self.engine("deposit", asset, amount, "--user", user)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with Exchange(tmp_path_factory.mktemp("exchange")) as running:
        yield running


@pytest.fixture
def cli(ordertape: Run, exchange: Exchange, request: pytest.FixtureRequest) -> Iterator[Cli]:
    cli = Cli(ordertape, exchange)
    cli.give("alice", "bob")
    yield cli
    for user in ("alice", "bob"):
        cli.engine("cancel-all", "--user", user)


@pytest.mark.parametrize(
    ("options", "order_type", "time_in_force"),
    [
        (("1", "--price", "100"), "LIMIT", "GTC"),
        (("1", "--price", "100", "--tif", "day"), "LIMIT", "DAY"),
        (("1", "--price", "100", *ENDS_ON_2100_01_01), "LIMIT", "GTD"),
        (("1", "--price", "100", "--good-for", "1h30m"), "LIMIT", "GTD"),
        (("1", "--stop-price", "200"), "STOP", "GTC"),
        (("--quote-qty", "50", "--stop-price", "200", "--tif", "day"), "STOP", "DAY"),
        (("1", "--stop-price", "200", "--price", "201"), "STOP_LIMIT", "GTC"),
        (("1", "--stop-price", "200", "--price", "201", *ENDS_ON_2100_01_01, "--tif", "gtd"), "STOP_LIMIT", "GTD"),
        (("1", "--type", "stop-limit", "--stop-price", "200", "--price", "201"), "STOP_LIMIT", "GTC"),
    ],
)
def test_the_options_say_what_kind_of_order_it_is(
    cli: Cli, options: tuple[str, ...], order_type: str, time_in_force: str
) -> None:
    update = cli.place("alice", "buy", *options)
    assert update["orderType"] == f"ORDER_TYPE_{order_type}"
    assert update["timeInForce"] == f"TIME_IN_FORCE_{time_in_force}"
    assert update["status"] == "ORDER_STATUS_NEW"
    assert ("expireTime" in update) == (time_in_force in {"GTD", "DAY"})
    if ENDS_ON_2100_01_01[0] in options:
        assert update["expireTime"] == "2100-01-01T00:00:00Z"


def test_a_market_order_needs_no_price(cli: Cli) -> None:
    cli.place("bob", "sell", "1", "--price", "100")
    update = cli.place("alice", "buy", "1")
    assert (update["orderType"], update["timeInForce"]) == ("ORDER_TYPE_MARKET", "TIME_IN_FORCE_IOC")
    assert update["status"] == "ORDER_STATUS_FILLED"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("1", "--price", "100", "--tif", "gtd"), "expire_time"),
        (("1", "--price", "100", "--tif", "ioc", *ENDS_ON_2100_01_01), "expire_time"),
        (("1", "--stop-price", "200", "--tif", "fok"), "time_in_force"),
        (("1", "--display-qty", "0.1"), "display_qty"),
        (("1", "--type", "stop"), "stop_price"),
    ],
)
def test_what_does_not_go_together_is_said_by_the_engine_with_67(cli: Cli, options: tuple[str, ...], field: str) -> None:
    said = cli.run("engine", "place", "BTC-USD", "buy", *options, "--user", "alice", exit_code=67)
    assert f"\n  {field}: " in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--good-for", "1h", *ENDS_ON_2100_01_01), "--expire-time and --good-for"),
        (("--good-for", "soon"), "--good-for takes a duration"),
        (("--good-for", "0s"), "--good-for takes a duration"),
        (("--good-for", "999999999d"), "--good-for takes a duration"),
        (("--expire-time", "tomorrow"), "--expire-time takes a time"),
        (("--stp", "sometimes"), "--stp"),
    ],
)
def test_what_cannot_be_understood_is_wrong_usage(ordertape: Run, options: tuple[str, ...], words: str) -> None:
    result = ordertape("place", "BTC-USD", "buy", "1", "--price", "100", "--user", "alice", *options)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_failed_place_with_a_duration_says_the_end_that_a_repeat_needs(ordertape: Run) -> None:
    options = ("--good-for", "7d", "-c", "mine", "--engine", "127.0.0.1:1", "--timeout", "0.2")
    result = ordertape("place", "BTC-USD", "buy", "1", "--price", "100", "--user", "alice", *options)
    assert result.exit_code >= 64
    assert "sent with --client-order-id mine\n  and with --expire-time 20" in result.stderr


def test_a_stop_waits_is_triggered_and_tells_its_life(cli: Cli) -> None:
    stop = cli.place("alice", "sell", "1", "--stop-price", "90", "-c", "stop")
    cli.place("bob", "buy", "2", "--price", "90")
    cli.place("alice", "sell", "0.5", "--price", "90")
    told = cli.order("alice", stop["orderId"])
    assert [step["execType"] for step in told["updates"]] == ["EXEC_TYPE_NEW", "EXEC_TYPE_TRIGGERED", "EXEC_TYPE_TRADE"]
    table = cli.run("history", "order", "stop", "--user", "alice")
    assert "triggeredAt" in table
    assert "stopPrice" in next(line for line in table.splitlines() if line.startswith("updateNumber  timestamp"))
    listed = cli.run("history", "history", "--user", "alice", "--limit", "2")
    assert "STOP" in listed
    assert "triggeredAt" in listed


def test_an_iceberg_shows_a_part_of_itself(cli: Cli) -> None:
    placed = cli.place("alice", "sell", "20", "--price", "300", "--display-qty", "1.5")
    assert (placed["displayQty"], placed["visibleQty"]) == ("1.5", "1.5")
    (level,) = cli.engine("book", "BTC-USD")["levels"]
    assert level["qty"] == "1.5"
    assert "displayQty" in cli.run("history", "orders", "--user", "alice", "--at-least", cli.position)


def test_an_order_that_is_good_for_a_second_expires_by_itself_with_its_reason(cli: Cli) -> None:
    placed = cli.place("alice", "buy", "1", "--price", "10", "--good-for", "1s")
    eventually(lambda: cli.order("alice", placed["orderId"])["order"]["status"] == "ORDER_STATUS_EXPIRED")
    (line, *_) = cli.run("history", "history", "--user", "alice", "--fields", "reason", "-o", "jsonl").splitlines()
    assert json.loads(line) == {"reason": "EXPIRE_REASON_GTD_REACHED"}
    assert "GTD_REACHED" in cli.run("history", "history", "--user", "alice", "-n", "1")


@pytest.mark.parametrize(
    ("mode", "maker", "taker"),
    [
        ("none", "FILLED", "FILLED"),
        ("cancel-taker", "NEW", "CANCELLED"),
        ("cancel-maker", "CANCELLED", "NEW"),
        ("cancel-both", "CANCELLED", "CANCELLED"),
    ],
)
def test_own_orders_meet_as_the_taker_wants_it(cli: Cli, mode: str, maker: str, taker: str) -> None:
    rests = cli.place("alice", "sell", "1", "--price", "100")
    takes = cli.place("alice", "buy", "1", "--price", "100", "--stp", mode)
    assert takes["status"] == f"ORDER_STATUS_{taker}"
    assert cli.order("alice", rests["orderId"])["order"]["status"] == f"ORDER_STATUS_{maker}"


def test_a_replace_changes_what_is_given_and_counts_the_version(cli: Cli) -> None:
    placed = cli.place("alice", "buy", "1", "--price", "100")
    (replaced,) = cli.engine("replace", placed["orderId"], "--price", "101", "--qty", "2", "--user", "alice")["updates"]
    assert (replaced["price"], replaced["qty"], replaced["version"]) == ("101", "2", "2")
    assert replaced["execType"] == "EXEC_TYPE_REPLACED"
    again = ("--qty", "3", "--expected-version", "2", "--request-id", f"up-{placed['orderId']}", "--user", "alice")
    assert not cli.engine("replace", placed["orderId"], *again)["replayed"]
    assert cli.engine("replace", placed["orderId"], *again)["replayed"], "the same key gets the first answer"
    stop = cli.place("alice", "buy", "1", "--stop-price", "200", "-c", f"stop-{placed['orderId']}")
    (moved,) = cli.engine("replace", stop["clientOrderId"], "--stop-price", "210", "--user", "alice")["updates"]
    assert moved["stopPrice"] == "210"


@pytest.mark.parametrize(
    ("options", "exit_code", "words"),
    [
        (("--price", "100"), 73, "changes nothing"),
        (("--display-qty", "1"), 73, "display_qty cannot be replaced"),
        (("--price", "99", "--expected-version", "7"), 74, "expected_version is 7"),
        ((), 67, "at least one of"),
    ],
)
def test_a_replace_that_is_refused_says_why(cli: Cli, options: tuple[str, ...], exit_code: int, words: str) -> None:
    placed = cli.place("alice", "buy", "1", "--price", "100")
    said = cli.run("engine", "replace", placed["orderId"], *options, "--user", "alice", exit_code=exit_code)
    assert words in said
    assert "sent with --request-id cli-" in said


def test_a_replace_of_an_unknown_or_closed_order_has_the_exit_code_of_a_cancel(cli: Cli) -> None:
    cli.run("engine", "replace", "999999", "--price", "1", "--user", "alice", exit_code=69)
    placed = cli.place("alice", "buy", "1", "--price", "100")
    cli.engine("cancel", placed["orderId"], "--user", "alice")
    said = cli.run("engine", "replace", placed["orderId"], "--price", "1", "--user", "alice", exit_code=73)
    assert "too late" in said


def test_cancel_all_counts_first_and_ends_what_its_filter_names(cli: Cli) -> None:
    cli.place("alice", "buy", "1", "--price", "100")
    cli.place("alice", "sell", "1", "--price", "200")
    cli.place("alice", "buy", "1", "--price", "100", symbol="ETH-USD")
    everything = ("cancel-all", "--user", "alice")
    counted = cli.engine(*everything, "--dry-run")
    assert (counted["cancelledCount"], counted["dryRun"]) == ("3", True)
    assert cli.engine(*everything, "--symbol", "BTC-USD", "--side", "sell")["cancelledCount"] == "1"
    assert cli.engine(*everything, "--symbol", "ETH-USD", "--symbol", "BTC-USD", "--dry-run")["cancelledCount"] == "2"
    ended = cli.engine(*everything, "--request-id", "all-of-alices")
    assert (ended["cancelledCount"], ended["replayed"]) == ("2", False)
    assert cli.engine(*everything, "--request-id", "all-of-alices")["replayed"]
    at_least = ("--at-least", ended["position"], "-n", "1")
    assert "MASS_CANCEL" in cli.run("history", "history", "--user", "alice", *at_least)
    assert ["cancelledCount", "0"] in [line.split() for line in cli.run("engine", *everything).splitlines()]


def test_a_halted_instrument_refuses_orders_until_it_is_resumed(cli: Cli) -> None:
    rests = cli.place("alice", "buy", "1", "--price", "100")
    halted = cli.engine("halt", "BTC-USD", "--reason", "news", "--request-id", "halt-1")
    assert halted["tradingStatus"] == "TRADING_STATUS_HALTED"
    refused = cli.place("alice", "buy", "1", "--price", "100", exit_code=3)
    assert refused["rejectReason"] == "REJECT_REASON_SYMBOL_HALTED"
    assert "tradingStatus HALTED" in cli.run("engine", "book", "BTC-USD")
    assert "SYMBOL_HALTED" in cli.run("engine", "place", "BTC-USD", "buy", "1", "-p", "9", "-u", "alice", exit_code=3)
    cli.engine("cancel", rests["orderId"], "--user", "alice")
    assert cli.engine("halt", "BTC-USD", "--reason", "news", "--request-id", "halt-1")["replayed"]
    assert cli.engine("resume", "BTC-USD")["tradingStatus"] == "TRADING_STATUS_TRADING"
    cli.place("alice", "buy", "1", "--price", "100")
    cli.run("engine", "halt", "NO-SUCH", exit_code=69)
    cli.run("engine", "resume", "BTC-USD", "--request-id", "halt-1", exit_code=70)


def test_a_suspended_user_is_refused_and_loses_the_open_orders_if_told_so(cli: Cli) -> None:
    cli.give("mallory")
    kept = cli.place("mallory", "buy", "1", "--price", "100")
    assert cli.engine("suspend", "mallory")["userStatus"] == "USER_STATUS_SUSPENDED"
    assert cli.place("mallory", "buy", "1", "--price", "100", exit_code=3)["rejectReason"] == "REJECT_REASON_USER_SUSPENDED"
    assert cli.engine("cancel-all", "--user", "mallory", "--dry-run")["cancelledCount"] == "1"
    position = cli.engine("suspend", "mallory", "--cancel-orders", "--reason", "fraud")["position"]
    shown = cli.run("history", "order", kept["orderId"], "--user", "mallory", "--at-least", position)
    assert "OPERATOR" in shown
    assert "fraud" in shown
    assert cli.engine("readmit", "mallory")["userStatus"] == "USER_STATUS_ACTIVE"
    ended = cli.place("mallory", "buy", "1", "--price", "100")
    cli.engine("cancel", ended["orderId"], "--user", "mallory")


def test_an_operator_cancels_anybodys_order_once(cli: Cli) -> None:
    placed = cli.place("alice", "buy", "1", "--price", "100")
    (ended,) = cli.engine("force-cancel", placed["orderId"], "--reason", "erroneous")["updates"]
    assert (ended["cancelReason"], ended["reasonText"]) == ("CANCEL_REASON_OPERATOR", "erroneous")
    cli.run("engine", "force-cancel", placed["orderId"], exit_code=73)
    cli.run("engine", "force-cancel", "999999", exit_code=69)
    cli.run("engine", "force-cancel", "0", exit_code=2)


def test_an_instruments_rules_are_changed_one_by_one_while_it_trades(cli: Cli) -> None:
    before = _instrument(cli, "ETH-USD")
    cli.place("bob", "sell", "1", "--price", "100", symbol="ETH-USD")
    cli.place("alice", "buy", "1", symbol="ETH-USD")
    changed = cli.engine("set-instrument", "ETH-USD", "--price-band-rate", "0.1", "--notional-min", "5")["instrument"]
    assert changed == {**before, "priceBandRate": "0.1", "notionalMin": "5"}
    refused = cli.place("alice", "buy", "1", "--price", "89", symbol="ETH-USD", exit_code=3)
    assert refused["rejectReason"] == "REJECT_REASON_PRICE_OUTSIDE_BAND"
    assert "priceBandRate" in cli.run("engine", "instruments")
    cli.engine("set-instrument", "ETH-USD", "--no-price-band", "--notional-min", "1")
    assert _instrument(cli, "ETH-USD") == before
    cli.run("engine", "set-instrument", "ETH-USD", "--price-decimals", "3", exit_code=73)
    cli.run("engine", "set-instrument", "ETH-USD", "--price-step", "1e-2", exit_code=67)
    cli.run("engine", "set-instrument", "ETH-USD", "--no-price-band", "--price-band-rate", "1", exit_code=2)


def test_a_new_instrument_comes_from_a_file_and_options_win(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    rules = (
        'base_asset = "SOL"\nquote_asset = "USD"\nbase_asset_decimals = 8\nquote_asset_decimals = 10\nprice_decimals = 2\n'
        'qty_decimals = 4\nprice_step = "0.01"\nqty_step = "0.1"\nprice_min = "0.01"\nprice_max = "1000"\nqty_min = "0.1"\n'
        'qty_max = "100"\n'
    )
    file.write_text(f'[[instruments]]\nsymbol = "SOL-USD"\n{rules}')
    made = cli.engine("set-instrument", "SOL-USD", "--file", str(file), "--qty-max", "50")["instrument"]
    assert (made["qtyMax"], made["priceMax"], made["makerFeeRate"]) == ("50", "1000", "0")
    cli.place("alice", "buy", "1", "--price", "10", symbol="SOL-USD")
    assert "needs --base-asset-decimals" in cli.run("engine", "set-instrument", "X-USD", "--qty-step", "1", exit_code=2)
    assert "no [[instruments]]" in cli.run("engine", "set-instrument", "X-USD", "--file", str(file), exit_code=2)
    for broken in (rules.replace('"0.1"', "0.1"), rules + "colour = 3\n", "symbol ="):
        file.write_text(f'[[instruments]]\nsymbol = "SOL-USD"\n{broken}')
        said = cli.run("engine", "set-instrument", "SOL-USD", "--file", str(file), exit_code=2)
        assert "is no file of instruments" in said


def _instrument(cli: Cli, symbol: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in cli.engine("instruments")["instruments"] if one["symbol"] == symbol)
    return found
