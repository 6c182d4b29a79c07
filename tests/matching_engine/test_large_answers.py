"""Answers stay below what clients take by default, whatever an order sets off; the ledger's largest batch goes through whole."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ordertape.v1 import ledger_pb2, order_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from services.matching_engine.bootstrap import Engine
from tests.support.engine_audit import LedgerAudit
from tests.support.engine_client import BUY, EXPIRED, FILLED, NEW, SELL, EngineClient, limit, newest
from tests.support.engine_exchange import running_engine
from tests.support.engine_feed import FeedReceiver

UPDATES_BYTES_MAX = 1 << 20
CLIENTS_TAKE_BYTES = 4 << 20
TRADES_MAX = 5000
# Names of the largest size, so that every update is as large as it gets.
MAKER, TAKER, LONG = "m" * 64, "t" * 64, "l" * 50


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Engine, EngineClient]]:
    """An engine whose book has 5 100 asks at 100, of 0.01 each."""
    data_dir = tmp_path_factory.mktemp("deep") / "engine"
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund(MAKER, TAKER, USD="1000000", BTC="1000")
        for part, count in enumerate([500] * 10 + [100]):
            names = [f"{LONG}-{part}-{number}" for number in range(count)]
            client.submit(*(limit(MAKER, SELL, "100", "0.01", client_order_id=name) for name in names))
        yield data_dir, engine, client


def own_updates(data: bytes) -> list[order_pb2.OrderUpdate]:
    batch = ledger_pb2.LedgerBatch.FromString(data)
    updates = [command.order_update for command in batch.commands if command.HasField("order_update")]
    return [update for update in updates if update.order_id == updates[0].order_id]


def test_an_order_of_five_thousand_trades_is_answered_in_part_and_its_batch_goes_through_whole(
    deep: tuple[Path, Engine, EngineClient],
) -> None:
    _, engine, client = deep
    order = limit(TAKER, BUY, "100", "51", client_order_id=LONG)
    with FeedReceiver(engine.feed_addresses["history"]) as receiver:
        receiver.receive_until(lambda: receiver.heartbeats)
        before = client.durable_sequence()
        receiver.frames.clear()
        answer = client.place(order)
        receiver.receive_until(lambda: receiver.batches)
    (data,) = client.batches(before)
    assert receiver.batches == [data]
    assert len(data) > CLIENTS_TAKE_BYTES  # so the channel of a replay has to take more than the default
    own = own_updates(data)
    assert [update.fill.trade_id for update in own[1:-1]] == list(range(1, TRADES_MAX + 1))
    assert newest(own).status == EXPIRED
    assert newest(own).expire_reason == order_pb2.EXPIRE_REASON_MATCH_LIMIT
    assert_shows_as_much_as_fits(answer, own)
    again = client.place(order)
    assert again.replayed
    assert (list(again.updates), again.updates_omitted) == (list(answer.updates), answer.updates_omitted)
    LedgerAudit(client.batches()).check_money()


def assert_shows_as_much_as_fits(answer: pb.PlaceOrderResponse, own: list[order_pb2.OrderUpdate]) -> None:
    """The newest, and before it the earliest ones, as many as fit; the others are counted."""
    shown = len(answer.updates)
    assert answer.updates[-1] == own[-1]
    assert list(answer.updates[:-1]) == own[: shown - 1]
    assert answer.updates_omitted == len(own) - shown > 0
    size = sum(update.ByteSize() for update in answer.updates)
    assert size <= UPDATES_BYTES_MAX < size + own[shown - 1].ByteSize()
    assert answer.ByteSize() < UPDATES_BYTES_MAX + 20_000


def test_a_restart_folds_the_largest_batch_and_the_rest_of_the_book_is_there(
    deep: tuple[Path, Engine, EngineClient], tmp_path: Path
) -> None:
    data_dir, _, client = deep
    shutil.copytree(data_dir, tmp_path / "engine")
    with running_engine(tmp_path / "engine") as again, EngineClient(again.address) as recovered:
        assert recovered.book().asks == client.book().asks
        assert [(level.qty, level.order_count) for level in recovered.book().asks] == [("1", 100)]


def test_the_items_of_one_message_share_what_an_answer_may_hold_and_each_has_its_newest(data_dir: Path) -> None:
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund(MAKER, TAKER, USD="1000000", BTC="1000")
        for _ in range(12):
            client.submit(*[limit(MAKER, SELL, "100", "0.01")] * 500)
        before = client.durable_sequence()
        answer = client.submit(*[limit(TAKER, BUY, "100", "10")] * 6, limit(TAKER, BUY, "50", "1"))
        batches = client.batches(before)
    assert [newest(result.updates).status for result in answer.results] == [FILLED] * 6 + [NEW]
    sizes = []
    for result, data in zip(answer.results, batches, strict=True):
        own, shown = own_updates(data), len(result.updates)
        assert result.updates[-1] == own[-1]
        assert list(result.updates[:-1]) == own[: shown - 1]
        assert result.updates_omitted == len(own) - shown
        sizes.append(sum(update.ByteSize() for update in result.updates))
    omitted = [result.updates_omitted for result in answer.results]
    assert omitted[0] == 0
    assert omitted[5] == 1000  # of 1001 only the newest: the first items took all there is
    assert omitted[6] == 0
    assert sum(sizes) <= UPDATES_BYTES_MAX
    assert answer.ByteSize() < UPDATES_BYTES_MAX + 20_000


def test_the_answer_to_five_hundred_orders_that_trade_reaches_the_client_whole(data_dir: Path) -> None:
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund(MAKER, TAKER, USD="1000000", BTC="1000")
        client.submit(*[limit(MAKER, SELL, "100", "0.01")] * 500)
        answer = client.submit(*[limit(TAKER, BUY, "100", "0.01", client_order_id=f"{LONG}{n}") for n in range(500)])
    assert {newest(result.updates).status for result in answer.results} == {FILLED}
    assert sum(len(result.updates) + result.updates_omitted for result in answer.results) == 1000
