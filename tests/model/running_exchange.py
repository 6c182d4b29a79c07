"""Both services with the model beside them: requests go in over gRPC, the witness reads the engine's ledger, and what engine and
history answer is compared with the model.
"""

import random
import time
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import grpc
import pytest

from ordertape.v1 import instrument_pb2, ledger_pb2, order_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from ordertape.v1 import order_history_pb2 as history_pb2
from services.domain.instrument import InstrumentRules
from tests.model.model_parts import OPEN, Refused, text_of
from tests.model.random_requests import INSTRUMENTS, RULES, USERS, Request
from tests.model.witness import Witness
from tests.support.engine_client import CALL_SECONDS, EngineClient
from tests.support.engine_exchange import running_engine
from tests.support.running_history import RunningHistory

_CODES = {
    "not open": (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION),
    "version": (grpc.StatusCode.ABORTED,),
    "replace": (grpc.StatusCode.FAILED_PRECONDITION,),
    "no money": (grpc.StatusCode.FAILED_PRECONDITION,),
    "too much": (grpc.StatusCode.FAILED_PRECONDITION,),
    "off step": (grpc.StatusCode.FAILED_PRECONDITION,),
    "instrument": (grpc.StatusCode.FAILED_PRECONDITION,),
    "unknown asset": (grpc.StatusCode.NOT_FOUND,),
    "unknown symbol": (grpc.StatusCode.NOT_FOUND,),
}
_MANY = {"place_order": "place", "replace_order": "replace", "cancel_order": "cancel"}


class RunningExchange:
    """An engine and a history in ``folder``, and the model."""

    def __init__(self, folder: Path) -> None:
        self.witness = Witness()
        self.engine_folder, self.history_folder = folder / "engine", folder / "history"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            # The session ends while the test runs, so that DAY orders expire.
            rules = RULES | {"session_end_seconds": int(time.time() + 3) % 86_400}
            instruments = [_config(instrument) for instrument in INSTRUMENTS]
            engine = opened.enter_context(running_engine(self.engine_folder, instruments=instruments, **rules))
            self._client = opened.enter_context(EngineClient(engine.address))
            followed = SimpleNamespace(address=engine.address, feed=engine.feed_addresses["history"])
            self._history = opened.enter_context(RunningHistory(followed, self.history_folder))
            self._stack = opened.pop_all()
        self.catch_up()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stack.close()

    @property
    def now(self) -> int:
        """Microseconds since 1970."""
        return time.time_ns() // 1000

    def take(self, request: Request, chance: random.Random) -> None:
        """Send a request, alone or as an item of many, and see what it brought about."""
        if request.message is None:
            return
        before = self.witness.sequence
        failed, answered = self._send(request, chance)
        kinds = self.catch_up()
        if failed is None:
            assert request.name in kinds, f"{request.name} is in no batch after {before}"
            self._check_answer(answered)
            return
        assert request.name not in kinds
        if "expire_due" in kinds:
            return  # What expired before or after the call, which the ledger does not say, may be why.
        with pytest.raises(Refused) as refused:
            self.witness.model.do(request.name, request.message, self.now)
        assert failed in _CODES[refused.value.why], f"{failed} and {refused.value.why}"

    def catch_up(self) -> list[str]:
        """Read the ledger to its end: the requests of the batches."""
        kinds = []
        for data in self._client.batches(self.witness.sequence):
            batch = ledger_pb2.LedgerBatch.FromString(data)
            kinds.append(str(batch.WhichOneof("request")))
            self.witness.see(batch)
        return kinds

    def check_whole(self) -> None:
        """Balances, books and halts as the engine tells them, orders and their timelines as the history does."""
        while True:
            self.catch_up()
            self._history.wait_until_applied(self.witness.sequence)
            try:
                self._check_engine()
                self._check_history()
                return
            except AssertionError:
                # An order that expires between two answers makes them differ.
                if self._client.durable_sequence() == self.witness.sequence:
                    raise

    def _check_engine(self) -> None:
        for symbol in self.witness.model.rules:
            self._check_book(symbol)
        for user in USERS:
            for asset, (available, held) in self._client.balances(user).items():
                assert (Decimal(available), Decimal(held)) == self.witness.balances[user, asset]

    def _check_history(self) -> None:
        newest = [timeline[-1] for _, timeline in sorted(self.witness.timelines.items(), reverse=True)]
        for user in USERS:
            mine = [update for update in newest if update.user_id == user]
            is_open = [update for update in mine if update.status in OPEN]
            assert self._listed("ListActiveOrders", history_pb2.ListActiveOrdersRequest(user_id=user)) == is_open
            assert self._listed("ListOrderHistory", history_pb2.ListOrderHistoryRequest(user_id=user)) == mine
        for update in newest[:50]:
            request = history_pb2.ListOrderUpdatesRequest(user_id=update.user_id, order_id=update.order_id)
            assert self._listed("ListOrderUpdates", request) == self.witness.timelines[update.order_id]

    def _send(self, request: Request, chance: random.Random) -> tuple[grpc.StatusCode | None, list[order_pb2.OrderUpdate]]:
        """The code with which it failed, or the updates that it was answered with."""
        client, message = self._client, request.message
        if request.name in _MANY and chance.randrange(2):
            items = [pb.SubmitOrdersItem(**{_MANY[request.name]: message})]
            (result,) = client.engine.SubmitOrders(pb.SubmitOrdersRequest(items=items), timeout=CALL_SECONDS).results
            if result.HasField("error"):
                return next(code for code in grpc.StatusCode if code.value[0] == result.error.code), []
            return None, list(result.updates)
        calls: dict[str, Any] = {
            "place_order": client.engine.PlaceOrder, "replace_order": client.engine.ReplaceOrder,
            "cancel_order": client.engine.CancelOrder, "cancel_orders": client.engine.CancelOrders,
            "deposit": client.operator.Deposit, "withdraw": client.operator.Withdraw,
            "set_trading_status": client.operator.SetTradingStatus, "set_user_status": client.operator.SetUserStatus,
            "force_cancel_order": client.operator.ForceCancelOrder, "set_instrument": client.operator.SetInstrument,
        }  # fmt: skip
        try:
            answer = calls[request.name](message, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            return error.code(), []
        return None, list(getattr(answer, "updates", ()))

    def _check_answer(self, answered: list[order_pb2.OrderUpdate]) -> None:
        """An answer says what the ledger says."""
        for update in answered:
            assert update in self.witness.timelines[update.order_id]

    def _check_book(self, symbol: str) -> None:
        model, book = self.witness.model, self._client.book(symbol)
        for levels, bids in ((book.bids, True), (book.asks, False)):
            expected: dict[str, list[Decimal]] = {}
            for order in model.queue(symbol, bids=bids):
                assert order.price is not None
                expected.setdefault(text_of(order.price), []).append(order.shown)
            shown = [(level.price, Decimal(level.qty), level.order_count) for level in levels]
            assert shown == [(price, sum(parts), len(parts)) for price, parts in expected.items()]
        assert (book.trading_status == instrument_pb2.TRADING_STATUS_HALTED) == (symbol in model.halted)
        last = model.last_price.get(symbol)
        assert (book.last_trade_price if book.HasField("last_trade_price") else None) == (last and text_of(last))

    def _listed(self, method: str, request: Any) -> list[order_pb2.OrderUpdate]:
        """All pages of a list of the history."""
        request.page_size, listed = 100, []
        while True:
            answer = getattr(self._history.stub, method)(request, timeout=CALL_SECONDS)
            listed += answer.updates if method == "ListOrderUpdates" else answer.orders
            if not answer.next_page_token:
                return listed
            request.page_token = answer.next_page_token


def _config(instrument: instrument_pb2.Instrument) -> dict[str, Any]:
    """The instrument as config has it."""
    return {
        name: getattr(instrument, name)
        for name in InstrumentRules.__slots__
        if name != "price_band_rate" or instrument.HasField(name)
    }
