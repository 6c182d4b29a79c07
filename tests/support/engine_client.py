"""The engine as its clients meet it: real gRPC, requests in a line, failures with all that they say."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from ordertape.v1 import instrument_pb2, ledger_pb2, ledger_pb2_grpc, matching_engine_pb2_grpc, order_pb2
from ordertape.v1 import matching_engine_pb2 as pb

BUY, SELL = order_pb2.SIDE_BUY, order_pb2.SIDE_SELL
GTC, IOC, FOK = order_pb2.TIME_IN_FORCE_GTC, order_pb2.TIME_IN_FORCE_IOC, order_pb2.TIME_IN_FORCE_FOK
NEW, PARTIALLY_FILLED = order_pb2.ORDER_STATUS_NEW, order_pb2.ORDER_STATUS_PARTIALLY_FILLED
FILLED, CANCELLED = order_pb2.ORDER_STATUS_FILLED, order_pb2.ORDER_STATUS_CANCELLED
REJECTED, EXPIRED = order_pb2.ORDER_STATUS_REJECTED, order_pb2.ORDER_STATUS_EXPIRED

CALL_SECONDS = 20.0
# Channels to one address share their connection unless told otherwise.
_OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)


Request = pb.PlaceOrderRequest | pb.CancelOrderRequest | pb.ReplaceOrderRequest


class EngineClient:
    """A connection to the engine at ``address``. Answers are limited to what a client takes by default, 4 MiB, but those of
    the ledger feed, whose largest batch is larger.
    """

    def __init__(self, address: str, operator_address: str | None = None) -> None:
        self.address = address
        self.channel = grpc.insecure_channel(address, [_OWN_CONNECTION])
        self._feed_channel = grpc.insecure_channel(address, [_OWN_CONNECTION, ("grpc.max_receive_message_length", 64 << 20)])
        self._operator_channel = grpc.insecure_channel(operator_address or address, [_OWN_CONNECTION])
        self.engine = matching_engine_pb2_grpc.MatchingEngineStub(self.channel)
        self.accounts = matching_engine_pb2_grpc.AccountsStub(self.channel)
        self.operator = matching_engine_pb2_grpc.OperatorStub(self._operator_channel)
        self.feed = ledger_pb2_grpc.LedgerFeedStub(self._feed_channel)
        self._requests = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        for channel in (self.channel, self._feed_channel, self._operator_channel):
            channel.close()

    def place(self, request: pb.PlaceOrderRequest) -> pb.PlaceOrderResponse:
        return self.engine.PlaceOrder(request, timeout=CALL_SECONDS)

    def cancel(self, request: pb.CancelOrderRequest) -> pb.CancelOrderResponse:
        return self.engine.CancelOrder(request, timeout=CALL_SECONDS)

    def replace(self, request: pb.ReplaceOrderRequest) -> pb.ReplaceOrderResponse:
        return self.engine.ReplaceOrder(request, timeout=CALL_SECONDS)

    def cancel_orders(self, user_id: str, request_id: str | None = None, **filters: Any) -> pb.CancelOrdersResponse:
        request = pb.CancelOrdersRequest(user_id=user_id, request_id=request_id, **filters)
        return self.engine.CancelOrders(request, timeout=CALL_SECONDS)

    def submit(self, *requests: Request) -> pb.SubmitOrdersResponse:
        items = [item_of(request) for request in requests]
        return self.engine.SubmitOrders(pb.SubmitOrdersRequest(items=items), timeout=CALL_SECONDS)

    def deposit(self, request: pb.DepositRequest) -> pb.DepositResponse:
        return self.operator.Deposit(request, timeout=CALL_SECONDS)

    def withdraw(self, request: pb.WithdrawRequest) -> pb.WithdrawResponse:
        return self.operator.Withdraw(request, timeout=CALL_SECONDS)

    def set_symbol(self, symbol: str, status: str, request_id: str, reason: str = "") -> pb.SetTradingStatusResponse:
        """TRADING or HALTED."""
        number = instrument_pb2.TradingStatus.Value(f"TRADING_STATUS_{status}")
        request = pb.SetTradingStatusRequest(symbol=symbol, status=number, request_id=request_id, reason_text=reason)
        return self.operator.SetTradingStatus(request, timeout=CALL_SECONDS)

    def set_user(self, user_id: str, status: str, request_id: str, **changes: Any) -> pb.SetUserStatusResponse:
        """ACTIVE or SUSPENDED."""
        number = instrument_pb2.UserStatus.Value(f"USER_STATUS_{status}")
        request = pb.SetUserStatusRequest(user_id=user_id, status=number, request_id=request_id, **changes)
        return self.operator.SetUserStatus(request, timeout=CALL_SECONDS)

    def force_cancel(self, order_id: int, request_id: str, reason: str = "") -> pb.ForceCancelOrderResponse:
        request = pb.ForceCancelOrderRequest(order_id=order_id, request_id=request_id, reason_text=reason)
        return self.operator.ForceCancelOrder(request, timeout=CALL_SECONDS)

    def set_instrument(self, rules: dict[str, Any], request_id: str) -> pb.SetInstrumentResponse:
        request = pb.SetInstrumentRequest(instrument=instrument_pb2.Instrument(**rules), request_id=request_id)
        return self.operator.SetInstrument(request, timeout=CALL_SECONDS)

    def fund(self, *user_ids: str, **amounts: str) -> None:
        """Deposit the amount of each asset for each user."""
        for user_id in user_ids:
            for asset, amount in amounts.items():
                self._requests += 1
                request_id = f"fund-{asset}-{self._requests}"
                self.deposit(pb.DepositRequest(user_id=user_id, asset=asset, amount=amount, request_id=request_id))

    def balances(self, user_id: str) -> dict[str, tuple[str, str]]:
        """Asset -> available and held."""
        answer = self.accounts.ListBalances(pb.ListBalancesRequest(user_id=user_id), timeout=CALL_SECONDS)
        return {balance.asset: (balance.available, balance.held) for balance in answer.balances}

    def book(self, symbol: str = "BTC-USD") -> pb.GetOrderBookResponse:
        return self.engine.GetOrderBook(pb.GetOrderBookRequest(symbol=symbol, depth=500), timeout=CALL_SECONDS)

    def status(self, at_sequence: int | None = None) -> ledger_pb2.GetLedgerStatusResponse:
        return self.feed.GetLedgerStatus(ledger_pb2.GetLedgerStatusRequest(at_sequence=at_sequence), timeout=CALL_SECONDS)

    def durable_sequence(self) -> int:
        return self.status().durable_sequence

    def replay(self, after_sequence: int = 0, *, follow: bool = False) -> Iterator[ledger_pb2.ReplayLedgerResponse]:
        request = ledger_pb2.ReplayLedgerRequest(after_sequence=after_sequence, follow=follow)
        return self.feed.ReplayLedger(request, timeout=CALL_SECONDS)

    def batches(self, after_sequence: int = 0) -> list[bytes]:
        """The stored batches after a sequence, byte for byte."""
        return [data for response in self.replay(after_sequence) for data in response.frame.batches]


def limit(user_id: str, side: "order_pb2.Side.ValueType", price: str, qty: str, **changes: Any) -> pb.PlaceOrderRequest:
    """A LIMIT order of BTC-USD, but for the changes."""
    fields: dict[str, Any] = {"symbol": "BTC-USD", "order_type": order_pb2.ORDER_TYPE_LIMIT}
    return pb.PlaceOrderRequest(**fields | {"user_id": user_id, "side": side, "price": price, "qty": qty} | changes)


def stop(user_id: str, side: "order_pb2.Side.ValueType", stop_price: str, **changes: Any) -> pb.PlaceOrderRequest:
    """A STOP order of BTC-USD, STOP_LIMIT with a price; ``changes`` say qty or quote_qty."""
    kind = order_pb2.ORDER_TYPE_STOP_LIMIT if "price" in changes else order_pb2.ORDER_TYPE_STOP
    fields: dict[str, Any] = {"symbol": "BTC-USD", "order_type": kind, "stop_price": stop_price}
    return pb.PlaceOrderRequest(**fields | {"user_id": user_id, "side": side} | changes)


def market(user_id: str, side: "order_pb2.Side.ValueType", **changes: Any) -> pb.PlaceOrderRequest:
    """A MARKET order of BTC-USD; ``changes`` say qty or quote_qty."""
    fields: dict[str, Any] = {"symbol": "BTC-USD", "order_type": order_pb2.ORDER_TYPE_MARKET}
    return pb.PlaceOrderRequest(**fields | {"user_id": user_id, "side": side} | changes)


def cancel(user_id: str, order: int | str, request_id: str | None = None) -> pb.CancelOrderRequest:
    """A cancel of an order by its number or by the client's name."""
    if isinstance(order, int):
        return pb.CancelOrderRequest(user_id=user_id, order_id=order, request_id=request_id)
    return pb.CancelOrderRequest(user_id=user_id, client_order_id=order, request_id=request_id)


def replace(user_id: str, order: int | str, request_id: str | None = None, **changes: Any) -> pb.ReplaceOrderRequest:
    """A replace of an order by its number or by the client's name."""
    if isinstance(order, int):
        return pb.ReplaceOrderRequest(user_id=user_id, order_id=order, request_id=request_id, **changes)
    return pb.ReplaceOrderRequest(user_id=user_id, client_order_id=order, request_id=request_id, **changes)


def item_of(request: Request) -> pb.SubmitOrdersItem:
    if isinstance(request, pb.PlaceOrderRequest):
        return pb.SubmitOrdersItem(place=request)
    if isinstance(request, pb.ReplaceOrderRequest):
        return pb.SubmitOrdersItem(replace=request)
    return pb.SubmitOrdersItem(cancel=request)


class Failure(NamedTuple):
    """How a call failed: ``reason`` is ErrorInfo's, ``fields`` those of BadRequest in their order, ``text`` all the words."""

    code: grpc.StatusCode
    reason: str
    fields: list[str]
    text: str
    metadata: dict[str, str]


def failure_of(call: Callable[[], object]) -> Failure:
    """The failure of a call that has to fail."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return _failure(error)
    raise AssertionError(f"the call was answered: {answer}")


def _failure(error: Any) -> Failure:
    reason, fields, metadata, texts = "", [], {}, [str(error.details())]
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            assert info.domain == "ordertape"
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad_request):
            fields = [violation.field for violation in bad_request.field_violations]
            texts += [violation.description for violation in bad_request.field_violations]
    return Failure(error.code(), reason, fields, "\n".join(texts), metadata)


def newest(updates: Sequence[order_pb2.OrderUpdate]) -> order_pb2.OrderUpdate:
    """The order as an answer leaves it."""
    return updates[-1]
