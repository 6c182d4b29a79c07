"""`ordertape demo`: fetches the recording, sends its flow through the services, and prints the proof."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.failures import DIFFERS, USAGE, Failure
from services.cli.options import Format, Store
from services.cli.output import Output, print_json, print_table

if TYPE_CHECKING:
    from services.cli.client import Engine, History
    from services.cli.demo.checks import Check
    from services.cli.demo.flow import Flow
    from services.cli.demo.replay import Replay, Sending

SYMBOL = "BTC-USD.REPLAY"
PATIENCE_SECONDS = 60.0
CALL_SECONDS = 30.0
ITEMS_PER_MESSAGE = 100
# More than all orders of the recording together could hold (8.3e8 USD and 5 200 BTC), and far below the limit of 10^18.
FUNDS = {("bids", "USD"): Decimal(10**12), ("asks", "BTC"): Decimal(10**6)}


def demo(
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.01, help="Only the first so many minutes.", show_default="all 30")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option("--speed", min=0.01, help="Times real time.", show_default="as fast as it goes"),
    ] = None,
    items: Annotated[
        int, typer.Option("--items", min=1, max=500, help="At most so many orders and cancels a message.")
    ] = ITEMS_PER_MESSAGE,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Keep the files of the services that it starts here.")
    ] = None,
    engine: Annotated[str | None, typer.Option("--engine", metavar="HOST:PORT", help="Use a running engine ...")] = None,
    history: Annotated[str | None, typer.Option("--history", metavar="HOST:PORT", help="... and its running history.")] = None,
    symbol: Annotated[
        str,
        typer.Option("--symbol", help="An instrument without fees or least notional, prices in 0.01, quantities in 0.00000001."),
    ] = SYMBOL,
    store: Store = None,
    patience: Annotated[
        float, typer.Option("--patience", metavar="SECONDS", min=0, help="How long to wait for a service that is away.")
    ] = PATIENCE_SECONDS,
    output: Format = Output.TABLE,
) -> None:
    """Replay half an hour of a real exchange's order flow and prove that what came out equals what the exchange recorded.

    The recording (Bitstamp BTC/USD) is fetched from the Python package index once and cached. Both services are started for it
    and stopped again, unless --engine and --history name running ones. Running it again on the same ledger sends the same
    orders under the same ids: nothing is booked twice. Exit code 1 where anything differs.
    """
    from services.cli.demo.flow import flow_of
    from services.cli.demo.recording import fetch
    from services.cli.demo.replay import Sending
    from services.cli.processes import Interrupts

    if (engine is None) is not (history is None):
        raise Failure(USAGE, "--engine and --history go together: the history must be that engine's")
    if engine is not None and (data_dir is not None or store is not None):
        option = "--data-dir" if data_dir is not None else "--store"
        raise Failure(USAGE, f"{option} is for the services that the demo starts itself: leave out --engine and --history")
    flow = flow_of(fetch(), minutes)
    with Interrupts(), _services(engine, history, data_dir, store, patience) as (engine_service, history_service, require_alive):
        sending = Sending(symbol, items, speed, patience, require_alive)
        report = run(engine_service, history_service, flow, sending)
    report = {"source": "ob-analytics 0.1.0, Bitstamp BTC/USD 2026-05-02", "minutes": minutes, **report}
    if output is Output.TABLE:
        _print_report(report)
    else:
        print_json(report, indent=2 if output is Output.JSON else None)
    if not report["ok"]:
        raise typer.Exit(DIFFERS)


def run(engine: "Engine", history: "History", flow: "Flow", sending: "Sending") -> dict[str, Any]:
    """Send the flow and compare; the report as one JSON object. Raises Failure where a service stays away."""
    from services.cli.demo.proof import prove
    from services.cli.demo.replay import send

    _require_instrument(engine, sending.symbol)
    after = _fund(engine)
    with _progress(len(flow.items)) as progress:
        replay = send(engine, flow.items, sending, progress)
    begun = time.monotonic()
    store = _wait_until_stored(history, replay.position)
    lag_seconds = time.monotonic() - begun
    begun = time.monotonic()
    checks = [replay.refused, replay.accepted, replay.remaining]
    checks += prove(engine, history, sending.symbol, flow, FUNDS, after, replay.position)
    return {"store": store, **_report(flow, replay, checks, lag_seconds, time.monotonic() - begun)}


def _wait_until_stored(history: "History", position: str) -> str:
    """Wait until the history has the position, as long as it comes nearer to it; which store it has. Raises Failure."""
    from ordertape.v1 import order_history_pb2 as history_pb2

    reached = -1
    while True:
        try:
            at_least = history_pb2.GetHistoryStatusRequest(at_least=position)
            return history.call(history.orders.GetHistoryStatus, at_least).store
        except Failure:
            status = history.call(history.orders.GetHistoryStatus, history_pb2.GetHistoryStatusRequest())
            if status.applied_sequence <= reached:
                raise
            reached = status.applied_sequence


@contextmanager
def _services(
    engine: str | None, history: str | None, data_dir: Path | None, store: str | None, patience_seconds: float
) -> Iterator[tuple["Engine", "History", Callable[[], None]]]:
    """The two services to use, and what tells whether those that we started are still there."""
    from services.cli.client import Engine, History
    from services.cli.processes import EXCHANGE_CONFIG, Listen, LocalExchange

    with ExitStack() as stack:
        require_alive: Callable[[], None] = lambda: None  # noqa: E731 - services that are not ours may come back
        if engine is None or history is None:
            local = stack.enter_context(LocalExchange(data_dir, Listen(), EXCHANGE_CONFIG, lambda _name, _line: None, store))
            engine, history, require_alive = local.engine_address, local.history_address, local.require_alive
        yield (
            stack.enter_context(Engine(engine, CALL_SECONDS, patience_seconds)),
            stack.enter_context(History(history, CALL_SECONDS, patience_seconds)),
            require_alive,
        )


def _require_instrument(engine: "Engine", symbol: str) -> None:
    """Raise Failure unless the engine has an instrument on which the recording can be replayed."""
    from ordertape.v1 import matching_engine_pb2 as engine_pb2

    listed = engine.call(engine.orders.ListInstruments, engine_pb2.ListInstrumentsRequest()).instruments
    rules = next((instrument for instrument in listed if instrument.symbol == symbol), None)
    wanted = {
        "base_asset": "BTC",
        "quote_asset": "USD",
        "price_step": "0.01",
        "qty_step": "0.00000001",
        "notional_min": "0",
        "maker_fee_rate": "0",
        "taker_fee_rate": "0",
    }
    wrong = [
        f"{name} {getattr(rules, name)}, not {value}" for name, value in wanted.items() if rules and getattr(rules, name) != value
    ]
    if rules is None or wrong:
        problem = "does not exist" if rules is None else f"has {', '.join(wrong)}"
        raise Failure(USAGE, f"the demo cannot use instrument {symbol}: it {problem}", ["name another with --symbol"])


def _fund(engine: "Engine") -> str:
    """Give the users their money, once for good on this ledger; returns the position after it."""
    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.demo.flow import canonical

    position = ""
    for (user_id, asset), amount in FUNDS.items():
        request = engine_pb2.DepositRequest(user_id=user_id, asset=asset, amount=canonical(amount), request_id=f"demo-{asset}")
        position = engine.call(engine.operator.Deposit, request).position
    return position


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("orders and cancels"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count)


def _report(flow: "Flow", replay: "Replay", checks: list["Check"], lag_seconds: float, proof_seconds: float) -> dict[str, Any]:
    named = {check.name: check for check in checks}
    return {
        "ok": all(check.ok for check in checks),
        "orders": len(flow.places),
        "cancels": len(flow.cancels),
        "leftOut": len(flow.left_out),
        "trades": f"{named['trades'].equal} of {named['trades'].expected}",
        "ordersStored": named["orders stored"].actual,
        "updatesStored": named["updates stored"].actual,
        "fillsStored": named["fills stored"].actual,
        "seconds": round(replay.seconds, 3),
        "ordersAndCancelsPerSecond": round(replay.items / replay.seconds) if replay.seconds else 0,
        "historyLagSeconds": round(lag_seconds, 3),
        "proofSeconds": round(proof_seconds, 3),
        "messages": replay.messages,
        "messagesSentAgain": replay.repeats,
        "answersReplayed": replay.replayed,
        "checks": [check.as_json() for check in checks],
    }


def _print_report(report: dict[str, Any]) -> None:
    checks = [{**check, "": "equal" if check["ok"] else "DIFFERS"} for check in report["checks"]]
    print(f"\n{report['source']}: {report['orders']} orders and {report['cancels']} cancels\n")
    print_table(checks, ("name", "expected", "equal", ""))
    for check in report["checks"]:
        for difference in check["differences"]:
            print(f"  {check['name']}: {difference}")
    rate, lag = report["ordersAndCancelsPerSecond"], report["historyLagSeconds"]
    print(
        f"\nsent in {report['seconds']} s ({rate}/s), stored {lag} s later, "
        f"read back and compared in {report['proofSeconds']} s"
        f"\nstored in {report['store']}: {report['ordersStored']} orders, {report['updatesStored']} updates, "
        f"{report['fillsStored']} fills"
    )
    if report["messagesSentAgain"] or report["answersReplayed"]:
        print(f"messages sent again: {report['messagesSentAgain']}; answers from an earlier sending: {report['answersReplayed']}")
    print(
        f"\n{report['trades']} trades as the exchange made them: {'everything is equal' if report['ok'] else 'SOMETHING DIFFERS'}"
    )
