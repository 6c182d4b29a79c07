"""Brings a keyspace to the schema that this program knows: for an operator's `ordertape schema apply`. The history itself only
checks it: a service that changes tables when it starts would do so from every process at once.
"""

from pathlib import Path
from typing import Final

from cassandra.query import SimpleStatement

from services.order_history.stores import StoreRefused
from services.order_history.stores.cql_session import CqlSession
from services.order_history.stores.cql_settings import CqlSettings

SCHEMA_FOLDER: Final = Path(__file__).parents[3] / "schema" / "scylla"
_STEPS: Final = "order_history"
_WHOLE: Final = "order_history.cql"
_SCYLLA: Final = "order_history.scylla.cql"
_NAME: Final = "order_history"
_COPIES: Final = 3
# A table is made on every node before the next statement is taken.
_TIMEOUT_SECONDS: Final = 60.0


def steps() -> list[tuple[int, str]]:
    """The numbered steps, in order: (version that the step leads to, its CQL)."""
    files = sorted((SCHEMA_FOLDER / _STEPS).glob("[0-9][0-9][0-9][0-9]_*.cql"))
    return [(int(file.name[:4]), file.read_text(encoding="utf-8")) for file in files]


def whole() -> str:
    """The whole current schema as CQL."""
    return (SCHEMA_FOLDER / _WHOLE).read_text(encoding="utf-8")


def statements(cql: str) -> list[str]:
    """The statements of a schema's file, without its comments."""
    lines = (line.partition("--")[0].rstrip() for line in cql.splitlines())
    return [part.strip() for part in "\n".join(line for line in lines if line).split(";") if part.strip()]


def apply_schema(settings: CqlSettings) -> str:
    """Make or migrate the keyspace; says what was done. Every statement may be said again, so a broken run is run again.

    Raises StoreRefused for a keyspace that is newer than the program, or holds something else; StoreUnavailable, StoreDamaged.
    """
    session = CqlSession(settings)
    try:
        if settings.keyspace not in session.keyspaces():
            _make_keyspace(session, settings)
        session.use_keyspace()
        version, newest = _version(session, settings), newest_version()
        if version is not None and version > newest:
            raise StoreRefused(_too_new(settings, version))
        for number, cql in [(newest, whole())] if version is None else [s for s in steps() if s[0] > version]:
            _run(session, cql)
            _set_version(session, number)
        if session.is_scylla():
            _run(session, (SCHEMA_FOLDER / _SCYLLA).read_text(encoding="utf-8"))
    finally:
        session.close()
    if version == newest:
        return f"{settings} has schema version {newest} already"
    return f"{settings} has schema version {newest} now" + (f", had {version}" if version else "")


def newest_version() -> int:
    """The schema version that this program knows."""
    return steps()[-1][0]


def check_schema(session: CqlSession, settings: CqlSettings) -> None:
    """Raise StoreRefused, saying what to do, unless the keyspace has this program's schema; then use it."""
    if settings.keyspace not in session.keyspaces():
        raise StoreRefused(f"{settings} has no such keyspace: run `ordertape schema apply` first")
    session.use_keyspace()
    version, newest = _version(session, settings), newest_version()
    if version is None or version < newest:
        has = "no schema yet" if version is None else f"schema version {version}"
        raise StoreRefused(f"{settings} has {has}, this program needs {newest}: run `ordertape schema apply` first")
    if version > newest:
        raise StoreRefused(_too_new(settings, version))


def _too_new(settings: CqlSettings, version: int) -> str:
    return f"{settings} has schema version {version}, this program knows up to {newest_version()}: run the newer program"


def _make_keyspace(session: CqlSession, settings: CqlSettings) -> None:
    copies = settings.replication_factor or (_COPIES if session.nodes >= _COPIES else 1)
    replication = f"{{'class': 'NetworkTopologyStrategy', '{session.datacenter}': {copies}}}"
    cql = f"CREATE KEYSPACE IF NOT EXISTS {settings.keyspace} WITH replication = {replication}"
    session.execute(SimpleStatement(cql), timeout_seconds=_TIMEOUT_SECONDS)


def _run(session: CqlSession, cql: str) -> None:
    for statement in statements(cql):
        session.execute(SimpleStatement(statement), timeout_seconds=_TIMEOUT_SECONDS)


def _version(session: CqlSession, settings: CqlSettings) -> int | None:
    """The keyspace's schema version, None where there is none yet."""
    tables = session.tables()
    if not tables:
        return None
    if "schema_version" not in tables:
        raise StoreRefused(f"{settings} holds something else than an order history")
    rows = session.execute("SELECT version FROM schema_version WHERE name = %s", (_NAME,))
    return int(rows[0][0]) if rows else None


def _set_version(session: CqlSession, version: int) -> None:
    statement = SimpleStatement(
        # Versions only rise, so the version is its own time.
        f"INSERT INTO schema_version (name, version) VALUES (%s, %s) USING TIMESTAMP {version}"
    )
    session.execute(statement, (_NAME, version), timeout_seconds=_TIMEOUT_SECONDS)
