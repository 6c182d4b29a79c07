"""An engine for one test, and a connection to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.matching_engine import ledger_command
from services.matching_engine.bootstrap import Engine
from tests.support.engine_client import EngineClient
from tests.support.engine_exchange import running_engine

PROVED_SEQUENCES_MAX = 20_000


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "engine"


@pytest.fixture
def engine(data_dir: Path) -> Iterator[Engine]:
    """Its ledger is proved right at the end of the test, unless it is so long that this would take seconds."""
    with running_engine(data_dir) as running:
        yield running
    if running.state.sequence < PROVED_SEQUENCES_MAX:
        assert ledger_command.main(["--data-dir", str(data_dir), "--verify", "--quiet"]) == 0


@pytest.fixture
def client(engine: Engine) -> Iterator[EngineClient]:
    """Users a and b have money of every kind."""
    with EngineClient(engine.address) as connected:
        connected.fund("a", "b", USD="1000000", BTC="1000", ETH="1000")
        yield connected
