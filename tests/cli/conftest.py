"""What the command's tests share: the command run in this process, with nobody's own settings in the environment."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from services.cli.__main__ import app

Run = Callable[..., Result]


@pytest.fixture
def ordertape(monkeypatch: pytest.MonkeyPatch) -> Run:
    """``ordertape("orders", "--user", "alice")``: the result has exit_code, stdout and stderr."""
    for name in ("ORDERTAPE_ENGINE", "ORDERTAPE_HISTORY", "ORDERTAPE_USER", "ORDERTAPE_DATA"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments)

    return run
