"""What needs an instrument, an account or the book to be seen: an answer that says REJECTED, journaled like any other."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ordertape.v1 import matching_engine_pb2 as pb
from ordertape.v1 import order_pb2
from tests.support.engine_client import (
    BUY,
    EXPIRED,
    FOK,
    NEW,
    REJECTED,
    SELL,
    EngineClient,
    limit,
    market,
    newest,
)
from tests.support.engine_exchange import GOLD_USD, running_engine


class Rejected(NamedTuple):
    """An order, the reason's name without its prefix, and what the text has to say."""

    request: pb.PlaceOrderRequest
    reason: str
    words: tuple[str, ...]


CASES = [
    Rejected(limit("a", BUY, "100", "1", symbol="XRP-USD"), "UNKNOWN_SYMBOL", ("symbol XRP-USD",)),
    Rejected(limit("a", BUY, "100.005", "1"), "PRICE_OFF_STEP", ("price 100.005", "step 0.01", "BTC-USD")),
    Rejected(limit("a", BUY, "100", "1.00005"), "QTY_OFF_STEP", ("qty 1.00005", "step 0.0001", "BTC-USD")),
    Rejected(limit("a", BUY, "100", "0.000000001"), "QTY_OFF_STEP", ("qty 0.000000001", "step 0.0001")),
    Rejected(market("a", BUY, quote_qty="10.00000000001"), "QTY_OFF_STEP", ("quote_qty 10.00000000001", "10 decimals", "USD")),
    Rejected(limit("a", BUY, "0.99", "1"), "PRICE_OUTSIDE_LIMITS", ("price 0.99", "1 to 1000000", "BTC-USD")),
    Rejected(limit("a", SELL, "1000000.01", "1"), "PRICE_OUTSIDE_LIMITS", ("price 1000000.01", "1 to 1000000")),
    Rejected(limit("a", BUY, "100", "10000.0001"), "QTY_OUTSIDE_LIMITS", ("qty 10000.0001", "0.0001 to 10000")),
    Rejected(limit("a", BUY, "1", "0.0001"), "NOTIONAL_TOO_SMALL", ("0.0001 USD", "0.01", "BTC-USD")),
    Rejected(market("a", BUY, quote_qty="0.009"), "NOTIONAL_TOO_SMALL", ("quote_qty 0.009", "0.01")),
    Rejected(
        limit("a", SELL, "1000000000", "1000000000", symbol=GOLD_USD["symbol"]),
        "NOTIONAL_TOO_LARGE",
        ("price x qty 1000000000000000000", "10^18"),
    ),
    Rejected(market("a", BUY, qty="1", symbol="ETH-USD"), "NO_LIQUIDITY", ("asks", "ETH-USD")),
    Rejected(market("a", SELL, qty="1", symbol="ETH-USD"), "NO_LIQUIDITY", ("bids", "ETH-USD")),
    Rejected(limit("a", BUY, "200", "1", post_only=True), "POST_ONLY_WOULD_TAKE", ("price 200", "take", "BTC-USD")),
    Rejected(limit("b", BUY, "201", "1", post_only=True), "POST_ONLY_WOULD_TAKE", ("price 201", "take")),
    Rejected(limit("a", BUY, "150", "9999"), "INSUFFICIENT_FUNDS", ("available 1000000 USD", "1499850 USD")),
    Rejected(limit("a", SELL, "250", "1001"), "INSUFFICIENT_FUNDS", ("available 1000 BTC", "1001 BTC")),
    Rejected(market("pauper", BUY, qty="0.5"), "INSUFFICIENT_FUNDS", ("available 0 USD", "100 USD")),
    Rejected(market("pauper", BUY, quote_qty="100"), "INSUFFICIENT_FUNDS", ("available 0 USD", "100 USD")),
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineClient]:
    """The book of BTC-USD has one ask, of 10 at 200, which is b's. One engine for all: nothing here changes the book."""
    folder = tmp_path_factory.mktemp("rejected")
    with running_engine(folder / "engine") as engine, EngineClient(engine.address) as client:
        client.fund("a", "b", USD="1000000", BTC="1000")
        client.place(limit("b", SELL, "200", "10"))
        yield client


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.reason} {' '.join(case.words)}")
def test_an_order_that_the_exchange_refuses_is_answered_with_its_reason_and_words(asked: EngineClient, case: Rejected) -> None:
    before, balances, book = asked.durable_sequence(), asked.balances(case.request.user_id), asked.book()
    answer = asked.place(case.request)
    (update,) = answer.updates
    assert (update.status, update.exec_type) == (REJECTED, order_pb2.EXEC_TYPE_REJECTED)
    assert order_pb2.RejectReason.Name(update.reject_reason) == f"REJECT_REASON_{case.reason}"
    assert [word for word in case.words if word not in update.reason_text] == []
    assert not update.HasField("previous_status")
    assert (update.filled_qty, update.update_number, update.sequence) == ("0", 1, before + 1)
    assert (update.price, update.qty, update.quote_qty) == (case.request.price, case.request.qty, case.request.quote_qty)
    assert asked.durable_sequence() == before + 1
    assert (asked.balances(case.request.user_id), asked.book().asks) == (balances, book.asks)


@pytest.mark.parametrize("case", CASES[:3], ids=lambda case: case.reason)
def test_a_rejected_order_has_used_its_client_order_id(asked: EngineClient, case: Rejected) -> None:
    request = pb.PlaceOrderRequest()
    request.CopyFrom(case.request)
    request.client_order_id = case.reason
    first = asked.place(request)
    again = asked.place(request)
    assert again.replayed
    assert list(again.updates) == list(first.updates)


def test_an_order_has_its_numbers_whether_it_is_rejected_or_not(asked: EngineClient) -> None:
    first = newest(asked.place(limit("c", BUY, "100", "1")).updates)
    asked.fund("c", USD="1000")
    second = newest(asked.place(limit("c", BUY, "100", "1")).updates)
    assert (first.status, first.order_number, first.user_update_number) == (REJECTED, 1, 1)
    assert (second.status, second.order_number, second.user_update_number) == (NEW, 2, 2)
    assert second.order_id == first.order_id + 1


def test_price_and_qty_of_a_rejected_order_are_as_sent_in_canonical_text(asked: EngineClient) -> None:
    (update,) = asked.place(limit("a", BUY, "000100.00500", "01.00005000")).updates
    assert (update.price, update.qty, update.leaves_qty) == ("100.005", "1.00005", "0")


def test_of_many_rules_the_first_one_in_the_documented_order_is_named(asked: EngineClient) -> None:
    broken = [
        ({"symbol": "NONE", "price": "0.001", "qty": "0.00001"}, "UNKNOWN_SYMBOL"),
        ({"price": "0.001", "qty": "0.00001"}, "PRICE_OFF_STEP"),
        ({"price": "0.01", "qty": "0.00001"}, "QTY_OFF_STEP"),
        ({"price": "0.01", "qty": "10001"}, "PRICE_OUTSIDE_LIMITS"),
        ({"price": "1000000", "qty": "10001"}, "QTY_OUTSIDE_LIMITS"),
        ({"price": "1000000", "qty": "10000"}, "POST_ONLY_WOULD_TAKE"),
        ({"price": "199", "qty": "10000"}, "INSUFFICIENT_FUNDS"),
    ]
    for changes, reason in broken:
        (update,) = asked.place(limit("pauper", BUY, post_only=True, **changes)).updates
        assert order_pb2.RejectReason.Name(update.reject_reason) == f"REJECT_REASON_{reason}"


def test_an_order_that_no_money_covers_is_expired_and_not_rejected_where_it_would_trade_nothing(asked: EngineClient) -> None:
    killed = asked.place(market("pauper", BUY, qty="11", time_in_force=FOK))
    assert [update.status for update in killed.updates] == [NEW, EXPIRED]
    assert killed.updates[1].expire_reason == order_pb2.EXPIRE_REASON_FOK_NOT_FILLABLE
