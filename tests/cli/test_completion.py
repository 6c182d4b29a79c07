"""The shell completes commands, options and what an option can be, without asking a service."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import names_of_commands

COMMAND = (sys.executable, "-m", "services.cli")


def completed(line: str) -> list[str]:
    """What bash offers at the end of the line."""
    words = line.split(" ")
    asks = {"_ORDERTAPE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return subprocess.run(COMMAND, env={**os.environ, **asks}, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ordertape place BTC-USD ", ["buy", "sell"]),
        ("ordertape place BTC-USD buy 1 --tif ", ["gtc", "ioc", "fok", "gtd", "day"]),
        ("ordertape place BTC-USD buy 1 --type s", ["stop", "stop-limit"]),
        ("ordertape place BTC-USD buy 1 --stp cancel-", ["cancel-taker", "cancel-maker", "cancel-both"]),
        ("ordertape place BTC-USD buy 1 --stop", ["--stop-price"]),
        ("ordertape history --status p", ["partially_filled"]),
        ("ordertape cancel-all --side ", ["buy", "sell"]),
        ("ordertape orders -o ", ["table", "json", "jsonl"]),
        ("ordertape export --format ", ["jsonl", "csv", "parquet"]),
        ("ordertape re", ["replace", "resume", "readmit", "rebuild"]),
    ],
)
def test_what_can_follow_is_offered(line: str, offered: list[str]) -> None:
    assert sorted(completed(line)) == sorted(offered)


def test_every_command_is_offered() -> None:
    assert set(completed("ordertape ")) == set(names_of_commands())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str) -> None:
    environment = {**os.environ, "_ORDERTAPE_COMPLETE": f"source_{shell}"}
    done = subprocess.run(COMMAND, env=environment, check=True, capture_output=True, text=True)
    assert f"complete_{shell}" in done.stdout


def test_the_installed_script_completes_in_bash(tmp_path: Path) -> None:
    command = shlex.join(COMMAND)
    # The trailing commands keep bash from replacing itself: the shell that asks is the shell that it is installed for.
    script = f"""
        {command} --install-completion || exit 1
        source ~/.bashrc
        COMP_WORDS=(ordertape place BTC-USD buy --tif g) COMP_CWORD=5
        _ordertape_completion ordertape
        echo "offered: ${{COMPREPLY[@]}}"
    """
    # What completes is the installed `ordertape`, found on the PATH.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": path}
    done = subprocess.run(("bash", "-c", script), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "offered: gtc gtd"
