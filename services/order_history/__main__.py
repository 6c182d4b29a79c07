"""`python -m services.order_history`: the history service as a process."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from tomllib import TOMLDecodeError

from pydantic import ValidationError

from services.order_history.bootstrap import serve
from services.order_history.config import HistorySettings, load
from services.order_history.stores import StoreError
from services.serving.listening import AddressError
from services.serving.logs import configure_logging

# sysexits.h: EX_CONFIG, EX_OSERR.
BAD_CONFIG, CANNOT_START = 78, 71

_OPTIONS = (
    "data_dir",
    "listen",
    "engine_address",
    "engine_feed",
    "ready_file",
    "log_level",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the process's exit code: 0, 71 where it cannot start, 78 for settings that are wrong."""
    given = vars(_parser().parse_args(arguments))
    try:
        settings = load(given.pop("config"), **{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"])
            print(f"setting {place}: {problem['msg']}, is {problem['input']!r}", file=sys.stderr)
        return BAD_CONFIG
    except (OSError, TOMLDecodeError) as error:
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
        "lists all of them.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    for name in _OPTIONS:
        field = HistorySettings.model_fields[name]
        default = "" if field.default is None else f" Default: {field.default}"
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=name.upper(), help=f"{field.description}{default}")
    description = HistorySettings.model_fields["print_commands"].description
    parser.add_argument("--print-commands", action="store_true", default=None, help=description)
    return parser


if __name__ == "__main__":
    sys.exit(main())
