"""The list of the `ordertape` command's commands. Each imports what it needs when it runs, so that `--help` is quick."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from services.cli import controls, dev, exporting, listing, operating, placing, reading, stores, trading, watching
from services.cli.conformance import command as conformance
from services.cli.demo import command as demo
from services.cli.failures import EXIT_CODES, Failure
from services.cli.grpcurl_option import printable

RUN, TRADE, READ, OPERATE = "Run it here", "Trade", "Read the history", "Operate"


class _Commands(TyperGroup):
    """Says on stderr why a command failed and ends with its exit code."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except Failure as failure:
            print(f"error: {failure.message}", *failure.details, sep="\n  ", file=sys.stderr)
            raise typer.Exit(failure.exit_code) from None


app = typer.Typer(
    name="ordertape",
    cls=_Commands,
    help="ordertape tells the whole life of every order on an exchange. `ordertape dev` starts one here; `ordertape demo` "
    "replays half an hour of a real exchange's order flow and proves what came of it.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    RUN: (dev.dev, demo.demo),
    TRADE: (
        placing.place,
        trading.replace,
        trading.cancel,
        trading.cancel_all,
        trading.book,
        trading.instruments,
        trading.balances,
    ),
    READ: (reading.orders, reading.history, reading.order, reading.fills, watching.watch, exporting.export),
    OPERATE: (
        controls.deposit,
        controls.withdraw,
        controls.halt,
        controls.resume,
        controls.suspend,
        controls.readmit,
        controls.force_cancel,
        listing.set_instrument,
        operating.status,
        conformance.conform,
        stores.schema,
    ),
}
# They make more calls than anybody wants to see as lines.
LOCAL = (*PANELS[RUN], conformance.conform)
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command if command in LOCAL else printable(command))
for command in (operating.ledger, stores.rebuild, stores.verify):
    # What they do not know goes to the service's own module.
    app.command(rich_help_panel=OPERATE, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("ordertape"))
        raise typer.Exit


@app.callback()
def ordertape(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Entry point of the `ordertape` command."""
    try:
        app(prog_name="ordertape")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    # Nothing is left to do; threads that still wait in gRPC must not be part of an interpreter that is being taken down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
