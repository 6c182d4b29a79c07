"""The engine as a command asks it: since when it has been away, so that a command that waits for it knows when to give up."""

import time
from collections.abc import Iterator

from ordertape.v1 import ledger_pb2
from services.order_history.engine_client import EngineAway, EngineClient


class AskedEngine:
    """An EngineClient that remembers what became of its questions. ``trouble`` is why it did not answer the last one, empty
    where it did; ``durable_sequence`` is what it said last, at ``asked_at`` (monotonic seconds).
    """

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._away_since: float | None = None
        self.trouble = ""
        self.durable_sequence = 0
        self.asked_at = 0.0

    @property
    def away_seconds(self) -> float:
        """For how long it has not answered; 0 where it does."""
        since = self._away_since
        return 0.0 if since is None else time.monotonic() - since

    def status(self, at_sequence: int) -> ledger_pb2.GetLedgerStatusResponse:
        """See EngineClient."""
        try:
            status = self._client.status(at_sequence)
        except EngineAway as away:
            self.note(away)
            raise
        self.note(None)
        self.durable_sequence, self.asked_at = status.durable_sequence, time.monotonic()
        return status

    def replay(self, after_sequence: int) -> Iterator[ledger_pb2.LedgerFrame]:
        """See EngineClient."""
        try:
            for frame in self._client.replay(after_sequence):
                self.note(None)
                yield frame
        except EngineAway as away:
            self.note(away)
            raise

    def close(self) -> None:
        """See EngineClient."""
        self._client.close()

    def note(self, away: EngineAway | None) -> None:
        """What became of a question; None: it was answered."""
        if away is None:
            self._away_since, self.trouble = None, ""
            return
        self.trouble = str(away)
        if self._away_since is None:
            self._away_since = time.monotonic()
