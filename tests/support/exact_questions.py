"""A client that asks the history again and again, whatever becomes of its store: each answer is right and complete up to the
position that it names, or it says UNAVAILABLE within the call's deadline; never is one short.
"""

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Self

import grpc

from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_history_pb2_grpc as history_grpc
from ordertape.v1 import order_pb2
from services.wire.position import decode_position
from tests.support.exact_watch import AWAY, QUICK_RECONNECT
from tests.support.exchange_process import Background
from tests.support.ledger_builder import LedgerBuilder

_TIMEOUT_SECONDS = 5.0
_PAUSE_SECONDS = 0.02
_PAGE_SIZE = 500


class ExactQuestions(Background):
    """Asks at ``address`` from entering the context until it is left, which raises what was wrong. ``answered`` counts the
    answers, ``refused`` the UNAVAILABLE ones.
    """

    def __init__(self, address: str, ledger: LedgerBuilder, *, seed: int = 1) -> None:
        super().__init__("questions")
        self.answered = self.refused = 0
        self._timelines: defaultdict[int, list[order_pb2.OrderUpdate]] = defaultdict(list)
        for update in ledger.updates:
            self._timelines[update.order_id].append(update)
        self._orders_of: defaultdict[str, list[int]] = defaultdict(list)
        for order_id, timeline in self._timelines.items():
            self._orders_of[timeline[0].user_id].append(order_id)
        self._fills_of: defaultdict[str, list[int]] = defaultdict(list)
        for update in ledger.updates:
            if update.HasField("fill"):
                self._fills_of[update.user_id].append(update.sequence)
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
        asking = (self._ask_for_an_order, self._ask_for_a_timeline, self._ask_for_the_list, self._ask_for_fills)
        while not self._leaving.wait(_PAUSE_SECONDS):
            ask = self._chance.choice(asking)
            try:
                ask()
            except grpc.RpcError as error:
                if not isinstance(error, grpc.Call) or error.code() not in AWAY:
                    raise
                self.refused += 1
            else:
                self.answered += 1

    def _ask_for_an_order(self) -> None:
        timeline = self._timelines[self._chance.choice(list(self._timelines))]
        request = pb.GetOrderRequest(user_id=timeline[0].user_id, order_id=timeline[0].order_id)
        at_least = self._position()
        try:
            answer = self._stub.GetOrder(request, timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.NOT_FOUND:
                assert timeline[0].sequence > at_least, f"order {timeline[0].order_id} is missing"
                return
            raise
        assert answer.order in timeline
        assert answer.order.sequence >= _last(timeline, decode_position(answer.position).sequence)

    def _ask_for_a_timeline(self) -> None:
        timeline = self._timelines[self._chance.choice(list(self._timelines))]
        request = pb.ListOrderUpdatesRequest(user_id=timeline[0].user_id, order_id=timeline[0].order_id, page_size=_PAGE_SIZE)
        at_least = self._position()
        try:
            updates = list(self._stub.ListOrderUpdates(request, timeout=_TIMEOUT_SECONDS).updates)
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.NOT_FOUND:
                assert timeline[0].sequence > at_least, f"order {timeline[0].order_id} is missing"
                return
            raise
        assert updates == timeline[: len(updates)]
        assert updates[-1].sequence >= _last(timeline, at_least), f"a short timeline of order {timeline[0].order_id}"

    def _ask_for_the_list(self) -> None:
        user_id = self._chance.choice(list(self._orders_of))
        at_least = self._position()
        request = pb.ListOrderHistoryRequest(user_id=user_id, page_size=_PAGE_SIZE)
        orders = {order.order_id: order for page in self._pages(self._stub.ListOrderHistory, request) for order in page.orders}
        for order_id in self._orders_of[user_id]:
            timeline = self._timelines[order_id]
            if timeline[0].sequence > at_least:
                continue
            assert order_id in orders, f"a short list of {user_id}: order {order_id} is not in it"
            assert orders[order_id] in timeline
            assert orders[order_id].sequence >= _last(timeline, at_least)

    def _ask_for_fills(self) -> None:
        user_id = self._chance.choice(list(self._orders_of))
        at_least = self._position()
        pages = self._pages(self._stub.ListFills, pb.ListFillsRequest(user_id=user_id, page_size=_PAGE_SIZE))
        sequences = [fill.sequence for page in pages for fill in page.fills]
        all_fills = self._fills_of[user_id]
        assert sequences == sorted(set(sequences), reverse=True)
        assert set(sequences) <= set(all_fills)
        missing = {sequence for sequence in all_fills if sequence <= at_least} - set(sequences)
        assert not missing, f"a short list of fills of {user_id}: {min(missing)} is not in it"

    def _position(self) -> int:
        return self._stub.GetHistoryStatus(pb.GetHistoryStatusRequest(), timeout=_TIMEOUT_SECONDS).applied_sequence

    def _pages(self, method: Callable[..., Any], request: Any) -> Iterator[Any]:
        while True:
            page = method(request, timeout=_TIMEOUT_SECONDS)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def _last(timeline: list[order_pb2.OrderUpdate], sequence: int) -> int:
    """The sequence of the last update not later than ``sequence``; 0 before the first."""
    return max((update.sequence for update in timeline if update.sequence <= sequence), default=0)
