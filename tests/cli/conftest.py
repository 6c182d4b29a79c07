"""What the command's tests share: the command run in this process, with nobody's own settings in the environment."""

from collections.abc import Callable

import pytest
from typer.main import get_command_name
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


def names_of_commands() -> list[str]:
    """As they are typed."""
    return [get_command_name(command.callback.__name__) for command in app.registered_commands if command.callback is not None]
