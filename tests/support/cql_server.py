"""A real CQL server as child processes: one node, or a ring of three, on ports and folders that they keep over restarts, so that
a test can kill, freeze, stop and start each of them. ScyllaDB is in no package registry; Apache Cassandra is, and speaks the same
CQL to the same driver.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Template
from typing import Literal, Self

from cassandra import ConsistencyLevel, DriverException
from cassandra.cluster import NoHostAvailable, Session
from cassandra.query import SimpleStatement

from tests.support.cql_jars import RESOURCES, java_command, server_jars
from tests.support.cql_session import answers_cql, cql_session
from tests.support.eventually import eventually
from tests.support.exchange_process import free_ports

START_SECONDS = 120.0
EXIT_SECONDS = 40.0
LOG_TAIL_LINES = 40

# The ring's addresses with the tokens that share it out evenly. The first is the one that the others look for.
TOKENS = {"127.0.0.1": -(1 << 63), "127.0.0.2": -3074457345618258603, "127.0.0.3": 3074457345618258602}
SEED_IP = "127.0.0.1"

CommitlogSync = Literal["periodic", "batch"]
# batch: what is acknowledged is on the disk. The server refuses a period with it.
_SYNC_SETTINGS: dict[str, dict[str, str]] = {"periodic": {"commitlog_sync_period": "1000ms"}, "batch": {}}

# Becomes the JVM, as a process that the kernel kills when its parent dies, however that comes about.
_BECOME = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone already")
os.execv(sys.argv[2], sys.argv[2:])
"""
# For the kernel the parent is the thread that made the child, so all are made by one that lives as long as the process.
_PARENT = ThreadPoolExecutor(1, "parent of CQL nodes")


@dataclass(frozen=True, slots=True)
class CqlServer:
    """A server that tests may use and must leave running."""

    contact_points: str
    """HOST:PORT[,HOST:PORT]"""


def named_server() -> CqlServer | None:
    """The server that ORDERTAPE_TEST_CQL names. RuntimeError where one of its addresses does not answer."""
    contact_points = os.environ.get("ORDERTAPE_TEST_CQL")
    if not contact_points:
        return None
    silent = [point for point in contact_points.split(",") if not answers_cql(point, timeout_seconds=10.0)]
    if silent:
        raise RuntimeError(f"no CQL server answers at {', '.join(silent)}, which ORDERTAPE_TEST_CQL names")
    return CqlServer(contact_points)


class CqlNode:
    """One node with its data in ``folder``; entering the context starts it, leaving it kills what still runs.

    ``port`` and ``storage_port`` (which a ring's nodes share) are free ones unless they are given. ``heap`` is the most that the
    JVM's heap may grow to. ``settings`` are lines of cassandra.yaml that are not in the template.
    """

    def __init__(
        self,
        folder: Path,
        ip: str = SEED_IP,
        port: int | None = None,
        *,
        commitlog_sync: CommitlogSync = "periodic",
        heap: str = "1g",
        storage_port: int | None = None,
        jars: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        free_port, free_storage_port = free_ports(2)
        self.folder = folder.absolute()
        self.ip, self.port = ip, port or free_port
        self._storage_port = storage_port or free_storage_port
        self._commitlog_sync = commitlog_sync
        self._settings = {**_SYNC_SETTINGS[commitlog_sync], **(settings or {})}
        self._heap = heap
        self._jars = jars
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop_now()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop_now()

    @property
    def contact_point(self) -> str:
        """IP:PORT"""
        return f"{self.ip}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether there is a process that has not ended; a frozen one has not."""
        return self._process is not None and self._process.poll() is None

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The last process that was started."""
        assert self._process is not None, f"{self.contact_point} was never started"
        return self._process

    def launch(self) -> None:
        """Start the process on what is in the folder and do not wait for it. Raises CqlServerMissing."""
        assert not self.is_running, f"{self.contact_point} runs already"
        java = java_command()
        arguments = self._arguments(self._jars or server_jars())
        command = (sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), java, *arguments)
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        (self.folder / "cassandra.yaml").write_text(self._config())
        with (self.folder / "console.log").open("ab") as console:
            started = _PARENT.submit(subprocess.Popen, command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
            self._process = started.result()

    def start(self) -> None:
        """Start the process and wait until clients are answered."""
        self.launch()
        self.wait_until_ready()

    def wait_until_ready(self, timeout_seconds: float = START_SECONDS) -> None:
        """Return when it answers CQL. RuntimeError with the end of its log where it ends before, or does not come to it."""
        try:
            eventually(self._answers_or_ended, timeout_seconds)
        except AssertionError:
            raise RuntimeError(f"no CQL at {self.contact_point} after {timeout_seconds:g} s:\n{self.log_tail()}") from None

    def answers(self) -> bool:
        """Whether it answers within a second."""
        return answers_cql(self.contact_point)

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone, and all that the kernel held for it."""
        self.process.kill()
        self.process.wait(EXIT_SECONDS)

    def stop(self) -> int:
        """SIGTERM, also to a frozen one; the exit code."""
        self.process.terminate()
        self.thaw()
        return self.process.wait(EXIT_SECONDS)

    def stop_now(self) -> None:
        """SIGKILL where it still runs."""
        if self.is_running:
            self.kill()

    def freeze(self) -> None:
        """SIGSTOP: it takes connections, as the kernel does that for it, and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """The last lines of what it has logged and printed."""
        paths = [path for path in (self.folder / "server.log", self.folder / "console.log") if path.exists()]
        return "\n".join(line for path in paths for line in path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def _answers_or_ended(self) -> bool:
        if not self.is_running:
            raise RuntimeError(f"{self.contact_point} ended with {self.process.returncode}:\n{self.log_tail()}")
        return self.answers()

    def _arguments(self, jars: Path) -> tuple[str, ...]:
        (agent,) = jars.glob("jamm-*.jar")
        folder = self.folder
        return (
            f"@{RESOURCES / 'jvm.args'}",
            # The server locks what is there of the heap in memory when it starts: of 1 GB that costs 0.9 GB and a second.
            "-Xms128m",
            f"-Xmx{self._heap}",
            f"-javaagent:{agent}",
            f"-Dlogback.configurationFile={RESOURCES / 'logback.xml'}",
            f"-Dcassandra.config={(folder / 'cassandra.yaml').as_uri()}",
            f"-Dcassandra.storagedir={folder}",
            f"-Dcassandra.logdir={folder}",
            # Libraries are unpacked there, and a killed JVM leaves them.
            f"-Djava.io.tmpdir={folder / 'tmp'}",
            f"-Djna.tmpdir={folder / 'tmp'}",
            "-classpath",
            f"{jars}/*",
            "org.apache.cassandra.service.CassandraDaemon",
        )

    def _config(self) -> str:
        template = Template((RESOURCES / "cassandra.yaml").read_text())
        shared = template.substitute(
            folder=self.folder,
            ip=self.ip,
            port=self.port,
            storage_port=self._storage_port,
            seed=f"{SEED_IP}:{self._storage_port}",
            token=TOKENS[self.ip],
            commitlog_sync=self._commitlog_sync,
        )
        return shared + "".join(f"{name}: {value}\n" for name, value in self._settings.items())


class CqlRing:
    """Three nodes, each on an address of its own and all on the same port; entering the context starts them one after another,
    leaving it kills what still runs. What is done to one node is done through ``nodes``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        commitlog_sync: CommitlogSync = "periodic",
        heap: str = "640m",
        jars: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        port, storage_port = free_ports(2)
        self.nodes = [
            CqlNode(
                folder / ip, ip, port,
                commitlog_sync=commitlog_sync, heap=heap, storage_port=storage_port, jars=jars, settings=settings,
            )
            for ip in TOKENS
        ]  # fmt: skip

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop_now()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop_now()

    @property
    def contact_points(self) -> str:
        """IP:PORT,IP:PORT,IP:PORT"""
        return ",".join(node.contact_point for node in self.nodes)

    def start(self) -> None:
        """Start the nodes that do not run, and wait until each takes all to be up."""
        for node in self.nodes:
            if not node.is_running:
                node.start()
        self.wait_until_whole()

    def wait_until_whole(self, timeout_seconds: float = START_SECONDS) -> None:
        """Return when each node answers a read that all three have to take part in."""
        # A table that every ring has, in three copies.
        query = "SELECT status FROM system_distributed.view_build_status WHERE keyspace_name = '' AND view_name = ''"
        statement = SimpleStatement(query, consistency_level=ConsistencyLevel.ALL)
        for node in self.nodes:
            with cql_session(node.contact_point) as session:
                eventually(partial(_is_answered, session, statement), timeout_seconds)

    def kill(self) -> None:
        """SIGKILL to all that run, at the same moment."""
        running = [node for node in self.nodes if node.is_running]
        for node in running:
            node.process.kill()
        for node in running:
            node.process.wait(EXIT_SECONDS)

    def stop(self) -> None:
        """SIGTERM to all that run, at the same moment."""
        running = [node for node in self.nodes if node.is_running]
        for node in running:
            node.process.terminate()
        for node in running:
            node.stop()

    def freeze(self) -> None:
        """SIGSTOP to all."""
        for node in self.nodes:
            node.freeze()

    def thaw(self) -> None:
        """SIGCONT to all."""
        for node in self.nodes:
            node.thaw()

    def stop_now(self) -> None:
        """SIGKILL to what still runs."""
        self.kill()


def _is_answered(session: Session, statement: SimpleStatement) -> bool:
    try:
        session.execute(statement)
    except (DriverException, NoHostAvailable) as error:
        raise AssertionError(f"not all nodes are up: {error}") from error
    return True
