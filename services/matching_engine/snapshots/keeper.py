"""Has a snapshot made whenever the ledger has grown by so many commands, by a process of its own: order entry does not pause for
it, and whatever becomes of that process, the engine has lost nothing but a quick start.
"""

import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from services.matching_engine.exit_codes import BAD_LEDGER
from services.matching_engine.ledger import LedgerReader

POLL_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 60.0

_log = structlog.get_logger()


class SnapshotKeeper:
    """One thread and at most one process, from ``start`` to ``stop``. ``on_fatal`` is called where that process finds that the
    ledger on disk is not what was written: no engine may go on with that.
    """

    def __init__(
        self,
        command: Sequence[str],
        ledger: LedgerReader,
        last_sequence: int,
        every_commands: int,
        on_fatal: Callable[[str], None],
        *,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """``command`` makes one snapshot, with the exit codes of ``making.main``; ``last_sequence`` is that of the newest one
        that there is, 0 for none; ``every_commands`` at least 1.
        """
        self._command = command
        self._ledger = ledger
        self._last_sequence = last_sequence
        self._every_commands = every_commands
        self._on_fatal = on_fatal
        self._retry_seconds = retry_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        """Begin to watch the ledger grow."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and a snapshot that is just being made: it leaves nothing that anybody would take for one."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        wait = POLL_SECONDS
        while not self._stopping.wait(wait):
            durable = self._ledger.durable_sequence
            wait = POLL_SECONDS
            if durable - self._last_sequence >= self._every_commands:
                if self._make():
                    self._last_sequence = durable
                else:
                    wait = self._retry_seconds

    def _make(self) -> bool:
        try:
            process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)  # noqa: S603 - our own interpreter and module
        except OSError as error:
            _log.error("no snapshot could be begun", why=str(error))
            return False
        while (code := process.poll()) is None:
            if self._stopping.wait(POLL_SECONDS):
                process.kill()
                process.wait()
                return False
        if code == BAD_LEDGER:
            self._on_fatal("the ledger on disk is damaged, as the process that was making a snapshot says above")
        elif code:
            _log.error("no snapshot was made; it is tried again", exit_code=code)
        return code == 0
