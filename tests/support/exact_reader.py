"""A client that reads what was just written, again and again: no answer may be older than the position that it names, and the
past must be what was answered then, whatever happens to the services meanwhile.
"""

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

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
_SHARE_OF_LISTS = 0.02


class ExactReader(Background):
    """Reads at ``address`` what ``load`` has written, from entering the context until it is left, which raises what was wrong.
    ``reads`` counts the orders that it looked at, ``lists`` the lists that it went through to the end.
    """

    def __init__(self, address: str, load: Load, seed: int) -> None:
        super().__init__("reader")
        self.reads = self.lists = 0
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
            result = self._chance.choice(results)
            if self._chance.random() < _SHARE_OF_LISTS:
                self._list(result)
                continue
            try:
                self._read(result)
                self.reads += 1
            except grpc.RpcError as error:
                _raise_unless_unanswered(error)

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

    def _list(self, result: engine_pb2.SubmitOrdersResult) -> None:
        """All of the user's orders and fills, page by page, with the same token again where a page was not answered."""
        user_id, at_least, size = result.updates[-1].user_id, result.position, self._chance.randint(20, 500)
        orders = [
            order
            for page in self._pages(
                self._stub.ListOrderHistory,
                history_pb2.ListOrderHistoryRequest(user_id=user_id, at_least=at_least, page_size=size),
            )
            for order in page.orders
        ]
        fills = [
            fill
            for page in self._pages(
                self._stub.ListFills, history_pb2.ListFillsRequest(user_id=user_id, at_least=at_least, page_size=size)
            )
            for fill in page.fills
        ]
        if self._leaving.is_set():
            return
        # The list is whole up to the position that it was asked for; of what is newer it may have some, in order.
        numbers, known = [order.order_number for order in orders], result.updates[-1].order_number
        assert numbers == sorted(set(numbers), reverse=True), f"the orders of {user_id} are not in order: {numbers}"
        assert numbers[-known:] == list(range(known, 0, -1)), (
            f"the orders of {user_id} up to {known} are not all there: {numbers}"
        )
        sequences = [fill.sequence for fill in fills]
        assert sequences == sorted(set(sequences), reverse=True)
        assert {update.sequence for update in result.updates if update.HasField("fill")} <= set(sequences)
        self.lists += 1

    def _pages(self, method: Callable[..., Any], request: Any) -> Iterator[Any]:
        while not self._leaving.is_set():
            try:
                page = method(request, timeout=_TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                _raise_unless_unanswered(error)
                self._leaving.wait(_PAUSE_SECONDS)
                continue
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def _order(self, order: order_pb2.OrderUpdate, **question: str) -> order_pb2.OrderUpdate:
        request = history_pb2.GetOrderRequest(user_id=order.user_id, order_id=order.order_id, **question)  # type: ignore[arg-type]
        answer = self._stub.GetOrder(request, timeout=_TIMEOUT_SECONDS)
        asked = decode_position(question.get("at_least") or question["as_of"]).sequence
        assert decode_position(answer.position).sequence >= asked
        return answer.order


def _raise_unless_unanswered(error: grpc.RpcError) -> None:
    if not isinstance(error, grpc.Call) or error.code() not in _UNANSWERED:
        raise error


def _is_of_orders(answer: object) -> bool:
    return isinstance(answer, engine_pb2.SubmitOrdersResponse)
