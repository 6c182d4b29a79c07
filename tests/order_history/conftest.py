"""Places for the stores of an operator's commands, of each kind."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from services.order_history.stores.cql_settings import CqlSettings
from tests.support.cql_server import CqlServer
from tests.support.operation import NewPlace, StoreAt
from tests.support.store_kinds import CqlPlace, drop_keyspace


@pytest.fixture(scope="session")
def operated_keyspaces(cql_server: CqlServer) -> Iterator[dict[str, CqlSettings]]:
    """Those that were made; they are dropped at the end."""
    made: dict[str, CqlSettings] = {}
    yield made
    for settings in made.values():
        drop_keyspace(settings)


@pytest.fixture
def new_sqlite(tmp_path: Path) -> NewPlace:
    """Makes empty places for SQLite."""
    numbers = count(1)
    return lambda: StoreAt("sqlite", tmp_path / f"store{next(numbers)}")


@pytest.fixture
def new_cql(cql_server: CqlServer, tmp_path: Path, operated_keyspaces: dict[str, CqlSettings]) -> NewPlace:
    """Makes empty places in CQL."""
    numbers = count(1)

    def new() -> StoreAt:
        place = CqlPlace(cql_server.contact_points, f"ops_{next(numbers)}_{os.getpid()}", operated_keyspaces)
        return StoreAt(place.address, tmp_path / "unused")

    return new


@pytest.fixture(params=["sqlite", pytest.param("cql", marks=pytest.mark.cql)])
def new_place(request: pytest.FixtureRequest) -> NewPlace:
    """Makes empty places of one kind."""
    made: NewPlace = request.getfixturevalue(f"new_{request.param}")
    return made
