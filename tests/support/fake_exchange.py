"""A fake engine that also says what balances and books it has: those of a hand-built ledger, or what a test puts there."""

from typing import Any

import grpc

from ordertape.v1 import instrument_pb2, matching_engine_pb2, matching_engine_pb2_grpc
from services.wire.position import encode_position
from tests.support.fake_engine import FakeEngine
from tests.support.ledger_builder import LedgerBuilder


class FakeExchange(FakeEngine):
    """Serves ``ledger`` and what it comes to. ``balances`` and ``books`` are said as they stand here, by user and asset, and by
    symbol; the ledger's orders show nothing in the book.
    """

    def __init__(self, ledger: LedgerBuilder, **options: Any) -> None:
        self._ledger = ledger
        self.balances: dict[tuple[str, str], tuple[int, int]] = {}
        self.books: dict[str, matching_engine_pb2.GetOrderBookResponse] = {}
        super().__init__(ledger.batches, ledger_id=ledger.ledger_id, **options)

    def add_services(self, server: grpc.Server) -> None:
        """See FakeEngine."""
        matching_engine_pb2_grpc.add_AccountsServicer_to_server(_Accounts(self), server)
        matching_engine_pb2_grpc.add_MatchingEngineServicer_to_server(_Books(self), server)

    @property
    def position(self) -> str:
        return encode_position(self.ledger_id, self.durable_sequence)

    def balances_of(self, user_id: str) -> list[matching_engine_pb2.Balance]:
        """What it says of a user."""
        found = {key: (b.available, b.held) for key, b in self._ledger._balances.items()} | self.balances
        return [
            matching_engine_pb2.Balance(asset=asset, available=str(available), held=str(held))
            for (user, asset), (available, held) in sorted(found.items())
            if user == user_id
        ]

    def book_of(self, symbol: str) -> matching_engine_pb2.GetOrderBookResponse:
        """What it says of an instrument."""
        if symbol in self.books:
            return self.books[symbol]
        book = matching_engine_pb2.GetOrderBookResponse(
            position=self.position, trading_status=instrument_pb2.TRADING_STATUS_TRADING
        )
        for update in self._ledger.updates:
            if update.symbol == symbol and update.HasField("fill"):
                book.last_trade_price = update.fill.price
        return book


class _Accounts(matching_engine_pb2_grpc.AccountsServicer):
    def __init__(self, exchange: FakeExchange) -> None:
        self._exchange = exchange

    def ListBalances(  # noqa: N802
        self, request: matching_engine_pb2.ListBalancesRequest, _context: grpc.ServicerContext
    ) -> matching_engine_pb2.ListBalancesResponse:
        exchange = self._exchange
        return matching_engine_pb2.ListBalancesResponse(
            balances=exchange.balances_of(request.user_id), position=exchange.position
        )


class _Books(matching_engine_pb2_grpc.MatchingEngineServicer):
    def __init__(self, exchange: FakeExchange) -> None:
        self._exchange = exchange

    def GetOrderBook(  # noqa: N802
        self, request: matching_engine_pb2.GetOrderBookRequest, _context: grpc.ServicerContext
    ) -> matching_engine_pb2.GetOrderBookResponse:
        return self._exchange.book_of(request.symbol)
