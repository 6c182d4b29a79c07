"""Brings a SQLite file to the schema that this program knows: a new file gets it whole, an older one step by step, and one that
is newer, or none of ours, is refused before anything is read from it.
"""

from pathlib import Path
from typing import Final

import apsw

from services.order_history.stores import StoreRefused

SCHEMA_FOLDER: Final = Path(__file__).parents[3] / "schema" / "sqlite"
_WHOLE: Final = "order_history.sql"
_STEPS: Final = "order_history"


def steps() -> list[tuple[int, str]]:
    """The numbered steps, in order: (version that the step leads to, its SQL)."""
    files = sorted((SCHEMA_FOLDER / _STEPS).glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [(int(file.name[:4]), file.read_text(encoding="utf-8")) for file in files]


def whole() -> str:
    """The whole current schema as SQL."""
    return (SCHEMA_FOLDER / _WHOLE).read_text(encoding="utf-8")


def bring_up_to_date(connection: apsw.Connection) -> None:
    """Make or migrate the tables. Raises StoreRefused for a file that is newer than the program, or none of ours."""
    known = steps()
    with connection:
        version = _version(connection)
        if version is None:
            connection.execute(whole())
            return
        _refuse_newer(connection, version)
        for number, sql in known:
            if number > version:
                connection.execute(sql)
                connection.execute("UPDATE schema_version SET version = ?", (number,))


def check_version(connection: apsw.Connection) -> None:
    """Raise StoreRefused for a file that has not this program's schema; changes nothing."""
    version, newest = _version(connection), newest_version()
    if version is None:
        raise StoreRefused(f"{connection.filename} has no tables yet")
    _refuse_newer(connection, version)
    if version < newest:
        raise StoreRefused(
            f"{connection.filename} has schema version {version}, this program needs {newest}: start the history, it migrates it"
        )


def newest_version() -> int:
    """The schema version that this program knows."""
    return steps()[-1][0]


def _refuse_newer(connection: apsw.Connection, version: int) -> None:
    if version > (newest := newest_version()):
        raise StoreRefused(
            f"{connection.filename} has schema version {version}, this program knows up to {newest}: "
            "run the newer program, or move the file away and let it be filled again from the ledger"
        )


def _version(connection: apsw.Connection) -> int | None:
    """The file's schema version, None for a file without tables."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables:
        return None
    if "schema_version" not in tables:
        raise StoreRefused(f"{connection.filename} is a SQLite file, but not an order history")
    ((version,),) = connection.execute("SELECT version FROM schema_version").fetchall()
    assert isinstance(version, int)
    return version
