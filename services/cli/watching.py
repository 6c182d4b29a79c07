"""`ordertape watch`: a user's orders as they happen, over restarts of the service and of the command itself."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.failures import USAGE, Failure
from services.cli.options import HISTORY_DEFAULT, TIMEOUT_DEFAULT, Fields, Format, HistoryAddress, Symbols, Timeout, User
from services.cli.output import WATCH_COLUMNS, Output, chosen, document_of, pick, print_json, table_line

if TYPE_CHECKING:
    from services.cli.following import Followed


def watch(
    user: User,
    symbol: Symbols = None,
    order_id: Annotated[
        list[int] | None, typer.Option("--order", metavar="ORDER_ID", min=1, help="Only this order; can be repeated.")
    ] = None,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="POSITION", help="Begin after this position; without it with the open orders."),
    ] = None,
    output: Format = Output.TABLE,
    fields: Fields = None,
    history: HistoryAddress = HISTORY_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Follow a user's orders until Ctrl-C, each update once, whatever restarts in between.

    As JSON lines, a line that ends a step also says its `position`, and the open orders at the beginning say `"snapshot": true`.
    The last position is printed to stderr at the end: give it as --after to go on from there.
    """
    from ordertape.client.apart import Apart
    from ordertape.v1 import order_history_pb2 as history_pb2
    from services.cli.client import History
    from services.cli.following import follow
    from services.cli.processes import Interrupts

    if output is Output.JSON:
        raise Failure(USAGE, "watch has no end, so it prints a table or JSON lines: -o jsonl")
    columns = chosen(fields) if fields else None
    request = history_pb2.WatchOrdersRequest(user_id=user, symbols=symbol or (), order_ids=order_id or (), after=after)
    position = after or ""
    try:
        with Interrupts() as interrupts, History(history, timeout) as service:
            if output is Output.TABLE:
                print(table_line(columns or WATCH_COLUMNS, None), flush=True)
            for news in Apart(follow(service, request, interrupted=_say_interrupted)):
                # Printed and noted as one: the position says exactly what was printed, whenever Ctrl-C comes.
                with interrupts.held():
                    _print(news, output, columns)
                    position = news.position
    except KeyboardInterrupt:
        pass
    finally:
        if position:
            print(f"position {position}  (to go on: ordertape watch --after {position})", file=sys.stderr)


def _print(news: "Followed", output: Output, columns: tuple[str, ...] | None) -> None:
    for index, order in enumerate(news.orders):
        row = document_of(order)
        if output is Output.TABLE:
            print(table_line(columns or WATCH_COLUMNS, row), flush=True)
            continue
        line = pick(row, columns) if columns else row
        if news.snapshot:
            line["snapshot"] = True
        if index == len(news.orders) - 1:
            line["position"] = news.position
        print_json(line)
    if news.snapshot and output is Output.TABLE:
        print(f"-- {len(news.orders)} open; following", flush=True)


def _say_interrupted(reason: str) -> None:
    print(f"connection lost ({reason}): resuming", file=sys.stderr)
