"""`--help` is quick and says what every failure's exit code is."""

import subprocess
import sys
from importlib.metadata import version

from services.cli.__main__ import app
from tests.cli.conftest import Run


def test_help_needs_neither_grpc_nor_protobuf_nor_a_service() -> None:
    code = "import sys, services.cli.__main__; print([m for m in ('grpc', 'google.protobuf', 'zmq', 'apsw') if m in sys.modules])"
    done = subprocess.run((sys.executable, "-c", code), check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_help_lists_every_command_and_exit_code(ordertape: Run) -> None:
    result = ordertape("--help")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert len(app.registered_commands) == 16
    for command in app.registered_commands:
        assert command.callback is not None
        assert f" {command.callback.__name__} " in text
    for code in ("3 the exchange REJECTED", "67 INVALID_ARGUMENT", "78 UNAVAILABLE"):
        assert code in text


def test_a_missing_user_is_wrong_usage(ordertape: Run) -> None:
    result = ordertape("orders")
    assert result.exit_code == 2
    assert "--user" in result.stderr


def test_the_version_is_said_without_a_command(ordertape: Run) -> None:
    result = ordertape("--version")
    assert (result.exit_code, result.stdout.strip()) == (0, version("ordertape"))
