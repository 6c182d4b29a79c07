"""What it takes to run a CQL server here: a Java that it runs on, and its jars, which Maven fetches once for all test runs of a
user. Whoever asks for what is not to be had gets CqlServerMissing, which names it; whether that skips a test or fails it is
decided in one place, tests/conftest.py.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from services.cli.demo.recording import cache_folder

RESOURCES = Path(__file__).parents[1] / "cql_server"
NAME = "cql-server-5.0.8"
JAVA_VERSIONS = (11, 17)
FETCH_SECONDS = 240.0


class CqlServerMissing(Exception):
    """No CQL server can be run here; says what is missing."""


@cache
def java_command() -> str:
    """The Java of JAVA_HOME, or the one on the PATH. Raises CqlServerMissing where it is none that the server runs on."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java")) if home else shutil.which("java")
    if java is None:
        raise CqlServerMissing(f"no java {f'in JAVA_HOME ({home})' if home else 'on the PATH'}; install a JRE 17")
    said = subprocess.run((java, "-version"), check=False, capture_output=True, text=True).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) not in JAVA_VERSIONS:
        first_line = (said.splitlines() or ["nothing"])[0]
        raise CqlServerMissing(f"the server runs on Java 17 or 11 and {java} says {first_line}; JAVA_HOME names another")
    return java


def server_jars(folder: Path | None = None) -> Path:
    """The folder with all jars of the server, fetched where it is not there yet. ``folder`` is that of the user's cache unless a
    test names another. Raises CqlServerMissing.
    """
    folder = folder or cache_folder() / NAME
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Test processes that start at the same moment: the first fetches, the others wait and find all there.
        with _locked(folder.with_name(folder.name + ".lock")):
            if not folder.exists():
                _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    # Only a whole folder gets the name, so one that is there is whole. What a killed fetch has left goes now.
    for left in folder.parent.glob(f"{folder.name}.part-*"):
        shutil.rmtree(left)
    part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
    try:
        _copy_dependencies(part)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _copy_dependencies(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise CqlServerMissing("no mvn on the PATH, which fetches the server's jars; install Maven")
    goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}")
    command = (maven, "--quiet", "--batch-mode", "--file", str(RESOURCES / "pom.xml"), *goal)
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=FETCH_SECONDS)
    except subprocess.TimeoutExpired:
        raise CqlServerMissing(f"mvn could not fetch the server's jars within {FETCH_SECONDS:g} s") from None
    if done.returncode != 0 or not any(folder.glob("cassandra-all-*.jar")):
        said = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise CqlServerMissing(f"mvn could not fetch the server's jars:\n{said}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
