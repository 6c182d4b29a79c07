"""`--help` is quick and says what every failure's exit code is."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from tests.cli.conftest import Run, names_of_commands

WITH_EXAMPLES = {
    "place": ("--stop-price 62000 --price 62100", "--display-qty 1", "--good-for 8h", "--tif day", "--stp cancel-maker"),
    "replace": ("ordertape replace my-stop --stop-price 54000", "--expected-version 2"),
    "cancel-all": ("ordertape cancel-all --dry-run",),
    "halt": ("ordertape halt BTC-USD",),
    "resume": ("ordertape resume BTC-USD",),
    "suspend": ("ordertape suspend alice --cancel-orders",),
    "readmit": ("ordertape readmit alice",),
    "force-cancel": ("ordertape force-cancel 17",),
    "export": ("ordertape export --out orders.parquet", "ordertape export --after"),
    "schema": ("ordertape schema apply scylla://127.0.0.1/ordertape",),
    "conform": ("ordertape conform --engine 10.0.0.5:50051",),
    "rebuild": ("ordertape rebuild --store scylla://127.0.0.1/ordertape",),
    "verify": ("ordertape verify",),
    "set-instrument": ("ordertape set-instrument BTC-USD --price-band-rate 0.1",),
}


def test_help_needs_neither_grpc_nor_protobuf_nor_a_service() -> None:
    code = "import sys, services.cli.__main__; print([m for m in ('grpc', 'google.protobuf', 'zmq', 'apsw') if m in sys.modules])"
    done = subprocess.run((sys.executable, "-c", code), check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_help_lists_every_command_and_exit_code(ordertape: Run) -> None:
    result = ordertape("--help")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    names = names_of_commands()
    assert len(names) == 29
    for name in names:
        assert f" {name} " in text
    for code in ("3 the exchange REJECTED", "67 INVALID_ARGUMENT", "74 ABORTED", "78 UNAVAILABLE"):
        assert code in text


@pytest.mark.parametrize("name", names_of_commands())
def test_every_command_explains_itself(ordertape: Run, name: str) -> None:
    result = ordertape(name, "--help")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for example in WITH_EXAMPLES.get(name, ()):
        assert example in text


def test_a_missing_user_is_wrong_usage(ordertape: Run) -> None:
    result = ordertape("orders")
    assert result.exit_code == 2
    assert "--user" in result.stderr


def test_the_version_is_said_without_a_command(ordertape: Run) -> None:
    result = ordertape("--version")
    assert (result.exit_code, result.stdout.strip()) == (0, version("ordertape"))
