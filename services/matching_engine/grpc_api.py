"""The engine's calls: check what the message shows, hand the command to the sequencer, answer with what is durable by then."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from typing import TypeAlias

import grpc
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from ordertape.v1 import matching_engine_pb2, matching_engine_pb2_grpc
from services.matching_engine.answers import AnswerBudget, answered
from services.matching_engine.sequencer import Sequencer
from services.matching_engine.sessions import Sessions
from services.matching_engine.views import balances, count_orders, instruments, order_book
from services.matching_engine.work import Mutation, mutation_of
from services.wire.errors import CallError, Violation, invalid_request, item_error_of
from services.wire.place_request import place_command
from services.wire.requests import (
    cancel_command,
    cancel_orders_command,
    check_list_balances,
    check_order_book,
    check_session_message,
    check_submit,
    replace_command,
)

_Results: TypeAlias = RepeatedCompositeFieldContainer[matching_engine_pb2.SubmitOrdersResult]


class MatchingEngineApi(matching_engine_pb2_grpc.MatchingEngineServicer):
    """Order entry and market state."""

    def __init__(self, sequencer: Sequencer, sessions: Sessions) -> None:
        self._sequencer = sequencer
        self._sessions = sessions

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

    def ReplaceOrder(
        self, request: matching_engine_pb2.ReplaceOrderRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.ReplaceOrderResponse:
        """Change an open order's terms."""
        answer = answered(self._sequencer.submit((_replace(request),)))
        response = matching_engine_pb2.ReplaceOrderResponse()
        AnswerBudget((answer,)).fill(response, answer)
        return response

    def CancelOrders(
        self, request: matching_engine_pb2.CancelOrdersRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.CancelOrdersResponse:
        """Cancel a user's open orders, or count them."""
        command = cancel_orders_command(request)
        if request.dry_run:
            return self._sequencer.read(lambda state: count_orders(state, command))
        answer = answered(self._sequencer.submit((mutation_of(command, "cancel_orders", request),)))
        return matching_engine_pb2.CancelOrdersResponse(
            cancelled_count=answer.batch.message.commands[-1].mass_cancel_done.cancelled_count,
            position=answer.position,
            replayed=answer.replayed,
        )

    def OrderSession(
        self, request_iterator: Iterator[matching_engine_pb2.OrderSessionRequest], context: grpc.ServicerContext
    ) -> Iterator[matching_engine_pb2.OrderSessionResponse]:
        """SubmitOrders as a stream, with the caller's own numbers."""
        first = True
        with ExitStack() as stack:
            for request in stack.enter_context(closing(self._sessions.messages(request_iterator))):
                check_session_message(request, first=first)
                if request.HasField("cancel_on_disconnect"):
                    stack.enter_context(self._sessions.session(request.cancel_on_disconnect))
                first = False
                response = matching_engine_pb2.OrderSessionResponse(correlation_id=request.correlation_id)
                response.position = self._submit(request.items, response.results)
                yield response

    def SubmitOrders(
        self, request: matching_engine_pb2.SubmitOrdersRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.SubmitOrdersResponse:
        """Place and cancel many orders, in order, each by itself."""
        check_submit(request)
        response = matching_engine_pb2.SubmitOrdersResponse()
        response.position = self._submit(request.items, response.results)
        return response

    def _submit(self, requested: Iterable[matching_engine_pb2.SubmitOrdersItem], results: _Results) -> str:
        """Have the items decided and write their results; returns the position after the last."""
        items = [_item(item) for item in requested]
        submitted = self._sequencer.submit([item for item in items if isinstance(item, Mutation)])
        decided = iter(submitted.outcomes)
        outcomes = [item if isinstance(item, CallError) else next(decided) for item in items]
        budget = AnswerBudget(outcomes)
        add = results.add
        for outcome in outcomes:
            if isinstance(outcome, CallError):
                add().error.CopyFrom(item_error_of(outcome))
            else:
                budget.fill(add(), outcome)
        return submitted.position

    def GetOrderBook(
        self, request: matching_engine_pb2.GetOrderBookRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.GetOrderBookResponse:
        """The best price levels of one instrument."""
        depth = check_order_book(request)
        return self._sequencer.read(lambda state: order_book(state, request.symbol, depth))

    def ListInstruments(
        self, request: matching_engine_pb2.ListInstrumentsRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.ListInstrumentsResponse:
        """All instruments."""
        return self._sequencer.read(instruments)


class AccountsApi(matching_engine_pb2_grpc.AccountsServicer):
    """What users own."""

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer

    def ListBalances(
        self, request: matching_engine_pb2.ListBalancesRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.ListBalancesResponse:
        """All balances of one user."""
        check_list_balances(request)
        return self._sequencer.read(lambda state: balances(state, request.user_id))


def _place(request: matching_engine_pb2.PlaceOrderRequest, path: str = "") -> Mutation:
    return mutation_of(place_command(request, path), "place_order", request)


def _cancel(request: matching_engine_pb2.CancelOrderRequest, path: str = "") -> Mutation:
    return mutation_of(cancel_command(request, path), "cancel_order", request)


def _replace(request: matching_engine_pb2.ReplaceOrderRequest, path: str = "") -> Mutation:
    return mutation_of(replace_command(request, path), "replace_order", request)


def _item(item: matching_engine_pb2.SubmitOrdersItem) -> Mutation | CallError:
    """The item's mutation, or what is wrong with it: one bad item fails itself alone."""
    try:
        action = item.WhichOneof("action")
        if action == "place":
            return _place(item.place, "place.")
        if action == "cancel":
            return _cancel(item.cancel, "cancel.")
        if action == "replace":
            return _replace(item.replace, "replace.")
        return invalid_request([Violation("action", "is required: one of place, cancel and replace")])
    except CallError as error:
        return error
