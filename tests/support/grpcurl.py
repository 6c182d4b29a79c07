"""The grpcurl that docs/grpcurl.md names: the one on the PATH, or else one that Go builds once for all test runs of a user. Where
there is neither, a test is skipped and says so; where the environment says CI, where nobody would read that, it fails.
"""

import fcntl
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from services.cli.demo.recording import cache_folder
from tests.support.call_lines import PAGE

BUILD_SECONDS = 500


@cache
def grpcurl() -> Path:
    """Where it is. Skips the test, or fails it, where it cannot be had."""
    found = shutil.which("grpcurl")
    return Path(found) if found else _built()


def _built() -> Path:
    wanted = re.search(r"go install (?P<module>\S+)@v(?P<version>\S+)", PAGE.read_text())
    assert wanted is not None, f"{PAGE.name} does not say how grpcurl is installed"
    folder = cache_folder() / f"grpcurl-{wanted['version']}"
    program = folder / "grpcurl"
    folder.mkdir(parents=True, exist_ok=True)
    # Test processes that start at the same moment: the first builds, the others wait and find it there.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(f"{wanted['module']}@v{wanted['version']}", folder)
    return program


def _build(module: str, folder: Path) -> None:
    go = shutil.which("go")
    if go is None:
        _give_up("no grpcurl and no go on the PATH")
    command = ("nice", str(go), "install", module)
    environment = os.environ | {"GOBIN": str(folder)}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=BUILD_SECONDS, cwd=folder, env=environment
    )
    if done.returncode != 0:
        _give_up(f"{' '.join(command)} failed: {done.stderr[-500:]}")


def _give_up(why: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"there is no grpcurl: {why}")
    pytest.skip(f"NO GRPCURL, SO ITS LINES ARE NOT TESTED HERE: {why}")
