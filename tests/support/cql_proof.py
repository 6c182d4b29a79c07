"""What must be true of a CQL store at the end of every run: its tables are the fold of the ledger, no row less and none more."""

from collections import Counter
from collections.abc import Iterator, Sequence

from ordertape.v1 import order_pb2
from services.order_history.order_processor import Chunk, OrderProcessor, ReceivedBatch
from services.order_history.stores import StoredRow, StoreUnavailable
from services.order_history.stores.cql import CqlHistoryStore
from services.order_history.stores.cql_session import CqlSession
from services.order_history.stores.cql_settings import CqlSettings
from tests.support.eventually import eventually

CHUNK_BATCHES = 1_000


def prove_fold_in_keyspace(
    settings: CqlSettings, ledger_id: str, batches: Sequence[ReceivedBatch], open_orders: Sequence[order_pb2.OrderUpdate]
) -> None:
    """The keyspace has the rows of the batches, these open orders, and its checkpoint at their end. No history runs on it."""
    store = CqlHistoryStore(settings)
    try:
        at = store.checkpoint()
        assert (at.ledger_id, at.sequence, at.hash) == (ledger_id, batches[-1].last_sequence, batches[-1].hash)
        # Hashes, for the rows of a long ledger do not fit into the memory twice.
        stored = Counter(map(hash, store.stored_rows()))
        expected = set[int]()
        for chunk in chunks_of(ledger_id, batches):
            for row in store.rows_of(chunk):
                assert hash(row) in stored, f"it is not there, or is another: {row}"
                expected.add(hash(row))
        assert stored.keys() == expected, f"{len(stored.keys() - expected)} rows are not of the ledger"
        assert stored.total() == len(expected), "rows are there twice"
        assert [update.message for update in store.active_orders.read_all()] == list(open_orders)
        assert _count_of_open(settings) == len(open_orders)
    finally:
        store.close()


def rows_missing(settings: CqlSettings, ledger_id: str, batches: Sequence[ReceivedBatch]) -> int:
    """How many rows of the batches are not in the keyspace at this moment; waits for a server that is only just there."""

    def count() -> int | None:
        try:
            store = CqlHistoryStore(settings)
        except StoreUnavailable as down:
            raise AssertionError(str(down)) from down
        try:
            return len(_rows_of(store, ledger_id, batches).difference(store.stored_rows())) + 1
        except StoreUnavailable as down:
            raise AssertionError(str(down)) from down
        finally:
            store.close()

    found = eventually(count, 60)
    assert found is not None
    return found - 1


def chunks_of(ledger_id: str, batches: Sequence[ReceivedBatch]) -> Iterator[Chunk]:
    """The batches as a history stores them."""
    processor = OrderProcessor()
    for begin in range(0, len(batches), CHUNK_BATCHES):
        yield processor.project(ledger_id, list(batches[begin : begin + CHUNK_BATCHES]))


def _rows_of(store: CqlHistoryStore, ledger_id: str, batches: Sequence[ReceivedBatch]) -> set[StoredRow]:
    return {row for chunk in chunks_of(ledger_id, batches) for row in store.rows_of(chunk)}


def _count_of_open(settings: CqlSettings) -> int:
    session = CqlSession(settings)
    try:
        session.use_keyspace()
        return len(session.execute("SELECT order_id FROM active_orders"))
    finally:
        session.close()
