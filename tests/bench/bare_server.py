"""The baselines' server: the same two messages, the same server kind and settings as the service has, and nothing behind it."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from ordertape.v1 import matching_engine_pb2 as engine
from ordertape.v1 import matching_engine_pb2_grpc, order_history_pb2, order_history_pb2_grpc
from services.serving.aio_server import start_aio_server
from services.serving.health import HealthBoard
from services.serving.process import run_until_signal
from services.serving.server import start_server
from services.serving.settings import ServerSettings


class EngineEcho(matching_engine_pb2_grpc.MatchingEngineServicer):
    """Answers every PlaceOrder and every SubmitOrders with the same message, which is ready; gRPC serializes it each time."""

    def __init__(self, placed: engine.PlaceOrderResponse, submitted: engine.SubmitOrdersResponse) -> None:
        self._placed = placed
        self._submitted = submitted

    def PlaceOrder(self, request: engine.PlaceOrderRequest, context: grpc.ServicerContext) -> engine.PlaceOrderResponse:  # noqa: N802
        """Answer at once."""
        return self._placed

    def SubmitOrders(self, request: engine.SubmitOrdersRequest, context: grpc.ServicerContext) -> engine.SubmitOrdersResponse:  # noqa: N802
        """Answer at once."""
        return self._submitted
