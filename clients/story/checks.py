"""What every client has to do: be built from the contract, tell its story on running services, and write the golden messages."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from clients.story.clients import Client
from clients.story.programs import Failed, run
from tests.golden.compare import compare
from tests.support.exchange_process import Exchange

BUILD_SECONDS, STORY_SECONDS, GOLDEN_SECONDS = 900.0, 240.0, 120.0
DIFFERENCES_SHOWN_MAX = 20
RESTART, RESTARTED = "restart history", "restarted"

LogLine = Callable[[str], None]


def build(client: Client) -> None:
    """Build it as its README says."""
    for command in client.build:
        run(command, client.folder, BUILD_SECONDS)


def tell(client: Client, log_line: LogLine) -> None:
    """Run its story twice on one exchange: the history is killed in the first and asked to end in the second."""
    # What an engine had started to make a snapshot may outlive it, and the folder.
    folder = tempfile.TemporaryDirectory(prefix="ordertape-story-", ignore_cleanup_errors=True)
    with folder as name, Exchange(Path(name)) as exchange:
        _tell(client, exchange, "killed", exchange.history.kill, log_line)
        _tell(client, exchange, "stopped", exchange.history.terminate, log_line)


def _tell(client: Client, exchange: Exchange, name: str, end_history: Callable[[], object], log_line: LogLine) -> None:
    def answer(line: str) -> str | None:
        log_line(line)
        if line != RESTART:
            return None
        end_history()
        exchange.history.start()
        log_line(f"({name} and started again)")
        return RESTARTED

    where = ("--engine", exchange.engine_address, "--history", exchange.history_address)
    command = (*client.story, *where, "--user", f"{client.name}-{name}")
    output = run(command, client.folder, STORY_SECONDS, answer)
    if output.count(RESTART) != 1:
        raise Failed(command, f"did not say '{RESTART}' exactly once", output)


def rewrite(client: Client, vectors: Path) -> int:
    """Let it write the golden messages in ``vectors`` again, and compare. Returns how many there are."""
    with tempfile.TemporaryDirectory(prefix="ordertape-golden-") as written:
        command = (*client.golden, str(vectors), written)
        output = run(command, client.folder, GOLDEN_SECONDS)
        differences = compare(client.name, vectors, Path(written))
    if differences:
        raise Failed(
            command, f"wrote {len(differences)} files that differ", [*output, *map(str, differences[:DIFFERENCES_SHOWN_MAX])]
        )
    return sum(1 for _ in vectors.glob("*.bin"))
