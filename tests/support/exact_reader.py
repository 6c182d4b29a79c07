"""A client that reads what was just written, again and again: no answer may be older than the position that it names, and the
past must be what was answered then, whatever happens to the services meanwhile.
"""

import random
import threading
from typing import Self

import grpc

from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_history_pb2_grpc as history_grpc
from ordertape.v1 import order_pb2
from services.wire.position import decode_position
from tests.support.exact_watch import AWAY, QUICK_RECONNECT
from tests.support.exchange_process import Background
from tests.support.order_flow import Load, acknowledged

# How a read fails that may be asked again: the service is away, cannot reach the position in time, or is frozen.
_UNANSWERED = (*AWAY, grpc.StatusCode.DEADLINE_EXCEEDED)
_TIMEOUT_SECONDS = 5.0
_PAUSE_SECONDS = 0.01


class ExactReader(Background):
    """Reads at ``address`` what ``load`` has written, from entering the context until it is left, which raises what was wrong.
    ``reads`` counts the answers.
    """

    def __init__(self, address: str, load: Load, seed: int) -> None:
        super().__init__("reader")
        self.reads = 0
        self._load = load
        self._chance = random.Random(seed)
        self._leaving = threading.Event()
        self._channel = grpc.insecure_channel(address, options=QUICK_RECONNECT)
        self._stub = history_grpc.OrderHistoryStub(self._channel)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._leaving.set()
        self.finish(30)
        self._channel.close()

    def work(self) -> None:
        while not self._leaving.wait(_PAUSE_SECONDS):
            sent = self._load.some(self._chance)
            results = [] if sent is None else [a.results[0] for _, a in acknowledged([sent]) if _is_of_orders(a)]  # type: ignore[union-attr]
            if not results:
                continue
            try:
                self._read(self._chance.choice(results))
                self.reads += 1
            except grpc.RpcError as error:
                if not isinstance(error, grpc.Call) or error.code() not in _UNANSWERED:
                    raise

    def _read(self, result: engine_pb2.SubmitOrdersResult) -> None:
        written = result.updates[-1]
        newest = self._order(written, at_least=result.position)
        assert newest.update_number >= written.update_number, f"older than its position: {newest}, not {written}"
        if newest.sequence == written.sequence:
            assert newest == written
        assert self._order(written, as_of=result.position) == written
        request = history_pb2.ListOrderUpdatesRequest(
            user_id=written.user_id, order_id=written.order_id, page_size=500, at_least=result.position
        )
        timeline = self._stub.ListOrderUpdates(request, timeout=_TIMEOUT_SECONDS).updates
        numbers = [update.update_number for update in timeline]
        assert numbers == list(range(1, len(numbers) + 1))
        for update in result.updates:
            assert update in timeline, "answered and not in the timeline"

    def _order(self, order: order_pb2.OrderUpdate, **question: str) -> order_pb2.OrderUpdate:
        request = history_pb2.GetOrderRequest(user_id=order.user_id, order_id=order.order_id, **question)  # type: ignore[arg-type]
        answer = self._stub.GetOrder(request, timeout=_TIMEOUT_SECONDS)
        asked = decode_position(question.get("at_least") or question["as_of"]).sequence
        assert decode_position(answer.position).sequence >= asked
        return answer.order


def _is_of_orders(answer: object) -> bool:
    return isinstance(answer, engine_pb2.SubmitOrdersResponse)
