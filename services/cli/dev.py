"""`ordertape dev`: an exchange on this machine, both services, with users that have money and the next command to type."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.failures import USAGE, Failure
from services.cli.options import ENGINE_DEFAULT, FEED_DEFAULT, HISTORY_DEFAULT, TIMEOUT_DEFAULT, Store

if TYPE_CHECKING:
    from services.cli.client import Engine
    from services.cli.processes import LocalExchange

USERS = ("alice", "bob")
QUOTE_AMOUNT, BASE_AMOUNT = "1000000", "100"
ALIVE_CHECK_SECONDS = 0.1


def dev(
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", envvar="ORDERTAPE_DATA", help="Where the files stay.", show_default=".ordertape"),
    ] = None,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Keep the files in a temporary folder and remove it at the end.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", exists=True, dir_okay=False, help="The engine's config: instruments and rules.", show_default="built in"
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", envvar="ORDERTAPE_ENGINE", metavar="HOST:PORT", help="Where the engine listens.")
    ] = ENGINE_DEFAULT,
    history: Annotated[
        str, typer.Option("--history", envvar="ORDERTAPE_HISTORY", metavar="HOST:PORT", help="Where the history listens.")
    ] = HISTORY_DEFAULT,
    feed: Annotated[
        str, typer.Option("--feed", metavar="HOST:PORT", help="Where the engine publishes the ledger.")
    ] = FEED_DEFAULT,
    store: Store = None,
) -> None:
    """Start both services here, with files that stay, and users that have money. Ctrl-C stops both."""
    from services.cli.client import Engine
    from services.cli.processes import EXCHANGE_CONFIG, Interrupts, Listen, LocalExchange, default_data_dir

    if ephemeral and data_dir is not None:
        raise Failure(USAGE, "--ephemeral keeps nothing, so it cannot be combined with --data-dir")
    folder = None if ephemeral else data_dir or default_data_dir()
    exchange = LocalExchange(folder, Listen(engine, history, feed), config or EXCHANGE_CONFIG, _log, store)
    try:
        with Interrupts(), exchange:
            with Engine(exchange.engine_address, TIMEOUT_DEFAULT) as service:
                print(_banner(exchange, _give_money(service)), flush=True)
            while True:
                exchange.require_alive()
                time.sleep(ALIVE_CHECK_SECONDS)
    except KeyboardInterrupt:
        exchange.require_clean_end()
        print("stopped", file=sys.stderr)


def _log(name: str, line: str) -> None:
    print(f"{name:<7} | {_readable(line)}", file=sys.stderr, flush=True)


def _readable(line: str) -> str:
    """A service's JSON log line for people; any other line as it is."""
    if not line.startswith("{"):
        return line
    try:
        said = json.loads(line)
    except ValueError:
        return line
    head = f"{said.pop('timestamp', '')} {said.pop('level', ''):<7} {said.pop('event', '')}"
    said.pop("logger", None)
    return "  ".join([head, *(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in said.items())])


def _give_money(service: "Engine") -> list[str]:
    """Deposit for the users, once for good on this ledger; returns the symbols that can be traded."""
    from ordertape.v1 import matching_engine_pb2 as engine_pb2

    found = service.call(service.orders.ListInstruments, engine_pb2.ListInstrumentsRequest()).instruments
    amounts = {instrument.base_asset: BASE_AMOUNT for instrument in found}
    amounts |= {instrument.quote_asset: QUOTE_AMOUNT for instrument in found}
    for user_id in USERS:
        for asset, amount in amounts.items():
            request = engine_pb2.DepositRequest(user_id=user_id, asset=asset, amount=amount, request_id=f"dev-{asset}")
            service.call(service.operator.Deposit, request)
    return [instrument.symbol for instrument in found]


def _banner(exchange: "LocalExchange", symbols: list[str]) -> str:
    kept = "removed at the end" if exchange.ephemeral else "kept"
    addresses = [
        f"export {name}={address}"
        for name, address, default in (
            ("ORDERTAPE_ENGINE", exchange.engine_address, ENGINE_DEFAULT),
            ("ORDERTAPE_HISTORY", exchange.history_address, HISTORY_DEFAULT),
        )
        if address != default
    ]
    symbol = symbols[0] if symbols else "SYMBOL"
    commands = [
        *addresses,
        f"export ORDERTAPE_USER={USERS[0]}",
        f"ordertape place {symbol} buy 0.5 --price 60000",
        "ordertape orders",
        "ordertape watch",
    ]
    lines = [
        "",
        "ordertape is running; Ctrl-C stops both services",
        f"  engine       {exchange.engine_address}",
        f"  history      {exchange.history_address}",
        f"  feed         {exchange.feed_address}",
        f"  ledger       {exchange.ledger_id} in {exchange.data_dir / 'engine'} ({kept})",
        f"  store        {exchange.store} ({'kept' if '://' in exchange.store else kept})",
        f"  instruments  {', '.join(symbols)}",
        f"  users        {' and '.join(USERS)}, each was given {QUOTE_AMOUNT} of what is paid with and {BASE_AMOUNT} of the rest",
        "",
        "next, in another terminal:",
        *(f"  {command}" for command in commands),
        "",
    ]
    return "\n".join(lines)
