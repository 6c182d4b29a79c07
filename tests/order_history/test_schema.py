"""`schema` makes the tables of a CQL store, refuses newer ones, and shows nobody a password."""

import os
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from services.order_history.stores import cql_schema, sqlite_schema
from services.order_history.stores.cql_settings import CqlSettings, parse_cql_address
from tests.support.cql_server import CqlServer
from tests.support.cql_session import cql_session
from tests.support.operation import NewPlace, operate
from tests.support.store_kinds import drop_keyspace

COMMANDS = ("schema apply", "schema show", "rebuild", "verify", "")


@pytest.fixture
def new_keyspace(cql_server: CqlServer) -> Iterator[CqlSettings]:
    settings = parse_cql_address(f"scylla://bob:topsecret@{cql_server.contact_points}/ops_schema_{os.getpid()}")
    drop_keyspace(settings)
    yield settings
    drop_keyspace(settings)


@pytest.mark.cql
def test_a_new_keyspace_is_made_and_applying_again_changes_nothing(cql_server: CqlServer, new_keyspace: CqlSettings) -> None:
    address = f"scylla://bob:topsecret@{cql_server.contact_points}/{new_keyspace.keyspace}"
    newest = cql_schema.newest_version()
    first = operate("schema", "apply", "--store", address)
    assert first == (0, f"{new_keyspace} has schema version {newest} now\n", "")
    second = operate("schema", "apply", store=address)
    assert second == (0, f"{new_keyspace} has schema version {newest} already\n", "")


@pytest.mark.cql
@pytest.mark.parametrize("command", ["schema apply", "rebuild", "verify"])
def test_a_newer_keyspace_is_refused(cql_server: CqlServer, new_cql: NewPlace, command: str) -> None:
    store = new_cql()
    settings = parse_cql_address(store.address)
    version = "INSERT INTO {}.schema_version (name, version) VALUES ('order_history', 99) USING TIMESTAMP 99"
    with cql_session(cql_server.contact_points) as session:
        session.execute(version.format(settings.keyspace))
        try:
            done = operate(*command.split(), "--store", store.address)
        finally:
            session.execute(f"TRUNCATE {settings.keyspace}.schema_version")
            cql_schema.apply_schema(settings)
    assert done.code == 71
    assert "has schema version 99, this program knows up to" in done.err


@pytest.mark.parametrize("command", ["rebuild", "verify"])
def test_a_newer_file_is_refused(new_sqlite: NewPlace, command: str) -> None:
    store = new_sqlite()
    store.folder.mkdir()
    connection = apsw.Connection(str(store.folder / "history.db"))
    sqlite_schema.bring_up_to_date(connection)
    connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    done = operate(command, *store.options)
    assert done.code == 71
    assert "has schema version 99, this program knows up to" in done.err


def test_sqlite_needs_nothing_applied() -> None:
    done = operate("schema", "apply")
    assert done.code == 0
    assert "the history brings its file up to date by itself" in done.out


def test_the_whole_schema_is_shown_without_a_server() -> None:
    assert operate("schema", "show").out.strip() == sqlite_schema.whole().strip()
    assert operate("schema", "show", store="scylla://nowhere/ks").out.strip() == cql_schema.whole().strip()


def test_a_store_that_is_away_is_named() -> None:
    done = operate("schema", "apply", "--store", "scylla://bob:topsecret@127.0.0.1:1/ks")
    assert done.code == 71
    assert "scylla://bob@127.0.0.1:1/ks cannot be reached" in done.err
    assert "topsecret" not in done.err


WRONG = (
    "scylla://bob:topsecret@127.0.0.1:9042/key-space",
    "scylla://bob:topsecret@127.0.0.1:port/ks",
    "scylla://bob:top/secret@127.0.0.1/ks",
    "scylla://bob:top?secret@127.0.0.1/ks",
    "scylla://bob:top#secret@127.0.0.1/ks",
    "scylla://bob:top[secret@127.0.0.1/ks",
    "scylla://bob:top\u2100secret@127.0.0.1/ks",
    "scylla://bob:topsecret@127.0.0.1/ks?colour=red",
    "mysql://bob:topsecret@127.0.0.1/ks",
    "bob:topsecret@127.0.0.1/ks",
)


@pytest.mark.parametrize(
    ("command", "address"), [*(("verify", wrong) for wrong in WRONG), *((name, WRONG[2]) for name in COMMANDS)]
)
def test_an_address_that_is_wrong_is_refused_without_its_password(command: str, address: str) -> None:
    done = operate(*command.split(), store=address)
    assert done.code == 78
    assert done.err.startswith("setting store: ")
    assert "secret" not in done.err
    assert "Traceback" not in done.err


def test_settings_that_do_not_go_together_are_refused_without_the_password(tmp_path: Path) -> None:
    done = operate("--data-dir", str(tmp_path), store="scylla://bob:topsecret@127.0.0.1/ks", users="0-9")
    assert done.code == 78
    assert "shard 10 has 0" in done.err
    assert "topsecret" not in done.err
