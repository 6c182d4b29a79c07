"""The operator's calls: money in and out, and the controls. Can be served at an address of its own."""

import grpc

from ordertape.v1 import matching_engine_pb2, matching_engine_pb2_grpc
from services.matching_engine.answers import answered
from services.matching_engine.sequencer import Sequencer
from services.matching_engine.work import mutation_of
from services.wire.operator_requests import (
    force_cancel_command,
    set_instrument_command,
    trading_status_command,
    user_status_command,
)
from services.wire.requests import deposit_command, withdraw_command


class OperatorApi(matching_engine_pb2_grpc.OperatorServicer):
    """What only the exchange's operator may do."""

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer

    def Deposit(
        self, request: matching_engine_pb2.DepositRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.DepositResponse:
        """Bring money in."""
        mutation = mutation_of(deposit_command(request), "deposit", request)
        answer = answered(self._sequencer.submit((mutation,)))
        done = answer.batch.message.commands[0].deposit
        balance = matching_engine_pb2.Balance(asset=done.asset, available=done.available_after, held=done.held_after)
        return matching_engine_pb2.DepositResponse(balance=balance, position=answer.position, replayed=answer.replayed)

    def Withdraw(
        self, request: matching_engine_pb2.WithdrawRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.WithdrawResponse:
        """Take available money out."""
        mutation = mutation_of(withdraw_command(request), "withdraw", request)
        answer = answered(self._sequencer.submit((mutation,)))
        done = answer.batch.message.commands[0].withdraw
        balance = matching_engine_pb2.Balance(asset=done.asset, available=done.available_after, held=done.held_after)
        return matching_engine_pb2.WithdrawResponse(balance=balance, position=answer.position, replayed=answer.replayed)

    def SetTradingStatus(
        self, request: matching_engine_pb2.SetTradingStatusRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.SetTradingStatusResponse:
        """Halt or resume an instrument."""
        mutation = mutation_of(trading_status_command(request), "set_trading_status", request)
        answer = answered(self._sequencer.submit((mutation,)))
        return matching_engine_pb2.SetTradingStatusResponse(position=answer.position, replayed=answer.replayed)

    def SetUserStatus(
        self, request: matching_engine_pb2.SetUserStatusRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.SetUserStatusResponse:
        """Suspend or readmit a user."""
        mutation = mutation_of(user_status_command(request), "set_user_status", request)
        answer = answered(self._sequencer.submit((mutation,)))
        return matching_engine_pb2.SetUserStatusResponse(position=answer.position, replayed=answer.replayed)

    def ForceCancelOrder(
        self, request: matching_engine_pb2.ForceCancelOrderRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.ForceCancelOrderResponse:
        """Cancel any user's open order."""
        mutation = mutation_of(force_cancel_command(request), "force_cancel_order", request)
        answer = answered(self._sequencer.submit((mutation,)))
        response = matching_engine_pb2.ForceCancelOrderResponse(position=answer.position, replayed=answer.replayed)
        response.updates.extend(answer.batch.updates)
        return response

    def SetInstrument(
        self, request: matching_engine_pb2.SetInstrumentRequest, context: grpc.ServicerContext
    ) -> matching_engine_pb2.SetInstrumentResponse:
        """Set an instrument's rules, or list a new one."""
        mutation = mutation_of(set_instrument_command(request), "set_instrument", request)
        answer = answered(self._sequencer.submit((mutation,)))
        instrument = answer.batch.message.commands[0].instrument_set.instrument
        return matching_engine_pb2.SetInstrumentResponse(
            instrument=instrument, position=answer.position, replayed=answer.replayed
        )
