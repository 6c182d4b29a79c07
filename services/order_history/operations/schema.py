"""``schema apply|show``: makes or migrates the tables of a CQL store, which the history itself only checks."""

import argparse
import sys
from collections.abc import Sequence

from services.order_history.command_line import BadSettings, add_settings, keep_logs_quiet, settings_of
from services.order_history.config import SQLITE, HistorySettings
from services.order_history.exit_codes import BAD_CONFIG, CANNOT_START
from services.order_history.stores import StoreError


def main(arguments: Sequence[str]) -> int:
    """Apply or print a store's schema; the exit code: 0, 71 where the store is refused or away, 78 for wrong settings."""
    given = _parser().parse_args(arguments)
    keep_logs_quiet()
    try:
        settings = settings_of(given)
        print(_whole(settings) if given.action == "show" else _apply(settings))
    except BadSettings as error:
        print(error, file=sys.stderr)
        return BAD_CONFIG
    except StoreError as error:
        print(f"the schema is not applied: {error}", file=sys.stderr)
        return CANNOT_START
    return 0


def _apply(settings: HistorySettings) -> str:
    if settings.store == SQLITE:
        return "nothing to do for sqlite: the history brings its file up to date by itself when it starts"
    from services.order_history.stores.cql_schema import apply_schema
    from services.order_history.stores.cql_settings import parse_cql_address

    return apply_schema(parse_cql_address(settings.store))


def _whole(settings: HistorySettings) -> str:
    if settings.store == SQLITE:
        from services.order_history.stores import sqlite_schema

        return sqlite_schema.whole()
    from services.order_history.stores import cql_schema

    return cql_schema.whole()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ordertape schema",
        description="Makes a new keyspace with its tables, or brings an older one to this program's schema. To be run once, "
        "before the first history process of this version starts; again does no harm.",
        epilog="The store's address can be in ORDERTAPE_HISTORY_STORE or the TOML file too, where nobody sees its password.",
    )
    parser.add_argument("action", choices=("apply", "show"), help="apply it, or print the whole schema")
    add_settings(parser, ("store",))
    return parser
