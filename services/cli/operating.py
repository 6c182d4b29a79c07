"""The commands for whoever runs the exchange: how the services are, and the ledger itself."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.failures import GRPC_BASE, USAGE, Failure
from services.cli.options import ENGINE_DEFAULT, HISTORY_DEFAULT, EngineAddress, Format, HistoryAddress, Timeout
from services.cli.output import Output, document_of, print_json_lines, show_one

_UNAVAILABLE = GRPC_BASE + 14


def status(
    output: Format = Output.TABLE,
    engine: EngineAddress = ENGINE_DEFAULT,
    history: HistoryAddress = HISTORY_DEFAULT,
    timeout: Timeout = 2.0,
) -> None:
    """How both services are: health, the ledger's end, and how far the history is behind. Exit code 78 unless both serve."""
    from ordertape.v1 import ledger_pb2
    from ordertape.v1 import order_history_pb2 as history_pb2
    from services.cli.client import Engine, History

    with Engine(engine, timeout, retry_seconds=0) as one, History(history, timeout, retry_seconds=0) as other:
        both = {
            "engine": _state(one, one.ledger.GetLedgerStatus, ledger_pb2.GetLedgerStatusRequest()),
            "history": _state(other, other.orders.GetHistoryStatus, history_pb2.GetHistoryStatusRequest()),
        }
    if output is Output.JSONL:
        print_json_lines({"service": name, **state} for name, state in both.items())
    else:
        show_one(output, both)
    if any(state["health"] != "SERVING" for state in both.values()):
        raise typer.Exit(_UNAVAILABLE)


def ledger(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of `ordertape dev`, or of an engine.", show_default=".ordertape")
    ] = None,
) -> None:
    """Print the ledger's batches; --verify checks every byte of it and replays its requests through the core.

    What else is given goes to `python -m services.matching_engine ledger`, whose exit code is this command's too
    (`ordertape ledger -- --help` lists its options).
    """
    from services.cli.processes import default_data_dir

    folder = data_dir or default_data_dir()
    folder = folder / "engine" if (folder / "engine").is_dir() else folder
    if not folder.is_dir():
        raise Failure(USAGE, f"there is no folder {folder}: name the one that `ordertape dev` printed with --data-dir")
    command = (sys.executable, "-m", "services.matching_engine", "ledger", "--data-dir", str(folder), *context.args)
    code = subprocess.call(command)  # noqa: S603 - our own interpreter and module
    raise typer.Exit(code if code >= 0 else 128 - code)


def _state(service: Any, method: Any, request: Any) -> dict[str, Any]:
    """The service's own account of itself, with its address and health; what went wrong where it gave none."""
    state: dict[str, Any] = {"address": service.address, "health": "UNREACHABLE"}
    try:
        state["health"] = service.health()
        state |= document_of(service.call(method, request))
    except Failure as failure:
        state["error"] = failure.message
    return state
