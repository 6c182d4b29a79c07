"""What logs look like, in a process of their own: logging is set up once per process."""

import json
import os
import pty
import subprocess
import sys

import pytest

PROGRAM = """
import logging, structlog
from services.serving.logs import configure_logging
configure_logging({level!r})
log = structlog.stdlib.get_logger("a.room")
log.debug("quiet")
log.info("order placed", order_id=7)
logging.getLogger("grpc._server").warning("from %s", "grpc")
try:
    secret = "local value"
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def run(level: str, stderr: int = subprocess.PIPE) -> str:
    program = [sys.executable, "-c", PROGRAM.format(level=level)]
    done = subprocess.run(program, stdout=subprocess.PIPE, stderr=stderr, text=True, check=True, timeout=60)
    assert done.stdout == ""
    return done.stderr


def test_logs_are_json_lines_on_stderr_with_those_of_libraries() -> None:
    placed, from_grpc, failed = [json.loads(line) for line in run("info").splitlines()]
    assert placed.pop("timestamp").endswith("Z")
    assert placed == {"event": "order placed", "order_id": 7, "level": "info", "logger": "a.room"}
    assert (from_grpc["event"], from_grpc["level"], from_grpc["logger"]) == ("from grpc", "warning", "grpc._server")
    assert "ZeroDivisionError" in failed["exception"]
    assert "local value" not in failed["exception"].replace('secret = "local value"', "")


@pytest.mark.parametrize(("level", "count"), [("DEBUG", 4), ("INFO", 3), ("WARNING", 2), ("ERROR", 1)])
def test_the_level_decides_what_is_logged(level: str, count: int) -> None:
    assert len(run(level).splitlines()) == count


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        run("LOUD")
    assert "Unknown level: 'LOUD'" in failure.value.stderr


def test_a_terminal_gets_lines_for_people() -> None:
    reading, writing = pty.openpty()
    try:
        run("ERROR", stderr=writing)
        text = os.read(reading, 65536).decode()
    finally:
        os.close(reading)
        os.close(writing)
    assert "failed" in text
    assert "ZeroDivisionError" in text
    assert not text.startswith("{")
