"""An engine for one test, and a connection to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.matching_engine.bootstrap import Engine
from tests.support.engine_client import EngineClient
from tests.support.engine_exchange import running_engine


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "engine"


@pytest.fixture
def engine(data_dir: Path) -> Iterator[Engine]:
    with running_engine(data_dir) as running:
        yield running


@pytest.fixture
def client(engine: Engine) -> Iterator[EngineClient]:
    """Users a and b have money of every kind."""
    with EngineClient(engine.address) as connected:
        connected.fund("a", "b", USD="1000000", BTC="1000", ETH="1000")
        yield connected
