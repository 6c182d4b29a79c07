"""`ordertape conform`: tries a server against the contract's promises and says which it keeps."""

from typing import Annotated

import typer

from services.cli.failures import DIFFERS
from services.cli.options import ENGINE_DEFAULT, HISTORY_DEFAULT, TIMEOUT_DEFAULT, EngineAddress, Format, HistoryAddress, Timeout
from services.cli.output import Output, show

SYMBOL_DEFAULT = "BTC-USD"


def conform(
    engine: EngineAddress = ENGINE_DEFAULT,
    history: HistoryAddress = HISTORY_DEFAULT,
    operator: Annotated[
        str | None,
        typer.Option("--operator", metavar="HOST:PORT", help="Address of the operator's calls.", show_default="the engine's"),
    ] = None,
    symbol: Annotated[str, typer.Option("--symbol", "-s", metavar="SYMBOL", help="The instrument to trade.")] = SYMBOL_DEFAULT,
    output: Format = Output.TABLE,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Check that an engine and a history keep the contract's promises: whoever wrote them, in whatever language.

    \b
    ordertape conform
    ordertape conform --engine 10.0.0.5:50051 --history 10.0.0.6:50052 --symbol ETH-USD -o json

    It trades with users of its own and with money that it deposits for them, between the best prices of the book: an exchange
    that is in use keeps its book, and its users what they have. Exit code 1 where a promise is not kept.
    """
    from services.cli.conformance.kit import outcomes
    from services.cli.conformance.stage import Stage

    with Stage(engine, history, operator or engine, symbol, timeout) as stage:
        stage.look_around()
        found = list(outcomes(stage))
    failed = sum(not outcome.passed for outcome in found)
    columns = ("check", "promise", "result", *(("expected", "seen") if failed else ()))
    document = {"checks": [outcome.as_row() for outcome in found], "passed": len(found) - failed, "failed": failed}
    show(output, {**document, "users": f"{stage.prefix}-*"}, "checks", columns)
    if failed:
        raise typer.Exit(DIFFERS)
