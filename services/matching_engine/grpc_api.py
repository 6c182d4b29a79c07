"""The engine's calls: check what the message shows, hand the command to the sequencer, answer with what is durable by then."""

import grpc
from google.protobuf.message import Message

from ordertape.v1 import instrument_pb2, matching_engine_pb2, matching_engine_pb2_grpc
from services.domain.accounts import Balance
from services.domain.book import LevelView
from services.domain.commands import Command
from services.domain.exchange import find_instrument
from services.domain.instrument import Instrument
from services.domain.money import to_text
from services.domain.state import ExchangeState
from services.matching_engine.answers import AnswerBudget, answered
from services.matching_engine.keys import key_of
from services.matching_engine.sequencer import Mutation, Sequencer
from services.wire.errors import CallError, Violation, invalid_request, item_error_of
from services.wire.instrument_codec import encode_rules
from services.wire.position import encode_position
from services.wire.requests import (
    LedgerRequest,
    cancel_command,
    check_list_balances,
    check_order_book,
    check_submit,
    deposit_command,
    place_command,
    withdraw_command,
)


class MatchingEngineApi(matching_engine_pb2_grpc.MatchingEngineServicer):
    """Order entry and market state."""

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer

    def PlaceOrder(
        self, request: matching_engine_pb2.PlaceOrderRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.PlaceOrderResponse:
        """Place one order."""
        answer = answered(self._sequencer.submit((_place(request),)))
        response = matching_engine_pb2.PlaceOrderResponse()
        AnswerBudget((answer,)).fill(response, answer)
        return response

    def CancelOrder(
        self, request: matching_engine_pb2.CancelOrderRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.CancelOrderResponse:
        """Cancel one open order."""
        answer = answered(self._sequencer.submit((_cancel(request),)))
        response = matching_engine_pb2.CancelOrderResponse()
        AnswerBudget((answer,)).fill(response, answer)
        return response

    def SubmitOrders(
        self, request: matching_engine_pb2.SubmitOrdersRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.SubmitOrdersResponse:
        """Place and cancel many orders, in order, each by itself."""
        check_submit(request)
        items = [_item(item) for item in request.items]
        submitted = self._sequencer.submit([item for item in items if isinstance(item, Mutation)])
        decided = iter(submitted.outcomes)
        outcomes = [item if isinstance(item, CallError) else next(decided) for item in items]
        response = matching_engine_pb2.SubmitOrdersResponse()
        budget = AnswerBudget(outcomes)
        add = response.results.add
        for outcome in outcomes:
            if isinstance(outcome, CallError):
                add().error.CopyFrom(item_error_of(outcome))
            else:
                budget.fill(add(), outcome)
        response.position = submitted.position
        return response

    def GetOrderBook(
        self, request: matching_engine_pb2.GetOrderBookRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.GetOrderBookResponse:
        """The best price levels of one instrument."""
        depth = check_order_book(request)
        return self._sequencer.read(lambda state: _order_book(state, request.symbol, depth))

    def ListInstruments(
        self, request: matching_engine_pb2.ListInstrumentsRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.ListInstrumentsResponse:
        """All instruments."""
        return self._sequencer.read(_instruments)


class AccountsApi(matching_engine_pb2_grpc.AccountsServicer):
    """What users own."""

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer

    def ListBalances(
        self, request: matching_engine_pb2.ListBalancesRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.ListBalancesResponse:
        """All balances of one user."""
        check_list_balances(request)
        return self._sequencer.read(lambda state: _balances(state, request.user_id))


class OperatorApi(matching_engine_pb2_grpc.OperatorServicer):
    """What only the exchange's operator may do."""

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer

    def Deposit(
        self, request: matching_engine_pb2.DepositRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.DepositResponse:
        """Bring money in."""
        mutation = _mutation(deposit_command(request), "deposit", request)
        answer = answered(self._sequencer.submit((mutation,)))
        done = answer.batch.message.commands[0].deposit
        balance = matching_engine_pb2.Balance(asset=done.asset, available=done.available_after, held=done.held_after)
        return matching_engine_pb2.DepositResponse(balance=balance, position=answer.position, replayed=answer.replayed)

    def Withdraw(
        self, request: matching_engine_pb2.WithdrawRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.WithdrawResponse:
        """Take available money out."""
        mutation = _mutation(withdraw_command(request), "withdraw", request)
        answer = answered(self._sequencer.submit((mutation,)))
        done = answer.batch.message.commands[0].withdraw
        balance = matching_engine_pb2.Balance(asset=done.asset, available=done.available_after, held=done.held_after)
        return matching_engine_pb2.WithdrawResponse(balance=balance, position=answer.position, replayed=answer.replayed)


def _place(request: matching_engine_pb2.PlaceOrderRequest, path: str = "") -> Mutation:
    return _mutation(place_command(request, path), "place_order", request)


def _cancel(request: matching_engine_pb2.CancelOrderRequest, path: str = "") -> Mutation:
    return _mutation(cancel_command(request, path), "cancel_order", request)


def _mutation(command: Command, name: str, request: Message) -> Mutation:
    return Mutation(command, LedgerRequest(name, request), key_of(name, request))


def _item(item: matching_engine_pb2.SubmitOrdersItem) -> Mutation | CallError:
    """The item's mutation, or what is wrong with it: one bad item fails itself alone."""
    try:
        action = item.WhichOneof("action")
        if action == "place":
            return _place(item.place, "place.")
        if action == "cancel":
            return _cancel(item.cancel, "cancel.")
        return invalid_request([Violation("action", "is required: one of place and cancel")])
    except CallError as error:
        return error


def _order_book(state: ExchangeState, symbol: str, depth: int) -> matching_engine_pb2.GetOrderBookResponse:
    instrument, book = find_instrument(state, symbol), state.books.get(symbol)
    assert book is not None
    response = matching_engine_pb2.GetOrderBookResponse(
        bids=[_level(view, instrument) for view in book.bids.levels(depth)],
        asks=[_level(view, instrument) for view in book.asks.levels(depth)],
        position=encode_position(state.ledger_id, state.sequence),
        trading_status=instrument_pb2.TRADING_STATUS_TRADING,
    )
    if book.last_trade_price is not None:
        response.last_trade_price = to_text(book.last_trade_price, instrument.price_decimals)
    return response


def _level(view: LevelView, instrument: Instrument) -> matching_engine_pb2.BookLevel:
    return matching_engine_pb2.BookLevel(
        price=to_text(view.price, instrument.price_decimals),
        qty=to_text(view.qty, instrument.qty_decimals),
        order_count=view.order_count,
    )


def _instruments(state: ExchangeState) -> matching_engine_pb2.ListInstrumentsResponse:
    response = matching_engine_pb2.ListInstrumentsResponse(position=encode_position(state.ledger_id, state.sequence))
    for symbol in sorted(state.instruments):
        encode_rules(state.instruments[symbol].rules, response.instruments.add())
    return response


def _balances(state: ExchangeState, user_id: str) -> matching_engine_pb2.ListBalancesResponse:
    balances = [_balance(state, asset, balance) for asset, balance in state.accounts.balances(user_id).items()]
    return matching_engine_pb2.ListBalancesResponse(balances=balances, position=encode_position(state.ledger_id, state.sequence))


def _balance(state: ExchangeState, asset: str, balance: Balance) -> matching_engine_pb2.Balance:
    decimals = state.asset_decimals[asset]
    return matching_engine_pb2.Balance(
        asset=asset, available=to_text(balance.available, decimals), held=to_text(balance.held, decimals)
    )
