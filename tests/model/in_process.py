"""The pure core and the history's processor in this process: each request is decided as the sequencer does it, written as the
ledger has it, checked by the witness, projected as the history does it, and folded into a second state as a recovery does it.
"""

from typing import Any

import pytest
from google.protobuf.message import Message

from ordertape.v1 import ledger_pb2
from services.domain.commands import ApplyConfig, Command, ExpireDue, StartEngine, TriggerStop
from services.domain.errors import Refused
from services.domain.kinds import Side
from services.domain.state import ExchangeState
from services.order_history.order_processor import EndedOrder, OrderProcessor, StoredUpdate
from services.wire.instrument_codec import decode_rules, encode_exchange_rules, encode_rules
from services.wire.ledger_codec import decode_events, encode_batch
from services.wire.requests import LedgerRequest
from services.wire.stored_requests import command_of
from tests.model import model_parts
from tests.model.model_parts import time_of
from tests.model.random_requests import Request
from tests.model.witness import Witness
from tests.support.exchange import Core
from tests.support.ledger_builder import received


class Trial:
    """An exchange in memory, the model beside it, and what the history makes of its ledger."""

    def __init__(self, instruments: list[Any], **rules: int) -> None:
        self.witness = Witness()
        self.recovered = ExchangeState()
        self.batches: list[ledger_pb2.LedgerBatch] = []
        self._hash = b""
        self._open: dict[int, StoredUpdate] = {}
        self._ended: dict[int, EndedOrder] = {}
        self._processor = OrderProcessor()
        self._core = Core(*(decode_rules(instrument) for instrument in instruments), **rules)
        self._logged = 0
        self._take_log(None)

    @property
    def time(self) -> int:
        """The time of the next command, microseconds since 1970."""
        return self._core.time

    def pass_time(self, microseconds: int) -> None:
        """Nothing happens for a while."""
        self._core.time += microseconds

    def take(self, request: Request) -> None:
        """A random request, or the time in which there is none."""
        if request.message is None:
            self.pass_time(request.wait)
        else:
            self.do(request.name, request.message)

    def do(self, name: str, request: Message) -> None:
        """One request, through everything."""
        asked = ledger_pb2.LedgerBatch(**{name: request})
        command = command_of(asked)
        refused = False
        try:
            self._core.do(command)
        except Refused:
            refused = True
        self._take_log(LedgerRequest(name, getattr(asked, name)))
        if refused:
            self._expect_refusal(name, getattr(asked, name))
        self._check_fold()
        self._check_book()

    def check_whole(self) -> None:
        """All orders that ever were, and the whole state made anew from the ledger."""
        self._core.check()
        assert self.recovered.describe() == self._core.state.describe()
        newest = {order_id: timeline[-1] for order_id, timeline in self.witness.timelines.items()}
        assert self._open.keys() | self._ended.keys() == newest.keys()
        for order_id, stored in self._open.items():
            assert stored.message == newest[order_id]
        for order_id, ended in self._ended.items():
            update = newest[order_id]
            assert ended == EndedOrder(
                update.user_id, time_of(update.created_at), order_id, update.symbol, update.side, update.status,
                time_of(update.timestamp), update.sequence, update.order_number, update.SerializeToString(),
            )  # fmt: skip

    def _expect_refusal(self, name: str, request: Message) -> None:
        with pytest.raises(model_parts.Refused):
            self.witness.model.do(name, request, self._core.time)

    def _take_log(self, asked: LedgerRequest | None) -> None:
        """Write what was decided since the last time; ``asked`` is the one request that did not come from inside."""
        for command, time, events in self._core.log[self._logged :]:
            request = _internal_request(command, asked)
            batch = received(encode_batch(self.recovered, events, request, time, self._hash).data)
            self._hash = batch.hash
            self.batches.append(batch.message)
            self.witness.see(batch.message)
            chunk = self._processor.project("0123456789abcdef", [batch])
            for order_id in chunk.closed:
                self._open.pop(order_id, None)
            self._open |= chunk.open
            self._ended |= {ended.order_id: ended for ended in chunk.ended}
            self.recovered.apply(decode_events(batch.message, self.recovered), time)
        self._logged = len(self._core.log)

    def _check_fold(self) -> None:
        """The history's open orders are the model's, each with its newest update."""
        model = self.witness.model
        assert self._open.keys() == model.open.keys()
        for order_id, stored in self._open.items():
            update = self.witness.timelines[order_id][-1]
            assert stored.sequence == update.sequence
            order = model.open[order_id]
            assert (update.status, update.version) == (order.status, order.version)
        assert len(self._ended) + len(self._open) == model.orders

    def _check_book(self) -> None:
        """Price, visible qty and place of every order that rests."""
        for symbol, book in self._core.state.books.items():
            instrument = self._core.state.instruments[symbol]
            for side in Side:
                bids = side == Side.BUY
                expected = [(o.order_id, o.price, o.shown) for o in self.witness.model.queue(symbol, bids=bids)]
                actual = [
                    (
                        order.terms.order_id,
                        model_parts.EXACT.scaleb(order.terms.price, -instrument.price_decimals),
                        model_parts.EXACT.scaleb(order.visible, -instrument.qty_decimals),
                    )
                    for order in book.side(side).orders()
                ]
                assert actual == expected, (symbol, side)


def _internal_request(command: Command, asked: LedgerRequest | None) -> LedgerRequest:
    """What is journaled as the cause of a command: what the engine itself asks for, or what was ``asked`` from outside."""
    if isinstance(command, ExpireDue):
        return LedgerRequest("expire_due", ledger_pb2.ExpireDue())
    if isinstance(command, TriggerStop):
        return LedgerRequest("trigger_stop", ledger_pb2.TriggerStop(order_id=command.order_id))
    if isinstance(command, StartEngine):
        rules = encode_exchange_rules(command.rules)
        return LedgerRequest("start_engine", ledger_pb2.StartEngine(ledger_id=command.ledger_id, epoch=1, rules=rules))
    if asked is not None:
        return asked
    assert isinstance(command, ApplyConfig)
    config = ledger_pb2.ApplyConfig()
    encode_rules(command.rules, config.instrument)
    return LedgerRequest("apply_config", config)
