"""The ingest thread: hears the feed, repairs what is missing, stores chunk after chunk, and tells the event loop.

It owns everything that waits: the feed's socket, the calls to the engine, the store's writes. What to do next is the
receiver's decision, what a chunk comes to is the processor's; here it is only done, again and again where the engine or the
store is away. What cannot be right ends it: it tells why, and nothing later is stored.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Protocol

import structlog

from ordertape.v1 import ledger_pb2
from services.order_history.engine_client import EngineAway
from services.order_history.order_processor import Chunk, LedgerUnreadable, OrderProcessor, ReceivedBatch, StoredUpdate
from services.order_history.receiver import Next, Receiver
from services.order_history.rewriting import rewrite_of
from services.order_history.stores import HistoryStore, Rewrite, StoreDamaged, StoreUnavailable
from services.order_history.view import HistoryView, Progress

_POLL_SECONDS = 0.05
_RETRY_SECONDS, _RETRY_SECONDS_MAX = 0.1, 2.0
# So many holes within a minute are no accident: a second receiver on the address takes a share of the frames.
_GAPS_ALARM, _GAPS_ALARM_SECONDS = 5, 60.0

log = structlog.stdlib.get_logger(__name__)


class Feed(Protocol):
    """The live end of the feed; see FeedSocket."""

    def wait(self, timeout_seconds: float) -> None:
        """Return when there is something to receive or to know."""
        ...

    def take_connected(self) -> bool:
        """Whether the connection was made (anew) since the last call."""
        ...

    def receive(self) -> bytes | None:
        """The next frame, None where there is none."""
        ...


class Engine(Protocol):
    """What is asked of the engine; see EngineClient."""

    def status(self, at_sequence: int) -> ledger_pb2.GetLedgerStatusResponse:
        """The ledger's state. Raises EngineAway."""
        ...

    def replay(self, after_sequence: int) -> Iterator[ledger_pb2.LedgerFrame]:
        """Every durable batch after a sequence. Raises EngineAway."""
        ...


class Listener(Protocol):
    """Hears, in the ingest thread, what was done. May wait: then ingest waits too."""

    def begin(self, open_orders: Sequence[StoredUpdate]) -> None:
        """The store may be read from now on; these orders are open at its checkpoint."""
        ...

    def advance(self, chunk: Chunk, progress: Progress) -> None:
        """A chunk is stored."""
        ...

    def observe(self, progress: Progress) -> None:
        """Something else has changed."""
        ...

    def halt(self, reason: str) -> None:
        """Nothing more will come; ``reason`` names the sequence."""
        ...


class LoopHandover:
    """The listener that tells the event loop's view. At most ``chunks_max`` chunks are on their way: a loop that is busy slows
    ingest down rather than fill the memory.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, view: HistoryView, chunks_max: int = 8) -> None:
        self._loop = loop
        self._view = view
        self._places = threading.BoundedSemaphore(chunks_max)

    def begin(self, open_orders: Sequence[StoredUpdate]) -> None:
        """See Listener."""
        self._loop.call_soon_threadsafe(self._view.begin, open_orders)

    def advance(self, chunk: Chunk, progress: Progress) -> None:
        """See Listener."""
        self._places.acquire()
        self._loop.call_soon_threadsafe(self._advance, chunk, progress)

    def observe(self, progress: Progress) -> None:
        """See Listener."""
        self._loop.call_soon_threadsafe(self._view.observe, progress)

    def halt(self, reason: str) -> None:
        """See Listener."""
        self._loop.call_soon_threadsafe(self._view.halt, reason)

    def _advance(self, chunk: Chunk, progress: Progress) -> None:
        self._places.release()
        self._view.advance(chunk, progress)


class Ingest:
    """``run`` is the thread's body; ``stop`` may come from any thread.

    ``chunk_commands_max``: a chunk is stored when it has so many ledger commands, or when nothing more is there at this
    moment. ``begun``: the listener knows already what is open; else it is told when the store may be read. ``stored`` gets every
    batch after it is stored, once and in order.
    """

    def __init__(
        self,
        receiver: Receiver,
        processor: OrderProcessor,
        store: HistoryStore,
        engine: Engine,
        open_feed: Callable[[], AbstractContextManager[Feed]],
        listener: Listener,
        *,
        chunk_commands_max: int,
        begun: bool = True,
        stored: Callable[[Sequence[ReceivedBatch]], None] | None = None,
    ) -> None:
        self._receiver = receiver
        self._processor = processor
        self._store = store
        self._engine = engine
        self._open_feed = open_feed
        self._listener = listener
        self._chunk_commands_max = chunk_commands_max
        self._stored = stored
        self._stopping = threading.Event()
        self._begun = begun
        self._rewriting: Rewrite | None = None
        self._first_durable_sequence: int | None = None
        self._store_trouble = ""
        self._observed: Progress | None = None
        self._engine_away = False
        self._retry_seconds = _RETRY_SECONDS
        self._gap_times: deque[float] = deque(maxlen=_GAPS_ALARM)

    def stop(self) -> None:
        """Finish the chunk that is being stored and end ``run``. Close the engine's client too, to end its calls."""
        self._stopping.set()

    def run(self) -> None:
        """Follow the ledger until stopped or halted."""
        try:
            with self._open_feed() as feed:
                while not self._stopping.is_set():
                    self._step(feed)
        except (LedgerUnreadable, StoreDamaged) as damage:
            log.critical("halted", reason=str(damage))
            self._listener.halt(str(damage))
        except Exception as defect:
            log.critical("halted by a defect", exc_info=True)
            self._listener.halt(f"after sequence {self._receiver.sequence}: a defect: {defect!r}")

    def _step(self, feed: Feed) -> None:
        receiver = self._receiver
        if feed.take_connected():
            receiver.on_connected()
        try:
            rewrite = self._store.due_rewrite()
            if rewrite is None and self._begun:
                self._store_trouble = ""
            if receiver.next is Next.ASK:
                self._ask()
            elif rewrite is not None:
                self._rewrite(rewrite)
            elif not self._begun:
                self._begin()
            elif receiver.next is Next.REPLAY:
                self._replay()
            else:
                self._listen(feed)
        except EngineAway as away:
            receiver.on_engine_away()
            self._wait_for_engine(away)
        except StoreUnavailable as down:
            self._wait_for_store(down)
        finally:
            # Also when what came next cannot be right: what came before it is right and is stored.
            self._store_received()
        self._observe()

    def _ask(self) -> None:
        status = self._engine.status(self._receiver.sequence)
        self._receiver.on_status(status)
        if self._engine_away:
            self._engine_away = False
            log.info("engine back", epoch=status.epoch, durable_sequence=status.durable_sequence)
        if self._first_durable_sequence is None:
            self._first_durable_sequence = status.durable_sequence
            log.info("ledger met", ledger_id=status.ledger_id, epoch=status.epoch, durable_sequence=status.durable_sequence)

    def _begin(self) -> None:
        """Hand over what is open once no row is missing that could tell of it."""
        self._listener.begin(list(self._store.active_orders.read_all()))
        self._begun, self._store_trouble = True, ""

    def _rewrite(self, rewrite: Rewrite) -> None:
        """Write again what a lost server may have forgotten: rows only, nobody is told of it. Ends early where the server turns
        out to have forgotten nothing, or more is lost; goes on where it was broken off, unless more was lost since.
        """
        if self._rewriting is not None and self._rewriting.loss >= rewrite.loss:
            rewrite = rewrite._replace(after_sequence=self._rewriting.after_sequence)
        self._store_trouble = "rows that a lost server may have forgotten are written again, which needs the engine"
        self._observe()
        log.info("writing again", after_sequence=rewrite.after_sequence, until_sequence=rewrite.until_sequence)
        frames = self._engine.replay(rewrite.after_sequence)
        for batches in rewrite_of(frames, rewrite, self._chunk_commands_max):
            self._store.rewrite(self._processor.project(self._receiver.ledger_id, batches))
            self._rewriting = rewrite._replace(after_sequence=batches[-1].last_sequence)
            due = self._store.due_rewrite()
            if self._stopping.is_set() or due is None or due.loss > rewrite.loss:
                return
        self._store.settle(rewrite)
        self._rewriting, self._store_trouble = None, ""
        log.info("written again", until_sequence=rewrite.until_sequence)

    def _wait_for_store(self, down: StoreUnavailable) -> None:
        self._store_trouble = str(down)
        log.error("store down", reason=str(down))
        self._observe()
        self._stopping.wait(self._retry_seconds)
        self._retry_seconds = min(self._retry_seconds * 2, _RETRY_SECONDS_MAX)

    def _wait_for_engine(self, away: EngineAway) -> None:
        self._store_received()
        self._observe()
        if not self._engine_away and not self._stopping.is_set():
            self._engine_away = True
            log.warning("engine away, asking again until it is back", reason=str(away))
        self._stopping.wait(self._retry_seconds)
        self._retry_seconds = min(self._retry_seconds * 2, _RETRY_SECONDS_MAX)

    def _replay(self) -> None:
        receiver = self._receiver
        began_after, repairs = receiver.sequence, receiver.gaps_repaired
        self._observe()
        for frame in self._engine.replay(began_after):
            receiver.on_replayed(frame)
            if receiver.received_commands >= self._chunk_commands_max:
                self._store_received()
            if self._stopping.is_set() or self._store.due_rewrite() is not None:
                return
        receiver.on_replay_end()
        self._retry_seconds = _RETRY_SECONDS
        log.info("replayed", after_sequence=began_after, until_sequence=receiver.sequence)
        if receiver.gaps_repaired > repairs:
            self._note_gap()

    def _listen(self, feed: Feed) -> None:
        receiver = self._receiver
        self._retry_seconds = _RETRY_SECONDS
        feed.wait(_POLL_SECONDS)
        now = time.monotonic()
        while receiver.next is Next.LISTEN and receiver.received_commands < self._chunk_commands_max:
            frame = feed.receive()
            if frame is None:
                receiver.on_tick(now)
                return
            receiver.on_frame(frame, now)

    def _store_received(self) -> None:
        batches = self._receiver.take_received()
        if not batches:
            return
        try:
            chunk = self._processor.project(self._receiver.ledger_id, batches)
        except LedgerUnreadable as damage:
            whole = [batch for batch in batches if batch.last_sequence < damage.sequence]
            if whole:
                self._store_chunk(self._processor.project(self._receiver.ledger_id, whole), whole)
            raise
        self._store_chunk(chunk, batches)

    def _store_chunk(self, chunk: Chunk, batches: Sequence[ReceivedBatch]) -> None:
        """Store it, however long that takes: to go on without it would be to skip it."""
        retry_seconds = _RETRY_SECONDS
        while True:
            try:
                self._store.apply(chunk)
                break
            except StoreUnavailable as down:
                self._store_trouble = str(down)
                log.error("store down", reason=str(down), first_sequence=chunk.first_sequence, retry_seconds=retry_seconds)
                self._ask_how_far()
                self._observe()
                if self._stopping.wait(retry_seconds):
                    return
                retry_seconds = min(retry_seconds * 2, _RETRY_SECONDS_MAX)
        self._store_trouble = ""
        if self._stored is not None:
            self._stored(batches)
        self._observed = self._progress()
        self._listener.advance(chunk, self._observed)

    def _ask_how_far(self) -> None:
        """Nothing can be received meanwhile, so the engine is asked for what its heartbeats would tell."""
        with suppress(EngineAway):
            self._receiver.on_engine_at(self._engine.status(self._receiver.sequence).durable_sequence)

    def _observe(self) -> None:
        progress = self._progress()
        if progress != self._observed:
            self._observed = progress
            self._listener.observe(progress)

    def _progress(self) -> Progress:
        receiver = self._receiver
        return Progress(
            ledger_id=receiver.ledger_id,
            durable_sequence=receiver.durable_sequence,
            first_durable_sequence=self._first_durable_sequence,
            live=receiver.next is Next.LISTEN,
            gaps_repaired=receiver.gaps_repaired,
            store_trouble=self._store_trouble,
        )

    def _note_gap(self) -> None:
        now = time.monotonic()
        self._gap_times.append(now)
        if len(self._gap_times) == _GAPS_ALARM and now - self._gap_times[0] < _GAPS_ALARM_SECONDS:
            log.error("the feed keeps losing frames: is a second receiver attached to the same address?")
            self._gap_times.clear()
        else:
            log.warning("gap in the feed repaired", gaps_repaired=self._receiver.gaps_repaired)
