"""Clients under whose hands the engine dies: each repeats every request until it has an answer, as a careful client does."""

import random
import threading
from collections.abc import Callable
from typing import Any, Self

import grpc

from ordertape.v1 import ledger_pb2, order_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from tests.support.engine_audit import Key, LedgerAudit
from tests.support.engine_client import EngineClient, Request, cancel, limit, replace

OrderAnswer = pb.PlaceOrderResponse | pb.CancelOrderResponse | pb.ReplaceOrderResponse | pb.SubmitOrdersResult
Answer = OrderAnswer | pb.CancelOrdersResponse | pb.DepositResponse | pb.WithdrawResponse
# What an engine that stops or dies does to a call; CANCELLED is gRPC's word for a call that had come in and was not handed
# over yet when the server stopped.
_NO_ANSWER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_RETRY_SECONDS = 0.02
_CALL_SECONDS = 5.0


class Load:
    """``clients`` threads, each with a user of its own, that send until the context is left; ``address`` says where the engine
    is now. What was answered is in ``answers``, what was refused by an error in ``refusals``.
    """

    def __init__(self, address: str, clients: int = 4, *, retry: bool = True) -> None:
        self.address = address
        self.answers: dict[Key, Answer] = {}
        self.refusals: dict[Key, grpc.StatusCode] = {}
        self.unanswered: set[Key] = set()
        """Sent and neither answered nor refused: with ``retry``, only while the engine is away."""
        self.answered = 0
        self.failures: list[BaseException] = []
        self._retry = retry
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), name=f"client-{number}") for number in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        assert self.failures == []

    def _run(self, number: int) -> None:
        try:
            _Client(self, f"client{number}", random.Random(number)).run()
        except BaseException as failure:
            self.failures.append(failure)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def call(self, client: "_Client", keys: list[Key], make: Callable[[EngineClient], Any]) -> Any:
        """The answer, None where there is none and no retry, or the error's code."""
        self.unanswered.update(keys)
        while True:
            try:
                answer = make(client.connection())
            except grpc.RpcError as error:
                if error.code() not in _NO_ANSWER:
                    self.unanswered.difference_update(keys)
                    self.refusals.update(dict.fromkeys(keys, error.code()))
                    return error.code()
                if not self._retry:
                    self._stopping.set()
                    return None
                self._stopping.wait(_RETRY_SECONDS)
                continue
            self.unanswered.difference_update(keys)
            self.answered += 1
            return answer


class _Client:
    def __init__(self, load: Load, user_id: str, chance: random.Random) -> None:
        self._load = load
        self._user_id = user_id
        self._chance = chance
        self._connected: tuple[str, EngineClient] | None = None
        self._orders: list[str] = []
        self._sent = 0

    def run(self) -> None:
        for asset in ("USD", "BTC"):
            self._move("deposit", asset, "1000000")
        while not self._load.stopping:
            kind = self._chance.random()
            if kind < 0.5:
                self._submit([self._place()])
            elif kind < 0.6:
                self._submit([self._cancel()])
            elif kind < 0.7:
                self._submit([self._replace()])
            elif kind < 0.72:
                self._cancel_all()
            elif kind < 0.9:
                makers = self._chance.choices([self._place, self._cancel, self._replace], weights=[6, 3, 1], k=8)
                self._submit([make() for make in makers])
            else:
                self._move(self._chance.choice(("deposit", "withdraw")), "USD", "1.5")
        if self._connected is not None:
            self._connected[1].__exit__()

    def connection(self) -> EngineClient:
        """To where the engine is now."""
        if self._connected is None or self._connected[0] != self._load.address:
            if self._connected is not None:
                self._connected[1].__exit__()
            self._connected = (self._load.address, EngineClient(self._load.address))
        return self._connected[1]

    def _name(self) -> str:
        self._sent += 1
        return f"{self._user_id}-{self._sent}"

    def _place(self) -> pb.PlaceOrderRequest:
        self._orders.append(self._name())
        price = f"{self._chance.randint(995, 1005) / 10:.1f}"
        side = self._chance.choice((order_pb2.SIDE_BUY, order_pb2.SIDE_SELL))
        return limit(self._user_id, side, price, f"0.{self._chance.randint(1, 99):02d}", client_order_id=self._orders[-1])

    def _cancel(self) -> pb.CancelOrderRequest:
        return cancel(self._user_id, self._chance.choice(self._orders[-10:] or ["none"]), self._name())

    def _replace(self) -> pb.ReplaceOrderRequest:
        target = self._chance.choice(self._orders[-10:] or ["none"])
        return replace(self._user_id, target, self._name(), qty=f"0.{self._chance.randint(1, 99):02d}")

    def _cancel_all(self) -> None:
        key: Key = ("cancel_orders", self._user_id, self._name())
        answer = self._load.call(self, [key], lambda engine: engine.cancel_orders(self._user_id, key[2]))
        if isinstance(answer, pb.CancelOrdersResponse):
            self._load.answers[key] = answer

    def _submit(self, requests: list[Request]) -> None:
        keys = [_key_of(request) for request in requests]
        if len(requests) > 1:
            answer = self._load.call(self, keys, lambda engine: engine.submit(*requests))
            for key, result in zip(keys, answer.results if isinstance(answer, pb.SubmitOrdersResponse) else (), strict=False):
                if not result.HasField("error"):
                    self._load.answers[key] = result
            return
        (request,) = requests
        answer = self._load.call(self, keys, lambda engine: _send(engine, request))
        if isinstance(answer, pb.PlaceOrderResponse | pb.CancelOrderResponse | pb.ReplaceOrderResponse):
            self._load.answers[keys[0]] = answer

    def _move(self, kind: str, asset: str, amount: str) -> None:
        key: Key = (kind, self._user_id, self._name())
        fields = {"user_id": self._user_id, "asset": asset, "amount": amount, "request_id": key[2]}
        if kind == "deposit":
            answer = self._load.call(self, [key], lambda engine: engine.deposit(pb.DepositRequest(**fields)))
        else:
            answer = self._load.call(self, [key], lambda engine: engine.withdraw(pb.WithdrawRequest(**fields)))
        if isinstance(answer, pb.DepositResponse | pb.WithdrawResponse):
            self._load.answers[key] = answer


def _send(engine: EngineClient, request: Request) -> OrderAnswer:
    if isinstance(request, pb.PlaceOrderRequest):
        return engine.place(request)
    return engine.cancel(request) if isinstance(request, pb.CancelOrderRequest) else engine.replace(request)


def _key_of(request: Request) -> Key:
    if isinstance(request, pb.PlaceOrderRequest):
        return ("place_order", request.user_id, request.client_order_id)
    kind = "cancel_order" if isinstance(request, pb.CancelOrderRequest) else "replace_order"
    return (kind, request.user_id, request.request_id)


def assert_answered_exactly_once(load: Load, client: EngineClient) -> LedgerAudit:
    """All that the clients were told is in the ledger, as they were told it, once; what was refused is not there.

    The ledger itself is audited, and for each asset no money was made or lost.
    """
    audit = LedgerAudit(client.batches())  # fails where a key was used twice
    audit.check_money()
    for key, answer in load.answers.items():
        batch = audit.by_key[key]
        if isinstance(answer, pb.DepositResponse | pb.WithdrawResponse):
            line = batch.commands[0].deposit if key[0] == "deposit" else batch.commands[0].withdraw
            assert (answer.balance.available, answer.balance.held) == (line.available_after, line.held_after)
        elif isinstance(answer, pb.CancelOrdersResponse):
            assert answer.cancelled_count == batch.commands[-1].mass_cancel_done.cancelled_count
        else:
            assert [update.SerializeToString() for update in answer.updates] == [
                update.SerializeToString() for update in _own_updates(batch)
            ]
        assert answer.position.endswith(f":{batch.commands[-1].sequence}")
    assert not set(load.refusals) & set(audit.by_key)
    assert set(load.refusals.values()) <= {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}
    return audit


def _own_updates(batch: ledger_pb2.LedgerBatch) -> list[order_pb2.OrderUpdate]:
    updates = [command.order_update for command in batch.commands if command.HasField("order_update")]
    return [update for update in updates if update.order_id == updates[0].order_id]
