"""What a message alone shows to be wrong: told with every field at once, never journaled, and the engine goes on."""

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

from ordertape.v1 import error_reason_pb2, ledger_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from tests.support.engine_bad_controls import (
    bad_controls,
    bad_instruments,
    bad_mass_cancels,
    bad_replaces,
    bad_sessions,
    worst_place,
    worst_replace,
)
from tests.support.engine_bad_input import (
    LIMIT,
    BadRequest,
    bad_cancels,
    bad_places,
    bad_reads,
    bad_submits,
    bad_transfers,
)
from tests.support.engine_client import BUY, NEW, REJECTED, SELL, EngineClient, cancel, failure_of, item_of, limit, newest
from tests.support.engine_combinations import every_combination
from tests.support.engine_exchange import running_engine

PLACES, CANCELS, REPLACES = list(bad_places()), list(bad_cancels()), list(bad_replaces())
BAD_REQUESTS = [
    *PLACES,
    *CANCELS,
    *bad_transfers(pb.DepositRequest),
    *bad_transfers(pb.WithdrawRequest),
    *bad_reads(),
    *bad_submits(),
    *REPLACES,
    *bad_mass_cancels(),
    *bad_sessions(),
    *bad_controls(),
    *bad_instruments(),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineClient]:
    """One engine for all: nothing of this may leave a trace in it."""
    folder: Path = tmp_path_factory.mktemp("bad-input")
    with running_engine(folder / "engine") as engine, EngineClient(engine.address) as connected:
        connected.fund("a", USD="1000000", BTC="1000")
        yield connected


def call_of(client: EngineClient, request: Message) -> Callable[[], object]:
    """The call that takes such a message."""
    calls: dict[type[Message], Callable[..., object]] = {
        pb.PlaceOrderRequest: client.engine.PlaceOrder,
        pb.CancelOrderRequest: client.engine.CancelOrder,
        pb.SubmitOrdersRequest: client.engine.SubmitOrders,
        pb.GetOrderBookRequest: client.engine.GetOrderBook,
        pb.ListBalancesRequest: client.accounts.ListBalances,
        pb.DepositRequest: client.operator.Deposit,
        pb.WithdrawRequest: client.operator.Withdraw,
        pb.ReplaceOrderRequest: client.engine.ReplaceOrder,
        pb.CancelOrdersRequest: client.engine.CancelOrders,
        pb.OrderSessionRequest: lambda message: list(client.engine.OrderSession(iter([message]))),
        pb.SetTradingStatusRequest: client.operator.SetTradingStatus,
        pb.SetUserStatusRequest: client.operator.SetUserStatus,
        pb.ForceCancelOrderRequest: client.operator.ForceCancelOrder,
        pb.SetInstrumentRequest: client.operator.SetInstrument,
    }
    if isinstance(request, ledger_pb2.ReplayLedgerRequest):
        return lambda: list(client.feed.ReplayLedger(request))
    return lambda: calls[type(request)](request)


@pytest.mark.parametrize("bad", BAD_REQUESTS, ids=lambda bad: f"{bad.message.DESCRIPTOR.name}-{bad.why}")
def test_a_bad_request_is_told_every_field_at_once_and_nothing_is_journaled(client: EngineClient, bad: BadRequest) -> None:
    before = client.durable_sequence()
    failure = failure_of(call_of(client, bad.message))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert failure.fields == bad.fields
    assert client.durable_sequence() == before


def test_of_all_combinations_of_fields_those_are_taken_that_the_contract_allows_and_the_others_told_why(
    client: EngineClient,
) -> None:
    combinations = list(every_combination("pauper"))
    told = []
    for start in range(0, len(combinations), 500):
        requests = [combination.request for combination in combinations[start : start + 500]]
        for result in client.submit(*requests).results:
            assert bool(result.updates) != result.HasField("error")
            assert result.error.code in (0, 3)
            told.append(sorted(violation.field.removeprefix("place.") for violation in result.error.field_violations))
    assert [(str(one.request), said) for one, said in zip(combinations, told, strict=True) if said != one.fields] == []
    # LIMIT that may rest and that may not, MARKET, STOP, STOP_LIMIT.
    assert sum(not one.fields for one in combinations) == 48 + 4 + 9 + 12 + 8


def test_a_bad_request_consumes_no_order_id_and_does_not_use_its_client_order_id(client: EngineClient) -> None:
    first = newest(client.place(limit("a", BUY, "10", "1")).updates)
    for bad in PLACES:
        failure_of(call_of(client, bad.message))
    second = client.place(pb.PlaceOrderRequest(**LIMIT))
    assert newest(second.updates).order_id == first.order_id + 1
    assert newest(second.updates).order_number == first.order_number + 1
    assert not second.replayed


def test_in_one_message_a_bad_item_fails_itself_alone_with_all_its_fields(client: EngineClient) -> None:
    before = client.durable_sequence()
    wrong = [bad for bad in [*PLACES, *CANCELS, *REPLACES] if bad.message.ByteSize() < 10_000]
    items = [item_of(bad.message) for bad in wrong]
    good = item_of(limit("a", SELL, "200", "1"))
    answer = client.engine.SubmitOrders(pb.SubmitOrdersRequest(items=[good, *items, pb.SubmitOrdersItem(), good]))
    first, *failed, empty, last = answer.results
    order_ids = [newest(result.updates).order_id for result in (first, last)]
    assert order_ids[1] == order_ids[0] + 1
    for bad, item, result in zip(wrong, items, failed, strict=True):
        action = item.WhichOneof("action")
        assert (result.error.code, result.error.reason) == (3, error_reason_pb2.ERROR_REASON_INVALID_REQUEST), bad.why
        assert [violation.field for violation in result.error.field_violations] == [f"{action}.{name}" for name in bad.fields]
        assert not result.updates
        assert not result.position
    assert [violation.field for violation in empty.error.field_violations] == ["action"]
    assert client.durable_sequence() == before + 4
    assert answer.position == last.position


def test_a_message_whose_items_are_all_bad_journals_nothing_and_has_a_position(client: EngineClient) -> None:
    before = client.status()
    answer = client.submit(*(bad.message for bad in CANCELS))
    assert all(result.HasField("error") for result in answer.results)
    assert answer.position == f"{before.ledger_id}:{before.durable_sequence}"
    assert client.durable_sequence() == before.durable_sequence


def test_the_answer_to_five_hundred_items_that_are_as_wrong_as_can_be_reaches_the_client(client: EngineClient) -> None:
    answer = client.submit(*[worst_place()] * 249, *[worst_replace()] * 250, limit("a", BUY, "10", "1"))
    assert [len(result.error.field_violations) for result in answer.results[:499]] == [14] * 249 + [8] * 250
    assert newest(answer.results[499].updates).status == NEW


def test_a_message_over_the_limit_is_refused_and_the_connection_goes_on(client: EngineClient) -> None:
    before = client.durable_sequence()
    huge = limit("a", BUY, "1" * (5 << 20), "1")
    assert failure_of(lambda: client.place(huge)).code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert client.durable_sequence() == before
    assert newest(client.place(limit("a", BUY, "10", "1")).updates).status == NEW


def test_bytes_that_are_no_message_and_calls_that_do_not_exist_leave_the_engine_unharmed(client: EngineClient) -> None:
    before = client.durable_sequence()
    for name in ("PlaceOrder", "CancelOrder", "SubmitOrders", "GetOrderBook"):
        for garbage in (b"\xff" * 50, b"\x0a\x02\xc3\x28"):  # no fields at all; a text that is no UTF-8
            raw = client.channel.unary_unary(f"/ordertape.v1.MatchingEngine/{name}")
            failure_of(lambda raw=raw, garbage=garbage: raw(garbage))
    unknown = client.channel.unary_unary("/ordertape.v1.MatchingEngine/Plunder")
    assert failure_of(lambda: unknown(b"")).code == grpc.StatusCode.UNIMPLEMENTED
    assert client.durable_sequence() == before
    assert newest(client.place(limit("a", BUY, "10", "1")).updates).status == NEW


def test_a_field_that_the_engine_does_not_know_is_neither_read_nor_journaled(client: EngineClient) -> None:
    request = limit("a", BUY, "11", "1", client_order_id="from-the-future")
    unknown_field = b"\xfa\x3e\x06secret"  # number 1007
    raw = client.channel.unary_unary(
        "/ordertape.v1.MatchingEngine/PlaceOrder", response_deserializer=pb.PlaceOrderResponse.FromString
    )
    before = client.durable_sequence()
    assert newest(raw(request.SerializeToString() + unknown_field).updates).status == NEW
    assert b"secret" not in b"".join(client.batches(before))
    assert client.place(request).replayed


@pytest.mark.parametrize("symbol", ["BTC-USD", "NONE"])
def test_identifiers_and_amounts_of_the_largest_size_are_taken(client: EngineClient, symbol: str) -> None:
    request = limit(
        symbol + "u" * (64 - len(symbol)), BUY, "9" * 18 + "." + "9" * 18, "1", client_order_id="AZaz09._:-" * 6, symbol=symbol
    )
    update = newest(client.place(request).updates)
    assert update.status == REJECTED
    assert (update.price, update.client_order_id) == (request.price, request.client_order_id)


@pytest.mark.parametrize("name", ["9223372036854775807", 9223372036854775807])
def test_an_order_that_never_was_is_not_found(client: EngineClient, name: int | str) -> None:
    failure = failure_of(lambda: client.cancel(cancel("a", name)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND")
    assert str(name) in failure.text
