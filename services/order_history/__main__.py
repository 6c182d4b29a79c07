"""`python -m services.order_history`: the history service as a process."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from services.order_history.bootstrap import serve
from services.order_history.config import HistorySettings, load
from services.order_history.stores import StoreError
from services.serving.listening import AddressError
from services.serving.logs import configure_logging

# sysexits.h: EX_CONFIG, EX_UNAVAILABLE.
BAD_SETTINGS = 78
CANNOT_START = 69

_OPTIONS = (
    "data_dir",
    "listen",
    "engine_address",
    "engine_feed",
    "ready_file",
    "log_level",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the process's exit code: 0, 69 where it cannot start, 78 for settings that are wrong."""
    given = vars(_parser().parse_args(arguments))
    try:
        settings = load(given.pop("config"), **{name: value for name, value in given.items() if value is not None})
        configure_logging(settings.log_level)
    except (ValidationError, FileNotFoundError, ValueError) as error:
        print(f"settings: {error}", file=sys.stderr)
        return BAD_SETTINGS
    try:
        asyncio.run(serve(settings))
    except (StoreError, AddressError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return CANNOT_START
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.order_history",
        description="Follows the engine's ledger, stores every state of every order, and answers for it.",
        epilog="Every setting can be given as ORDERTAPE_HISTORY_NAME or in the TOML file too; services/order_history/config.py "
        "lists all of them.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    for name in _OPTIONS:
        description = HistorySettings.model_fields[name].description
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=name.upper(), help=description)
    description = HistorySettings.model_fields["print_commands"].description
    parser.add_argument("--print-commands", action="store_true", default=None, help=description)
    return parser


if __name__ == "__main__":
    sys.exit(main())
