"""The options that several commands share, each said once."""

from enum import StrEnum
from typing import Annotated

import typer

from services.cli.output import Output


class SideName(StrEnum):
    """Which side of the market."""

    BUY = "buy"
    SELL = "sell"


ENGINE_DEFAULT = "127.0.0.1:50051"
HISTORY_DEFAULT = "127.0.0.1:50052"
FEED_DEFAULT = "127.0.0.1:50053"

EngineAddress = Annotated[
    str, typer.Option("--engine", envvar="ORDERTAPE_ENGINE", metavar="HOST:PORT", help="Address of the matching engine.")
]
HistoryAddress = Annotated[
    str, typer.Option("--history", envvar="ORDERTAPE_HISTORY", metavar="HOST:PORT", help="Address of the order history.")
]
User = Annotated[str, typer.Option("--user", "-u", envvar="ORDERTAPE_USER", help="Whose orders or money.")]
Format = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
Fields = Annotated[
    str | None, typer.Option("--fields", metavar="NAME,...", help="Which fields to print: orderId,status,fill.price")
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="How long to wait for an answer.")]
AtLeast = Annotated[str, typer.Option("--at-least", metavar="POSITION", help="Wait until the history has reached this position.")]
Symbols = Annotated[
    list[str] | None, typer.Option("--symbol", "-s", metavar="SYMBOL", help="Only of this instrument; can be repeated.")
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many; 0 for all.")]
RequestId = Annotated[
    str | None, typer.Option("--request-id", metavar="KEY", help="Key that makes a retry safe; made up where not given.")
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, in words; the ledger keeps it.")]
SideFilter = Annotated[SideName | None, typer.Option("--side", case_sensitive=False, help="Only this side.")]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="ADDRESS",
        help="Where the history keeps its rows: sqlite, or scylla://HOST[:PORT],.../KEYSPACE, whose tables are made where they "
        "are missing. Better in ORDERTAPE_HISTORY_STORE where it has a password.",
        show_default="sqlite",
    ),
]
SymbolArgument = Annotated[str, typer.Argument(help="The instrument, for example BTC-USD.")]
OrderArgument = Annotated[str, typer.Argument(metavar="ID", help="The order's number, or your client_order_id.")]
ByClientId = Annotated[bool, typer.Option("--client-id", help="ID is a client_order_id, even though it looks like a number.")]

TIMEOUT_DEFAULT = 10.0
LIMIT_DEFAULT = 50
