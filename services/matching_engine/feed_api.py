"""LedgerFeed: the ledger, byte for byte, for whoever has to have every line of it."""

import threading
from collections.abc import Callable, Iterator
from typing import Final

import grpc

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import ledger_pb2, ledger_pb2_grpc
from services.domain.state import ExchangeState
from services.matching_engine.feed import FRAME_BYTES_MAX, frames
from services.matching_engine.ledger import Ledger, LedgerDamaged
from services.matching_engine.sequencer import Sequencer
from services.serving.failures import draining
from services.wire.errors import CallError
from services.wire.fields import Violations

_FOLLOW_HEARTBEAT_SECONDS: Final = 0.5


class LedgerFeedApi(ledger_pb2_grpc.LedgerFeedServicer):
    """Reads the ledger's files beside the sequencer, never past what is synced."""

    def __init__(self, ledger: Ledger, state: ExchangeState, sequencer: Sequencer, on_fatal: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._epoch = state.epoch
        self._sequencer = sequencer
        self._on_fatal = on_fatal
        self._draining = threading.Event()

    def stop(self) -> None:
        """End replays that follow."""
        self._draining.set()

    def ReplayLedger(
        self, request: ledger_pb2.ReplayLedgerRequest, context: grpc.ServicerContext
    ) -> Iterator[ledger_pb2.ReplayLedgerResponse]:
        """The stored batches after a sequence."""
        violations = Violations()
        if request.after_sequence < 0:
            violations.add("after_sequence", f"must be 0 or more, is {request.after_sequence}")
        violations.raise_if_any()
        durable = self._ledger.durable_sequence
        if request.after_sequence > durable:
            raise CallError(
                grpc.StatusCode.OUT_OF_RANGE,
                reasons.ERROR_REASON_POSITION_OUT_OF_RANGE,
                f"after_sequence {request.after_sequence} is beyond the durable sequence {durable}",
                metadata={"durable_sequence": str(durable)},
            )
        try:
            yield from self._replay(request.after_sequence, request.follow, context)
        except LedgerDamaged as error:
            raise self._halted(error) from error

    def _replay(self, after: int, follow: bool, context: grpc.ServicerContext) -> Iterator[ledger_pb2.ReplayLedgerResponse]:
        while True:
            durable = self._ledger.durable_sequence
            for frame in self._stored_frames(after, durable):
                yield ledger_pb2.ReplayLedgerResponse(frame=frame)
            if not follow:
                return
            after = durable
            while self._sequencer.wait_durable_beyond(after, _FOLLOW_HEARTBEAT_SECONDS) == after:
                if self._draining.is_set():
                    raise draining()
                if not context.is_active():
                    return
                yield ledger_pb2.ReplayLedgerResponse(frame=self._frame(after, ()))

    def _stored_frames(self, after: int, durable: int) -> Iterator[ledger_pb2.LedgerFrame]:
        """The batches after a sequence up to the durable one, in frames of at most 1 MiB."""
        pending: list[bytes] = []
        size = 0
        for stored in self._ledger.read(after, durable):
            if pending and size + len(stored.data) > FRAME_BYTES_MAX:
                yield self._frame(durable, pending)
                pending, size = [], 0
            pending.append(stored.data)
            size += len(stored.data)
        if pending:
            yield self._frame(durable, pending)

    def _frame(self, durable: int, batches: "list[bytes] | tuple[()]") -> ledger_pb2.LedgerFrame:
        return frames(self._ledger.ledger_id, self._epoch, durable, batches)[0]

    def GetLedgerStatus(
        self, request: ledger_pb2.GetLedgerStatusRequest, context: grpc.ServicerContext
    ) -> ledger_pb2.GetLedgerStatusResponse:
        """Which ledger this is, how far it is durable, and its hash at a sequence."""
        response = ledger_pb2.GetLedgerStatusResponse(
            ledger_id=self._ledger.ledger_id, epoch=self._epoch, durable_sequence=self._ledger.durable_sequence
        )
        if request.HasField("at_sequence"):
            try:
                found = self._ledger.hash_at(request.at_sequence)
            except LedgerDamaged as error:
                raise self._halted(error) from error
            if found is not None:
                response.hash = found
        return response

    def _halted(self, damage: LedgerDamaged) -> CallError:
        """An engine whose ledger has gone bad under it must not go on."""
        self._on_fatal(str(damage))
        return CallError(grpc.StatusCode.DATA_LOSS, reasons.ERROR_REASON_HALTED, str(damage))
