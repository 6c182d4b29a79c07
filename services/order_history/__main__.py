"""``python -m services.order_history``: the history service as a process, or with ``schema``, ``rebuild`` or ``verify`` what an
operator does to its store.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Final

from services.order_history.bootstrap import serve
from services.order_history.command_line import BadSettings, add_settings, settings_of
from services.order_history.config import HistorySettings
from services.order_history.exit_codes import BAD_CONFIG, CANNOT_START
from services.order_history.operations import rebuilding, schema, verifying
from services.order_history.stores import StoreError
from services.serving.listening import AddressError
from services.serving.logs import configure_logging

_OPERATIONS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "schema": schema.main,
    "rebuild": rebuilding.main,
    "verify": verifying.main,
}
_OPTIONS = (
    "data_dir",
    "store",
    "listen",
    "engine_address",
    "engine_feed",
    "ready_file",
    "log_level",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the process's exit code: 0, 71 where it cannot start, 78 for settings that are wrong."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in _OPERATIONS:
        return _OPERATIONS[arguments[0]](arguments[1:])
    try:
        settings = settings_of(_parser().parse_args(arguments))
    except BadSettings as error:
        print(error, file=sys.stderr)
        return BAD_CONFIG
    configure_logging(settings.log_level)
    try:
        asyncio.run(serve(settings))
    except (StoreError, AddressError) as error:
        print(f"the history does not start: {error}", file=sys.stderr)
        return CANNOT_START
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.order_history",
        description="Follows the engine's ledger, stores every state of every order, and answers for it.",
        epilog="Every setting can be given as ORDERTAPE_HISTORY_NAME or in the TOML file too; services/order_history/config.py "
        "lists all of them. `... schema --help`, `... rebuild --help` and `... verify --help` tell what else there is.",
    )
    add_settings(parser, _OPTIONS)
    description = HistorySettings.model_fields["print_commands"].description
    parser.add_argument("--print-commands", action="store_true", default=None, help=description)
    return parser


if __name__ == "__main__":
    sys.exit(main())
