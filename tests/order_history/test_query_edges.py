"""The reads where memory and store move against each other, where there is too much to look at, and where something is down."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from ordertape.v1 import order_history_pb2 as pb
from ordertape.v1 import order_pb2
from services.order_history import queries, requests
from services.order_history.order_processor import OrderProcessor
from services.order_history.queries import Queries
from services.order_history.stores import SCANNED_ORDERS_MAX, Checkpoint, OrderFilter, StoreDamaged, sqlite_reads
from services.order_history.stores.sqlite import SqliteHistoryStore
from services.order_history.view import HistoryView, Progress
from services.wire.errors import CallError
from services.wire.page_token import decode_page_token
from tests.support.history_model import orders_of
from tests.support.ledger_builder import LedgerBuilder


class Stage:
    """A ledger, a store and a view that each go on when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.ledger = LedgerBuilder()
        self.ledger.open_market(("alice",), ("BTC-USD", "ETH-USD"))
        self.store = SqliteHistoryStore(folder, readers=1)
        self.view = HistoryView(
            Checkpoint("", 0, 0, b""), (), self, store_kind="sqlite", wait_seconds_max=1, lag_seconds_max=1  # type: ignore[arg-type]
        )  # fmt: skip
        self.queries = Queries(self.view, self, clock=lambda: self.ledger.time)  # type: ignore[arg-type]
        self.before_read = lambda: None
        self._stored = self._shown = 0

    def save(self) -> None:
        """What is new reaches the store."""
        self.store.apply(OrderProcessor().project(self.ledger.ledger_id, self.ledger.batches[self._stored :]))
        self._stored = len(self.ledger.batches)

    def show(self) -> None:
        """What is new reaches the view, after the store."""
        self.save()
        chunk = OrderProcessor().project(self.ledger.ledger_id, self.ledger.batches[self._shown :])
        self._shown = len(self.ledger.batches)
        progress = Progress(
            self.ledger.ledger_id, self.ledger.sequence, self.ledger.sequence, live=True, gaps_repaired=0, store_trouble=""
        )
        self.view.advance(chunk, progress)

    async def ended_orders(self, *question: Any) -> Any:
        self.before_read()
        return await self.store.order_history.ended_orders(*question)

    async def latest_update(self, *question: Any) -> Any:
        self.before_read()
        return await self.store.order_history.latest_update(*question)

    async def history(self, **fields: Any) -> pb.ListOrderHistoryResponse:
        request = pb.ListOrderHistoryRequest(user_id="alice", **fields)
        return await self.queries.order_history(request, requests.order_history_question(request), lambda: None)

    async def active(self, **fields: Any) -> pb.ListActiveOrdersResponse:
        request = pb.ListActiveOrdersRequest(user_id="alice", **fields)
        return await self.queries.active_orders(request, requests.active_orders_question(request), lambda: None)

    async def order(self, order_id: int) -> pb.GetOrderResponse:
        request = pb.GetOrderRequest(user_id="alice", order_id=order_id)
        return await self.queries.order(requests.order_question(request), lambda: None)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.store.close()


async def test_an_order_that_ends_while_its_page_is_read_is_listed_once_as_it_ended(stage: Stage) -> None:
    order_ids = [stage.ledger.place("alice") for _ in range(3)]
    stage.show()
    shown = stage.view.position
    stage.ledger.cancel(order_ids[1])
    stage.before_read = stage.save
    answer = await stage.history()
    assert [order.order_id for order in answer.orders] == order_ids[::-1]
    assert answer.orders[1].status == order_pb2.ORDER_STATUS_CANCELLED
    assert answer.position == shown


async def test_an_order_that_is_placed_and_ends_while_a_page_is_read_does_not_disturb_it(stage: Stage) -> None:
    order_ids = [stage.ledger.place("alice") for _ in range(3)]
    stage.show()
    newer = stage.ledger.place("alice")
    stage.ledger.cancel(newer)
    stage.before_read = stage.save
    answer = await stage.history()
    assert [order.order_id for order in answer.orders] == [newer, *order_ids[::-1]]


async def test_a_list_of_open_statuses_reads_no_table(stage: Stage) -> None:
    order_id = stage.ledger.place("alice")
    stage.show()
    stage.before_read = lambda: pytest.fail("the table was read")
    answer = await stage.history(statuses=[order_pb2.ORDER_STATUS_NEW, order_pb2.ORDER_STATUS_PARTIALLY_FILLED])
    assert [order.order_id for order in answer.orders] == [order_id]


async def test_a_page_of_open_orders_looks_at_a_bounded_number_of_them(stage: Stage) -> None:
    wanted = [stage.ledger.place("alice", symbol="ETH-USD") for _ in range(3)]
    for _ in range(SCANNED_ORDERS_MAX + 1_000):
        stage.ledger.place("alice")
    ended = stage.ledger.place("alice", symbol="ETH-USD")
    stage.ledger.cancel(ended)
    stage.show()
    first = await stage.active(symbols=["ETH-USD"])
    assert not first.orders
    second = await stage.active(symbols=["ETH-USD"], page_token=first.next_page_token)
    assert [order.order_id for order in second.orders] == wanted[::-1]
    assert not second.next_page_token
    first_of_all = await stage.history(symbols=["ETH-USD"])
    assert [order.order_id for order in first_of_all.orders] == [ended]
    rest = await stage.history(symbols=["ETH-USD"], page_token=first_of_all.next_page_token)
    assert [order.order_id for order in rest.orders] == wanted[::-1]
    assert not rest.next_page_token


@pytest.mark.parametrize("seed", range(3))
async def test_pages_cut_short_by_the_bound_still_walk_over_everything(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(queries, "SCANNED_ORDERS_MAX", 7)
    monkeypatch.setattr(sqlite_reads, "SCANNED_ORDERS_MAX", 5)
    stage.ledger.live_on(150, ("alice",), open_orders_max=60, seed=seed)
    stage.show()
    chance = random.Random(seed)
    opened, updates = stage.ledger.open_orders(), stage.ledger.updates
    for _ in range(60):
        wanted = OrderFilter(
            symbols=chance.choice(((), ("BTC-USD",), ("ETH-USD", "BTC-USD"))),
            statuses=frozenset(chance.sample(range(1, 7), chance.choice((0, 1, 3)))),
            side=chance.choice((0, 1, 2)),
            **{
                name: getattr(chance.choice(opened), field).ToMicroseconds()
                for name, field in (
                    ("created_from", "created_at"), ("created_until", "created_at"),
                    ("updated_from", "timestamp"), ("updated_until", "timestamp"),
                )
                if chance.random() < 0.2
            },
        )  # fmt: skip
        question = requests.OrdersQuestion("alice", wanted, chance.choice((1, 3, 50)), None, None)
        found: list[order_pb2.OrderUpdate] = []
        while True:
            request = pb.ListOrderHistoryRequest()
            answer = await stage.queries.order_history(request, question, lambda: None)
            found += answer.orders
            cursor = decode_page_token(request, answer.next_page_token)
            if cursor is None:
                break
            question = question._replace(cursor=cursor)
        assert found == orders_of(updates, "alice", wanted)


async def test_the_last_page_says_that_it_is_the_last(stage: Stage) -> None:
    for _ in range(4):
        stage.ledger.place("alice")
    stage.ledger.cancel(2)
    stage.show()
    for page_size, tokens in ((2, [True, False]), (4, [False]), (5, [False])):
        for read in (stage.history, stage.active):
            count = 4 if read == stage.history else 3
            token, seen, ended = "", 0, []
            while not ended or ended[-1]:
                answer = await read(page_size=page_size, page_token=token)
                token, seen = answer.next_page_token, seen + len(answer.orders)
                ended.append(bool(token))
            assert (seen, ended) == (count, tokens)


async def test_a_store_that_is_down_is_unavailable_and_memory_still_answers(stage: Stage) -> None:
    order_id = stage.ledger.place("alice")
    stage.show()
    stage.store.close()
    for read in (stage.order(order_id), stage.history()):
        with pytest.raises(CallError, match="the store cannot answer now") as caught:
            await read
        assert caught.value.code == grpc.StatusCode.UNAVAILABLE
    assert [order.order_id for order in (await stage.active()).orders] == [order_id]


async def test_a_damaged_store_is_data_loss(stage: Stage) -> None:
    def fail() -> None:
        raise StoreDamaged("page 7")

    stage.show()
    stage.before_read = fail
    with pytest.raises(CallError, match="the store is damaged: page 7") as caught:
        await stage.order(1)
    assert caught.value.code == grpc.StatusCode.DATA_LOSS


async def test_a_halted_history_answers_no_read(stage: Stage) -> None:
    order_id = stage.ledger.place("alice")
    stage.show()
    stage.view.halt("ledger sequence 9: the hash chain is broken")
    for read in (stage.order(order_id), stage.history(), stage.active()):
        with pytest.raises(CallError, match="ledger sequence 9") as caught:
            await read
        assert caught.value.code == grpc.StatusCode.DATA_LOSS
