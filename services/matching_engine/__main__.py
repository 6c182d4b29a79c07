"""``python -m services.matching_engine``: the engine, or with ``ledger`` its ledger printed and verified, or with ``snapshot`` a
snapshot of its state made.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tomllib import TOMLDecodeError

from pydantic import ValidationError

from services.domain.errors import BadInstrument
from services.matching_engine import ledger_command
from services.matching_engine.bootstrap import Engine, write_ready_file
from services.matching_engine.clock import ClockBehindLedger
from services.matching_engine.config import EngineSettings, load
from services.matching_engine.exit_codes import BAD_CONFIG, BAD_LEDGER, OS_ERROR
from services.matching_engine.ledger import LedgerError
from services.matching_engine.snapshots import making
from services.serving.logs import configure_logging
from services.serving.process import exit_when_a_thread_dies, run_until_signal, settle_memory
from services.wire.ledger_codec import LedgerUnreadable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the engine until it is told to stop; the exit code says how it ended."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] == "ledger":
        return ledger_command.main(arguments[1:])
    if arguments and arguments[0] == "snapshot":
        return making.main(arguments[1:])
    given = _parser().parse_args(arguments)
    try:
        settings = _settings(given)
    except ValidationError as error:
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"])
            print(f"setting {place}: {problem['msg']}, is {problem['input']!r}", file=sys.stderr)
        return BAD_CONFIG
    except OSError as error:
        print(error, file=sys.stderr)
        return BAD_CONFIG
    except TOMLDecodeError as error:
        print(f"config file {given.config}: {error}", file=sys.stderr)
        return BAD_CONFIG
    return _run(settings)


def _run(settings: EngineSettings) -> int:
    configure_logging(settings.log_level)
    if settings.ready_file is not None:
        settings.ready_file.unlink(missing_ok=True)
    try:
        engine = Engine(settings)
    except (LedgerError, LedgerUnreadable) as error:
        print(f"the engine does not start: {error}", file=sys.stderr)
        return BAD_LEDGER
    except BadInstrument as error:
        print(f"the engine does not start: {error}", file=sys.stderr)
        return BAD_CONFIG
    except (ClockBehindLedger, OSError) as error:
        print(f"the engine does not start: {error}", file=sys.stderr)
        return OS_ERROR
    exit_when_a_thread_dies(engine.health)
    settle_memory()

    def tell_ready() -> None:
        if settings.ready_file is not None:
            write_ready_file(settings.ready_file, engine.describe())

    operators = [lambda server=server: server.drain() for server in engine.servers[1:]]
    run_until_signal(engine.servers[0], [*operators, engine.close], ready=tell_ready)
    return 0


def _settings(given: argparse.Namespace) -> EngineSettings:
    named = {name: value for name, value in vars(given).items() if value is not None and name != "config"}
    if "feeds" in named:
        named["feeds"] = dict(named["feeds"])
    return load(given.config, **named)


def _feed(text: str) -> tuple[str, str]:
    name, separator, address = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"must be NAME=ADDRESS, is {text!r}")
    return name, address


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.matching_engine",
        description="The matching engine. Settings: this command line > ORDERTAPE_ENGINE_... > the config file > defaults.",
        epilog="`... ledger --help` tells how to print and verify a ledger, `... snapshot --help` how to make a snapshot.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file; services/matching_engine/config.py shows one")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of the ledger and its index")
    parser.add_argument("--listen", metavar="HOST:PORT", help="where to serve; port 0 for any free one")
    parser.add_argument("--operator-listen", metavar="HOST:PORT", help="serve Operator there and not beside the rest")
    parser.add_argument(
        "--feed", dest="feeds", type=_feed, action="append", metavar="NAME=ADDRESS", help="a consumer's ZMQ address to bind"
    )
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="written once the engine serves, with its addresses")
    parser.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR or CRITICAL")
    parser.add_argument(
        "--accept-clock", action="store_const", const=True, help="start though the ledger's last time is ahead of the clock"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
