"""Compares ledger, history and engine: the ledger is read once and projected anew, the store once and as it is, and the engine is
asked for what it holds. Neither has to stand still.

The store's checkpoint is taken first. Rows beyond it belong to a history that is at work, and do not count; what the engine says
is compared with the fold of the ledger at the position of its answer.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop
from itertools import count
from typing import Final

from services.order_history.operations.differences import Difference, RowSearch, paired
from services.order_history.operations.digests import PLACED_BY_ORDER_ID, Cell, RowDigests
from services.order_history.operations.engine_questions import Answer, EngineQuestions
from services.order_history.operations.engine_state import EngineDifference, EngineState
from services.order_history.operations.ledger_reading import LedgerReading, PatientEngine, batches_of
from services.order_history.operations.open_orders import OpenOrdersCheck
from services.order_history.operations.patience import patiently
from services.order_history.operations.shown_progress import ShownProgress
from services.order_history.operations.signals import StopSignals
from services.order_history.order_processor import Chunk, LedgerUnreadable, OrderProcessor, ReceivedBatch
from services.order_history.receiver import Receiver
from services.order_history.stores import StoredRow
from services.order_history.stores.opening import ReadableStore
from services.order_history.user_share import ALL_USERS, UserShare

_ROWS_PER_LOOK: Final = 1_000


@dataclass(slots=True)
class Findings:
    """What a verification found. ``expected`` and ``found``: rows by table; ``differing_cells``: how many digests differ.
    ``unsafe_after``: rows after this sequence are written again when a history starts, since a server may have forgotten them.
    """

    places_per_cell: int = 1
    ledger_id: str = ""
    checkpoint_sequence: int = 0
    commands: int = 0
    updates: int = 0
    users: int = 0
    expected: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    beyond_checkpoint: int = 0
    unsafe_after: int | None = None
    open_orders_expected: int = 0
    open_orders_found: int = 0
    balances: int = 0
    books: int = 0
    differing_cells: int = 0
    first_cell: Cell | None = None
    rows: list[Difference] = field(default_factory=list)
    open_orders: list[Difference] = field(default_factory=list)
    engine: list[EngineDifference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.differing_cells or self.rows or self.open_orders or self.engine)


class Verification:
    """One comparison; ``run`` once. ``places_per_cell``: sequences (or order_ids) that go into one digest."""

    def __init__(
        self,
        store: ReadableStore,
        engine: PatientEngine,
        questions: EngineQuestions,
        signals: StopSignals,
        shown: ShownProgress,
        *,
        share: UserShare,
        places_per_cell: int,
        patience_seconds: float,
    ) -> None:
        self._store = store
        self._engine = engine
        self._questions = questions
        self._signals = signals
        self._shown = shown
        self._share = share
        self._places_per_cell = places_per_cell
        self._patience_seconds = patience_seconds
        self._processor = OrderProcessor(share)
        self._everybody = OrderProcessor()
        self._state = EngineState()
        self._expected = RowDigests(places_per_cell)
        self._found = RowDigests(places_per_cell)
        self._order_id_max = 0
        # Where in the ledger the orders of a cell were placed: first and last sequence.
        self._placed: dict[int, list[int]] = {}
        self._findings = Findings(places_per_cell)

    def run(self) -> Findings:
        """Compare everything. Raises LedgerUnreadable where ledger and store have parted or the ledger cannot be right,
        EngineAway, StoreUnavailable, StoreDamaged, Stop.
        """
        findings, store = self._findings, self._store
        checkpoint, rewrite = store.checkpoint(), store.due_rewrite()
        findings.unsafe_after = None if rewrite is None else rewrite.after_sequence
        at = Receiver(checkpoint.ledger_id, checkpoint.sequence, checkpoint.hash)
        at.on_status(self._engine.status(checkpoint.sequence))
        findings.ledger_id, findings.checkpoint_sequence = at.ledger_id, checkpoint.sequence
        open_orders = OpenOrdersCheck(store.active_orders.read_all())
        reading = LedgerReading(self._engine, at.ledger_id)
        self._shown.begin("reading the ledger", "commands")
        for batches in reading.up_to(checkpoint.sequence):
            self._expect(batches)
            self._shown.move(reading.sequence, checkpoint.sequence)
        if reading.hash != checkpoint.hash:
            raise LedgerUnreadable(checkpoint.sequence, "the ledger's hash is another one there than when it was asked first")
        open_orders.at_checkpoint(
            checkpoint.sequence, {n: order for n, order in self._state.open_orders.items() if self._share.owns(order.user_id)}
        )
        patiently(self._scan, self._patience_seconds, self._signals, self._shown)
        answers = self._ask()
        later = self._read_on(reading, answers, open_orders)
        findings.commands = reading.sequence
        findings.open_orders_expected, findings.open_orders_found = open_orders.expected, open_orders.found
        findings.open_orders = open_orders.differences()
        self._compare(later)
        return findings

    def _expect(self, batches: Sequence[ReceivedBatch]) -> None:
        chunk = self._project(batches)
        self._expected.add(self._store.rows_of(chunk))
        self._findings.updates += len(chunk.updates)
        for placed in chunk.placed:
            self._order_id_max = max(self._order_id_max, placed.order_id)
            place = self._placed.setdefault(placed.order_id // self._places_per_cell, [placed.sequence, 0])
            place[1] = placed.sequence

    def _project(self, batches: Sequence[ReceivedBatch]) -> Chunk:
        """The share's chunk; the engine's state takes in what is of all users."""
        ledger_id = self._findings.ledger_id
        chunk = self._processor.project(ledger_id, batches)
        self._state.apply(batches, chunk if self._share == ALL_USERS else self._everybody.project(ledger_id, batches))
        return chunk

    def _scan(self) -> None:
        expected = sum(self._expected.counts().values())
        self._found = RowDigests(self._places_per_cell)
        self._findings.beyond_checkpoint = 0
        self._shown.begin("reading the store", "rows")
        rows: list[StoredRow] = []
        done = 0
        for row in self._counted(self._store.stored_rows()):
            rows.append(row)
            if len(rows) == _ROWS_PER_LOOK:
                self._found.add(rows)
                done += len(rows)
                rows.clear()
                self._shown.move(done, max(done, expected))
                self._signals.check()
        self._found.add(rows)

    def _counted(self, rows: Iterable[StoredRow]) -> Iterator[StoredRow]:
        """The share's rows that are not of a place beyond the checkpoint."""
        sequence_max, order_id_max, share = self._findings.checkpoint_sequence, self._order_id_max, self._share
        all_users = share == ALL_USERS
        for row in rows:
            if row.place > (order_id_max if row.table in PLACED_BY_ORDER_ID else sequence_max):
                self._findings.beyond_checkpoint += 1
            elif all_users or (row.user_id and share.owns(row.user_id)):
                yield row

    def _ask(self) -> list[Answer]:
        """Ask the engine for each user's balances and each instrument's book."""
        users = self._state.balances.keys() | self._expected.users()
        ledger_id = self._findings.ledger_id
        self._findings.users = len(users)
        self._shown.begin("asking the engine", "balances")
        answers: list[Answer] = []
        for answer in self._questions.balances(ledger_id, sorted(users)):
            answers.append(answer)
            self._shown.move(len(answers), len(users))
        self._findings.balances = len(answers)
        answers += self._questions.books(ledger_id, sorted(self._state.trading_statuses))
        self._findings.books = len(answers) - self._findings.balances
        return answers

    def _read_on(self, reading: LedgerReading, answers: Sequence[Answer], open_orders: OpenOrdersCheck) -> set[StoredRow]:
        """Read the ledger to where all that was seen of store and engine is in it; what it leaves there without a place."""
        numbers = count()
        waiting = [(answer.sequence, next(numbers), answer) for answer in answers]
        heapify(waiting)
        end = max(self._engine.status(0).durable_sequence, *(answer.sequence for answer in answers), 0)
        later: set[StoredRow] = set()
        self._shown.begin("reading what came meanwhile", "commands")
        while True:
            while waiting and waiting[0][0] == reading.sequence:
                self._findings.engine += heappop(waiting)[2].check(self._state)
            if waiting and waiting[0][0] < reading.sequence:
                raise LedgerUnreadable(waiting[0][0], "the engine answers from there, which is before the store's checkpoint")
            if reading.sequence >= end:
                return later
            for batches in reading.up_to(waiting[0][0] if waiting else end):
                chunk = self._project(batches)
                open_orders.after_checkpoint(chunk)
                later.update(row for row in self._store.rows_of(chunk) if not row.place)
                self._shown.move(reading.sequence, end)

    def _compare(self, later: set[StoredRow]) -> None:
        findings, expected, found = self._findings, self._expected, self._found
        if self._share != ALL_USERS:
            # What says no user may be of another share.
            expected.placeless = {row for row in expected.placeless if row.user_id}
        found.placeless -= later - expected.placeless
        placeless = paired(expected.placeless - found.placeless, found.placeless - expected.placeless)
        findings.expected, findings.found = expected.counts(), found.counts()
        cells = sorted(expected.differing(found), key=lambda cell: (self._begin_of(cell), cell))
        findings.differing_cells = len(cells)
        if cells:
            findings.first_cell = cells[0]
            findings.rows = self._rows_of(cells[0])
        findings.rows += placeless

    def _begin_of(self, cell: Cell) -> int:
        """About where in the ledger a cell begins."""
        if cell.table in PLACED_BY_ORDER_ID:
            first_sequence, _ = self._placed.get(cell.number, [self._findings.checkpoint_sequence, 0])
            return first_sequence // self._places_per_cell
        return cell.number

    def _rows_of(self, cell: Cell) -> list[Difference]:
        """The rows of the cell that differ: the ledger and the store are read again for them."""
        by_order_id = cell.table in PLACED_BY_ORDER_ID
        sequence_max = self._findings.checkpoint_sequence
        search = RowSearch(cell, self._places_per_cell, self._order_id_max if by_order_id else sequence_max)
        if by_order_id:
            first_sequence, last_sequence = self._placed.get(cell.number, [1, 0])
        else:
            first_sequence = cell.number * self._places_per_cell
            last_sequence = min(first_sequence + self._places_per_cell - 1, sequence_max)
        for batches in batches_of(self._engine, max(1, first_sequence), last_sequence):
            search.expect(self._store.rows_of(self._processor.project(self._findings.ledger_id, batches)))
        search.find(self._store.stored_rows())
        return search.differences()
