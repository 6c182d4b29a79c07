"""What has to be written again, taken from a replay: whole batches whose hashes lead to the store's checkpoint."""

from collections.abc import Iterable, Iterator

from ordertape.v1 import ledger_pb2
from services.order_history.order_processor import LedgerUnreadable, ReceivedBatch, read_batch
from services.order_history.stores import Rewrite


def rewrite_of(
    frames: Iterable[ledger_pb2.LedgerFrame], rewrite: Rewrite, chunk_commands_max: int
) -> Iterator[list[ReceivedBatch]]:
    """The batches of ``rewrite`` from a replay after its beginning, in chunks of about ``chunk_commands_max`` commands.

    Raises LedgerUnreadable where the replay has a hole, or is of a ledger that has parted from the store's.
    """
    gathered: list[ReceivedBatch] = []
    sequence, ledger_hash = rewrite.after_sequence, None
    for data in (data for frame in frames for data in frame.batches):
        batch = read_batch(data, sequence + 1)
        if batch.first_sequence != sequence + 1:
            raise LedgerUnreadable(sequence + 1, "the engine's replay leaves it out")
        if ledger_hash is not None and batch.message.previous_hash != ledger_hash:
            raise LedgerUnreadable(sequence + 1, "its previous_hash is not that of the batch before it: the hash chain is broken")
        sequence, ledger_hash = batch.last_sequence, batch.hash
        gathered.append(batch)
        if sequence >= rewrite.until_sequence:
            break
        if sequence + 1 - gathered[0].first_sequence >= chunk_commands_max:
            yield gathered
            gathered = []
    if sequence != rewrite.until_sequence or ledger_hash != rewrite.hash:
        raise LedgerUnreadable(
            sequence,
            f"the engine's replay comes to {ledger_hash.hex() if ledger_hash else 'nothing'} there, "
            f"this history has {rewrite.hash.hex()} at {rewrite.until_sequence}: they have parted",
        )
    yield gathered
