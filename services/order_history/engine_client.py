"""The engine as the history sees it: what its ledger is, and every batch of it again from any place. One client is for the
ingest thread, which can wait; the other for the event loop, which cannot.
"""

from collections.abc import Iterator

import grpc
import grpc.aio

from ordertape.v1 import ledger_pb2, ledger_pb2_grpc

# The largest batch (one order with its 5 000 trades) is about 8 MB.
_MESSAGE_BYTES_MAX = 64 * 1024 * 1024
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    # Who is frozen or cut off in the middle of an answer is noticed by pings that are not answered.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Two clients of one process would share a connection otherwise, and a replay's flow control with it.
    ("grpc.use_local_subchannel_pool", 1),
)
"""How the history calls another service."""


class EngineAway(Exception):
    """The engine could not be asked, or left in the middle of its answer. Not a halt: asking again later may go well."""


class EngineClient:
    """LedgerFeed at ``address`` (HOST:PORT), for one thread; ``close`` alone may come from another."""

    def __init__(self, address: str, status_timeout_seconds: float, replay_timeout_seconds: float) -> None:
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = ledger_pb2_grpc.LedgerFeedStub(self._channel)
        self._status_timeout_seconds = status_timeout_seconds
        self._replay_timeout_seconds = replay_timeout_seconds

    def status(self, at_sequence: int) -> ledger_pb2.GetLedgerStatusResponse:
        """The ledger's state with its hash at ``at_sequence``. Raises EngineAway."""
        request = ledger_pb2.GetLedgerStatusRequest(at_sequence=at_sequence)
        try:
            return self._stub.GetLedgerStatus(request, timeout=self._status_timeout_seconds)
        except (grpc.RpcError, ValueError) as error:
            raise EngineAway(_why("GetLedgerStatus", error)) from error

    def replay(self, after_sequence: int) -> Iterator[ledger_pb2.LedgerFrame]:
        """Every batch after ``after_sequence`` that is durable now. Raises EngineAway, also in the middle: where the engine
        leaves, hangs, or has more than it can send within the timeout.
        """
        request = ledger_pb2.ReplayLedgerRequest(after_sequence=after_sequence)
        try:
            call = self._stub.ReplayLedger(request, timeout=self._replay_timeout_seconds)
            try:
                for response in call:
                    yield response.frame
            finally:
                call.cancel()
        except (grpc.RpcError, ValueError) as error:
            raise EngineAway(_why("ReplayLedger", error)) from error

    def close(self) -> None:
        """End whatever is being asked, from any thread: it raises EngineAway there, as does all that is asked later."""
        self._channel.close()


class AsyncEngineClient:
    """LedgerFeed at ``address`` (HOST:PORT), for the event loop that runs when it is made."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = ledger_pb2_grpc.LedgerFeedStub(self._channel)

    async def durable_sequence(self, timeout_seconds: float) -> int:
        """The last sequence that the engine has synced, at some moment of this call. Raises EngineAway."""
        try:
            status = await self._stub.GetLedgerStatus(ledger_pb2.GetLedgerStatusRequest(), timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise EngineAway(_why("GetLedgerStatus", error)) from error
        return status.durable_sequence

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()


def _why(method: str, error: grpc.RpcError | ValueError) -> str:
    if isinstance(error, grpc.Call):
        return f"{method}: {error.code().name} {error.details()}"
    return f"{method}: {error}"
