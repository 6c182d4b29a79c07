"""Whole lives of orders, checked in every way in which the exchange tells them: by the engine's answers, by the history's
answers, and by a stream that was there all the time.

A life is told in lines, one a message: what happened, the status after it, filled and left, and the reason where there is one:
``"TRADE PARTIALLY_FILLED 2 8"``. A line that begins with ``*`` is one that no call of the order's user caused.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import grpc

from ordertape.v1 import matching_engine_pb2 as pb
from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_history_pb2_grpc, order_pb2
from services.matching_engine.bootstrap import Engine
from services.wire.position import encode_position
from tests.support.engine_client import CALL_SECONDS, NEW, PARTIALLY_FILLED, EngineClient, cancel, replace
from tests.support.engine_exchange import running_engine
from tests.support.exact_watch import RawWatch
from tests.support.running_history import RunningHistory

OPEN = (NEW, PARTIALLY_FILLED)
_NUMBERS = count(1)
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
UNASKED = "* "
Update = order_pb2.OrderUpdate


def line_of(update: Update) -> str:
    """What one message says."""
    words = [
        order_pb2.ExecType.Name(update.exec_type).removeprefix("EXEC_TYPE_"),
        order_pb2.OrderStatus.Name(update.status).removeprefix("ORDER_STATUS_"),
        update.filled_qty,
        update.leaves_quote_qty if update.HasField("leaves_quote_qty") else update.leaves_qty,
    ]
    for field, enum in (
        ("reject_reason", order_pb2.RejectReason),
        ("cancel_reason", order_pb2.CancelReason),
        ("expire_reason", order_pb2.ExpireReason),
    ):
        if update.HasField(field):  # type: ignore[arg-type]
            name: str = enum.Name(getattr(update, field))
            words.append(name.partition("_REASON_")[2])
    return " ".join(words)


class Scenes:
    """An exchange on which traders meet, each new to it. Connections are made anew by ``connect``, after a restart."""

    def __init__(self, engine_address: str, history_address: str) -> None:
        self.history_address = history_address
        self._engine_address = engine_address
        self._opened = ExitStack()
        self._connections = ExitStack()
        self.connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self._opened.close()
        self._connections.close()

    def connect(self) -> None:
        """New connections to both services."""
        self._connections.close()
        self.client = self._connections.enter_context(EngineClient(self._engine_address))
        channel = self._connections.enter_context(grpc.insecure_channel(self.history_address, _OWN_CONNECTION))
        self.tape = order_history_pb2_grpc.OrderHistoryStub(channel)

    def trader(self, name: str, **money: str) -> "Trader":
        """A user of a new name with this money (a lot where nothing is said), who watches from now on."""
        user_id = f"{name}-{next(_NUMBERS)}"
        self.client.fund(user_id, **money or {"USD": "1000000", "BTC": "1000"})
        return Trader(user_id, self, self._opened.enter_context(RawWatch(self.history_address, user_id, self.position())))

    def position(self) -> str:
        """Where the ledger ends now."""
        status = self.client.status()
        return encode_position(status.ledger_id, status.durable_sequence)


class Trader:
    """A user who remembers every answer and has watched from before the first order."""

    def __init__(self, user_id: str, scenes: Scenes, watch: RawWatch) -> None:
        self.user_id = user_id
        self._scenes = scenes
        self._watch = watch
        self._answers: dict[int, list[Update]] = defaultdict(list)

    def place(self, make: Callable[..., pb.PlaceOrderRequest], *arguments: Any, **changes: Any) -> int:
        """Place what ``make`` makes of the user and the arguments: the order's number."""
        return self.heard(self._scenes.client.place(make(self.user_id, *arguments, **changes)))

    def cancel(self, order_id: int, request_id: str | None = None) -> None:
        """Cancel an order."""
        self.heard(self._scenes.client.cancel(cancel(self.user_id, order_id, request_id)))

    def replace(self, order_id: int, **changes: Any) -> None:
        """Replace an order's terms."""
        self.heard(self._scenes.client.replace(replace(self.user_id, order_id, **changes)))

    def heard(self, answer: Any) -> int:
        """Remember an answer; its order's number."""
        order_id: int = answer.updates[0].order_id
        self._answers[order_id] += answer.updates
        return order_id

    def order(self, order_id: int, **question: Any) -> Update:
        """The order by GetOrder: unless asked otherwise, after all that the exchange has done by now."""
        question = question or {"at_least": self._scenes.position()}
        request = history_pb2.GetOrderRequest(user_id=self.user_id, order_id=order_id, **question)
        return self._scenes.tape.GetOrder(request, timeout=CALL_SECONDS).order

    def now(self, order_id: int) -> str:
        """The order's last line, by GetOrder."""
        return line_of(self.order(order_id))

    def open_orders(self) -> list[Update]:
        """ListActiveOrders."""
        request = history_pb2.ListActiveOrdersRequest(user_id=self.user_id, at_least=self._scenes.position())
        return list(self._scenes.tape.ListActiveOrders(request, timeout=CALL_SECONDS).orders)

    def assert_life(self, order_id: int, *lines: str) -> None:
        """The order's life is these lines, whoever tells it, byte for byte: ListOrderUpdates, GetOrder at each position,
        ListOrderHistory, the stream, and the engine's answers as far as the user asked.
        """
        told = self._listed(order_id)
        assert [line_of(update) for update in told] == [line.removeprefix(UNASKED) for line in lines]
        assert [update.update_number for update in told] == list(range(1, len(lines) + 1))
        asked = [update for update, line in zip(told, lines, strict=True) if not line.startswith(UNASKED)]
        assert self._answers[order_id] == asked
        assert self.order(order_id) == told[-1]
        ledger_id = self._scenes.client.status().ledger_id
        for update in told:
            assert self.order(order_id, as_of=encode_position(ledger_id, update.sequence)) == update
        assert [order for order in self._history() if order.order_id == order_id] == [told[-1]]
        assert (told[-1] in self.open_orders()) == (told[-1].status in OPEN)
        self._watch.wait_until(lambda: len(self._watch.updates) >= told[-1].user_update_number)
        streamed = list(self._watch.updates)
        assert [update for update in streamed if update.order_id == order_id] == told
        assert [update.user_update_number for update in streamed] == list(range(1, len(streamed) + 1))

    def _listed(self, order_id: int) -> list[Update]:
        request = history_pb2.ListOrderUpdatesRequest(
            user_id=self.user_id, order_id=order_id, page_size=500, at_least=self._scenes.position()
        )
        return list(self._scenes.tape.ListOrderUpdates(request, timeout=CALL_SECONDS).updates)

    def _history(self) -> list[Update]:
        request = history_pb2.ListOrderHistoryRequest(user_id=self.user_id, page_size=500, at_least=self._scenes.position())
        return list(self._scenes.tape.ListOrderHistory(request, timeout=CALL_SECONDS).orders)


@contextmanager
def scenes_in_process(folder: Path, **settings: Any) -> Iterator[tuple[Scenes, Engine]]:
    """Both services in this process; ``settings`` are the engine's."""
    with running_engine(folder / "engine", **settings) as engine:
        meeting: Any = SimpleNamespace(address=engine.address, feed=engine.feed_addresses["history"])
        with (
            RunningHistory(meeting, folder / "history") as history,
            Scenes(engine.address, history.history.server.address) as scenes,
        ):
            yield scenes, engine
