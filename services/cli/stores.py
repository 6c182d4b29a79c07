"""The commands for whoever keeps a history's store. What works on stores is the history's own module, started as a process: here
it is only named, and told to stop.
"""

import os
import signal
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

_STORE = "ORDERTAPE_HISTORY_STORE"
_STORE_METAVAR = "ADDRESS"

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar=_STORE,
        metavar=_STORE_METAVAR,
        show_envvar=True,
        show_default="sqlite",
        help="sqlite, or scylla://[USER:PASSWORD@]HOST[:PORT],.../KEYSPACE; a password is best given in the variable.",
    ),
]
StoreArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[STORE]", envvar=_STORE, show_default=False, help="scylla://[USER:PASSWORD@]HOST[:PORT],.../KEYSPACE"
    ),
]
Folder = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder of history.db, for sqlite.", show_default=False)
]
LedgerAddress = Annotated[
    str | None,
    typer.Option(
        "--engine", envvar="ORDERTAPE_ENGINE", metavar="HOST:PORT", help="Address of the matching engine.", show_default=False
    ),
]


class SchemaAction(StrEnum):
    """What to do with a schema."""

    APPLY = "apply"
    SHOW = "show"


def schema(
    action: Annotated[SchemaAction, typer.Argument(help="Apply the schema, or print it.")], store: StoreArgument = None
) -> None:
    """Make the tables of a CQL store, or bring older ones up to date; SQLite's are brought up to date by the history itself.

    \b
    ordertape schema apply scylla://127.0.0.1/ordertape
    """
    raise typer.Exit(_run("schema", action.value, store=store))


def rebuild(context: typer.Context, store: Store = None, data_dir: Folder = None, engine: LedgerAddress = None) -> None:
    """Fill a new or partly filled store from the engine's ledger, while the history runs on another.

    So one moves from SQLite to ScyllaDB: the last line says how to switch over.

    \b
    ordertape rebuild --store scylla://127.0.0.1/ordertape
    ordertape rebuild --data-dir other-folder

    Stopped or killed, it goes on where it was when it is run again. What else is given goes to `python -m
    services.order_history rebuild` (`ordertape rebuild -- --help` lists its options and exit codes).
    """
    raise typer.Exit(_run("rebuild", *_where(data_dir, engine), *context.args, store=store))


def verify(context: typer.Context, store: Store = None, data_dir: Folder = None, engine: LedgerAddress = None) -> None:
    """Compare the ledger, the engine's state and every row of the history, while they run. Exit code 1 names what differs first.

    \b
    ordertape verify
    ordertape verify --store scylla://127.0.0.1/ordertape -o json

    Without --data-dir it looks into the folder of `ordertape dev`, where there is one. What else is given goes to `python -m
    services.order_history verify` (`ordertape verify -- --help` lists its options and exit codes).
    """
    raise typer.Exit(_run("verify", *_where(data_dir or _folder_of_dev(), engine), *context.args, store=store))


def _folder_of_dev() -> Path | None:
    from services.cli.processes import default_data_dir

    folder = default_data_dir() / "history"
    return folder if folder.is_dir() and "ORDERTAPE_HISTORY_DATA_DIR" not in os.environ else None


def _where(data_dir: Path | None, engine: str | None) -> list[str]:
    arguments = []
    if data_dir is not None:
        folder = data_dir / "history" if (data_dir / "history").is_dir() else data_dir
        arguments += ["--data-dir", str(folder)]
    if engine is not None:
        arguments += ["--engine-address", engine]
    return arguments


def _run(*arguments: str, store: str | None) -> int:
    """Run the history's module to its end: the exit code. A store's address goes by the environment, where nobody sees its
    password.
    """
    environment = os.environ | ({} if store is None else {_STORE: store})
    # A session of its own: a signal reaches it once, from us, however it was sent.
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        (sys.executable, "-m", "services.order_history", *arguments), env=environment, start_new_session=True
    )

    def pass_on(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number if number != signal.SIGHUP else signal.SIGTERM)

    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        code = process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
