"""``rebuild``: fills a store from the ledger, beside the history that runs on another one. So a store that was lost is made anew,
and so one moves from SQLite to ScyllaDB or back.

It is the history's own ingest with the engine's replay as its only source: the same checks, the same rows, the same checkpoint
after each chunk. So it can be stopped or killed at any moment and run again, and the history goes on where it ended.
"""

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final

from services.order_history.command_line import BadSettings, add_settings, add_waiting, keep_logs_quiet, settings_of
from services.order_history.config import SQLITE, HistorySettings
from services.order_history.engine_client import EngineClient
from services.order_history.exit_codes import BAD_CONFIG, BAD_LEDGER, CANNOT_START, ENGINE_AWAY, STORE_AWAY
from services.order_history.ingest import Ingest
from services.order_history.operations.asked_engine import AskedEngine
from services.order_history.operations.ledger_reading import TELL_SECONDS
from services.order_history.operations.patience import patiently
from services.order_history.operations.shown_progress import ShownProgress
from services.order_history.operations.signals import Stop, StopSignals
from services.order_history.order_processor import Chunk, OrderProcessor, StoredUpdate
from services.order_history.receiver import Receiver
from services.order_history.stores import HistoryStore, StoreDamaged, StoreRefused, StoreUnavailable
from services.order_history.stores.cql_settings import without_password
from services.order_history.stores.opening import open_store
from services.order_history.view import Progress

_TICK_SECONDS: Final = 0.05
# How often the engine is asked for more once all is stored, and how old its answer may be for that to be the end.
_ASK_SECONDS, _RECENT_SECONDS = 0.2, 0.5


def main(arguments: Sequence[str]) -> int:
    """Fill the store; the exit code is one of exit_codes.py, 130 or 143 where a signal stopped it."""
    given = _parser().parse_args(arguments)
    try:
        settings = settings_of(given)
    except BadSettings as error:
        print(error, file=sys.stderr)
        return BAD_CONFIG
    keep_logs_quiet()
    with StopSignals() as signals, ShownProgress(quiet=given.quiet) as shown:
        try:
            store = patiently(lambda: open_store(settings), given.patience, signals, shown)
        except Stop:
            return signals.exit_code
        except (StoreRefused, StoreDamaged) as error:
            shown.say(f"the rebuild does not start: {error}")
            return CANNOT_START
        except StoreUnavailable as error:
            shown.say(f"the rebuild does not start: {error}")
            return STORE_AWAY
        try:
            return Rebuild(settings, store, shown, given.patience, follow=given.follow).run(signals)
        finally:
            store.close()


class NoFeed:
    """A feed that brings nothing, so that all comes from the engine's replay, which is asked for whenever this is silent."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping

    def wait(self, timeout_seconds: float) -> None:
        """See Feed."""
        self._stopping.wait(timeout_seconds)

    def take_connected(self) -> bool:
        """See Feed."""
        return False

    def receive(self) -> bytes | None:
        """See Feed."""
        return None


class Heard:
    """The ingest's listener: how far the store is, what troubles it, and why it halted (empty: it did not)."""

    def __init__(self, applied_sequence: int, begun: bool) -> None:
        self.applied_sequence = applied_sequence
        self.durable_sequence = applied_sequence
        self.begun = begun
        self.halt_reason = ""
        self.store_trouble = ""
        self._store_away_since: float | None = None

    @property
    def store_away_seconds(self) -> float:
        """For how long the store has not taken anything; 0 where it does."""
        since = self._store_away_since
        return 0.0 if since is None else time.monotonic() - since

    def begin(self, open_orders: Sequence[StoredUpdate]) -> None:  # noqa: ARG002
        """See Listener."""
        self.begun = True

    def advance(self, chunk: Chunk, progress: Progress) -> None:
        """See Listener."""
        self.applied_sequence = chunk.last_sequence
        self.observe(progress)

    def observe(self, progress: Progress) -> None:
        """See Listener."""
        self.durable_sequence = max(self.durable_sequence, progress.durable_sequence)
        self.store_trouble = progress.store_trouble
        if not progress.store_trouble:
            self._store_away_since = None
        elif self._store_away_since is None:
            self._store_away_since = time.monotonic()

    def halt(self, reason: str) -> None:
        """See Listener."""
        self.halt_reason = reason


class Rebuild:
    """One run. ``patience_seconds``: how long the engine or the store may be away. ``follow``: go on until a signal comes."""

    def __init__(
        self, settings: HistorySettings, store: HistoryStore, shown: ShownProgress, patience_seconds: float, *, follow: bool
    ) -> None:
        self._settings = settings
        self._shown = shown
        self._patience_seconds = patience_seconds
        self._follow = follow
        checkpoint, rewrite = store.checkpoint(), store.due_rewrite()
        self._heard = Heard(checkpoint.sequence, rewrite is None)
        if rewrite is not None:
            shown.say(f"sequences {rewrite.after_sequence + 1} to {rewrite.until_sequence} are written again first")
        self._engine = AskedEngine(
            EngineClient(settings.engine_address, settings.engine_timeout_seconds, settings.replay_timeout_seconds)
        )
        receiver = Receiver(checkpoint.ledger_id, checkpoint.sequence, checkpoint.hash, silence_seconds=_ASK_SECONDS)
        self._stopping = threading.Event()
        self._ingest = Ingest(
            receiver,
            OrderProcessor(settings.share),
            store,
            self._engine,
            lambda: nullcontext(NoFeed(self._stopping)),
            self._heard,
            chunk_commands_max=settings.chunk_commands_max,
            begun=rewrite is None,
        )
        self._thread = threading.Thread(target=self._ingest.run, name="ingest")

    def run(self, signals: StopSignals) -> int:
        """Fill the store to the ledger's end, say what to do next; the exit code."""
        self._shown.begin("rebuild", "commands")
        self._thread.start()
        try:
            code = self._watch(signals)
        finally:
            self._end()
        if signals.asked.is_set():
            again = "" if self._is_complete() else "; run it again to go on"
            self._shown.say(f"stopped at sequence {self._heard.applied_sequence} of {self._heard.durable_sequence}{again}")
            return signals.exit_code
        return code

    def _watch(self, signals: StopSignals) -> int:
        heard, engine, told = self._heard, self._engine, ""
        caught_up = False
        while not signals.asked.wait(_TICK_SECONDS):
            self._shown.move(heard.applied_sequence, max(heard.durable_sequence, heard.applied_sequence))
            if heard.halt_reason:
                self._shown.say(f"the rebuild cannot go on: {heard.halt_reason}")
                return BAD_LEDGER
            if not caught_up and self._is_complete() and time.monotonic() - engine.asked_at < _RECENT_SECONDS:
                caught_up = True
                self._tell_end()
                if not self._follow:
                    return 0
            away_seconds = max(heard.store_away_seconds, engine.away_seconds)
            trouble = (heard.store_trouble or engine.trouble) if away_seconds > TELL_SECONDS else ""
            if trouble and not told:
                self._shown.say(f"waiting: {trouble}")
            told = trouble
            if heard.store_away_seconds > self._patience_seconds:
                self._shown.say(f"the store is away: {heard.store_trouble}{self._so_far()}")
                return STORE_AWAY
            if engine.away_seconds > self._patience_seconds:
                self._shown.say(f"the engine is away: {engine.trouble}{self._so_far()}")
                return ENGINE_AWAY
        return 0

    def _is_complete(self) -> bool:
        return self._heard.begun and bool(self._engine.asked_at) and self._heard.applied_sequence >= self._engine.durable_sequence

    def _tell_end(self) -> None:
        applied = self._heard.applied_sequence
        later = max(0, self._engine.durable_sequence - applied)
        meanwhile = f" (all but {later} commands that came meanwhile)" if later else ""
        set_to = f"ORDERTAPE_HISTORY_STORE={without_password(self._settings.store)}"
        if self._settings.store == SQLITE:
            set_to += f" ORDERTAPE_HISTORY_DATA_DIR={self._settings.data_dir.resolve()}"
        self._shown.tell(
            f"the new store has everything up to sequence {applied}{meanwhile}: stop the history, start it with {set_to}, "
            "it applies the rest itself"
        )

    def _so_far(self) -> str:
        return f" (stopped at sequence {self._heard.applied_sequence} of {self._heard.durable_sequence}; run it again to go on)"

    def _end(self) -> None:
        """Let the chunk that is being stored be finished."""
        self._stopping.set()
        self._ingest.stop()
        self._engine.close()
        self._thread.join()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ordertape rebuild",
        description="Fills a new or partly filled store from the engine's ledger. A history may run, on another store.",
        epilog="Exit codes: 0 filled; 65 ledger and store have parted, or one is damaged; 69 the engine is away; 71 the store is "
        "refused; 74 the store is away; 78 a setting is wrong; 130 or 143 stopped by a signal. Every setting of the history can "
        "be given as ORDERTAPE_HISTORY_NAME or in the TOML file too, a store's address best so: there nobody sees its password.",
    )
    add_settings(parser, ("store", "data_dir", "engine_address", "chunk_commands_max"))
    parser.add_argument("--follow", action="store_true", help="go on with what comes later, until a signal comes")
    add_waiting(parser)
    return parser
