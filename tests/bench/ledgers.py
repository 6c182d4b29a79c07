"""A ledger as the history reads it, from memory: so that nothing but the reader is measured."""

from collections.abc import Iterator
from pathlib import Path

from ordertape.v1 import ledger_pb2
from services.matching_engine.feed import frames
from services.matching_engine.ledger import SegmentReader
from services.order_history.config import HistorySettings
from services.order_history.order_processor import Chunk, OrderProcessor, ReceivedBatch, read_batch


class Ledger:
    """A ledger as an engine replays it: what the ingest thread asks (Engine in ingest.py)."""

    def __init__(self, folder: Path) -> None:
        reader = SegmentReader.open(folder)
        self.ledger_id, self.last_sequence = reader.ledger_id, reader.durable_sequence
        replayed = frames(self.ledger_id, 1, self.last_sequence, [stored.data for stored in reader.read()])
        self._replayed = [frame.SerializeToString() for frame in replayed]

    def status(self, at_sequence: int) -> ledger_pb2.GetLedgerStatusResponse:  # noqa: ARG002 - asked by an empty history
        """The ledger's state."""
        return ledger_pb2.GetLedgerStatusResponse(ledger_id=self.ledger_id, epoch=1, durable_sequence=self.last_sequence)

    def replay(self, after_sequence: int) -> Iterator[ledger_pb2.LedgerFrame]:  # noqa: ARG002 - asked by an empty history
        """All batches."""
        return map(ledger_pb2.LedgerFrame.FromString, self._replayed)

    def batches(self) -> Iterator[ReceivedBatch]:
        """All batches, each parsed when it is asked for."""
        sequence = 0
        for frame in self.replay(0):
            for data in frame.batches:
                batch = read_batch(data, sequence + 1)
                sequence = batch.last_sequence
                yield batch

    def chunks(self, processor: OrderProcessor) -> Iterator[Chunk]:
        """The whole ledger in chunks as the ingest stores it from a replay: what a frame brings is never parted."""
        commands_max = HistorySettings().chunk_commands_max
        gathered: list[ReceivedBatch] = []
        for frame in self.replay(0):
            for data in frame.batches:
                gathered.append(read_batch(data, gathered[-1].last_sequence + 1 if gathered else 1))
            if gathered[-1].last_sequence + 1 - gathered[0].first_sequence >= commands_max:
                yield processor.project(self.ledger_id, gathered)
                gathered = []
        if gathered:
            yield processor.project(self.ledger_id, gathered)
