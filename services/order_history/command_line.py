"""What the command lines of this service's commands share: the settings, and how it is told what is wrong with them without
showing a store's password.
"""

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path
from tomllib import TOMLDecodeError

from pydantic import ValidationError

from services.order_history.config import HistorySettings, load
from services.order_history.stores.cql_settings import without_password
from services.serving.logs import configure_logging


class BadSettings(Exception):
    """The settings are wrong; the text has a line for each that is."""


def add_settings(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Let the settings of these names, and the file that has others, be given."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    for name in names:
        field = HistorySettings.model_fields[name]
        default = "" if field.default is None else f" Default: {field.default}"
        text = f"{field.description}{default}".replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=name.upper(), help=text)


def add_waiting(parser: argparse.ArgumentParser) -> None:
    """The options of a command that takes long."""
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument(
        "--patience", type=_seconds, default=60.0, metavar="SECONDS",
        help="how long to wait for an engine or a store that is away. Default: 60",
    )  # fmt: skip


def keep_logs_quiet() -> None:
    """For a command that says itself what is the matter: only what is critical is logged, and that a store or an engine is away
    is not.
    """
    configure_logging("CRITICAL")
    logging.disable(logging.ERROR)  # drivers raise their own level


def settings_of(given: argparse.Namespace) -> HistorySettings:
    """The settings, those of ``given`` first: what else is in it does not count. Raises BadSettings."""
    named = {name: value for name, value in vars(given).items() if name in HistorySettings.model_fields and value is not None}
    try:
        return load(given.config, **named)
    except ValidationError as error:
        raise BadSettings("\n".join(map(_told, error.errors()))) from error
    except (OSError, TOMLDecodeError) as error:
        raise BadSettings(str(error)) from error


def _told(problem: object) -> str:
    assert isinstance(problem, dict)
    place = ".".join(str(part) for part in problem["loc"])
    if not place:
        return f"settings: {problem['msg']}"  # its value would be all settings
    return f"setting {place}: {problem['msg']}, is {without_password(repr(problem['input']))}"


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds of at least 0, is {text!r}")
    return value
