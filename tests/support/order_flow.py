"""A seeded flow of orders of several users, and clients that send it over whatever happens to the engine: each message again as
it is until it is answered. Every mutation has a key, so that an answer that was lost is no harm.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Self, TypeAlias

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import matching_engine_pb2_grpc as engine_grpc
from ordertape.v1 import order_pb2
from tests.support.exchange_process import Background

USERS = ("alice", "bob", "carol", "dave")
MIDDLES = {"BTC-USD": 6_000_000, "ETH-USD": 300_000}
"""Where each instrument's price begins, in cents."""
FUNDS = {"USD": "400000", "BTC": "5", "ETH": "60"}

Step: TypeAlias = (
    engine_pb2.SubmitOrdersRequest | engine_pb2.DepositRequest | engine_pb2.WithdrawRequest | engine_pb2.CancelOrdersRequest
)
Answer: TypeAlias = (
    engine_pb2.SubmitOrdersResponse | engine_pb2.DepositResponse | engine_pb2.WithdrawResponse | engine_pb2.CancelOrdersResponse
)
Item: TypeAlias = engine_pb2.SubmitOrdersItem

_BUY, _SELL = order_pb2.SIDE_BUY, order_pb2.SIDE_SELL
_LIMIT, _MARKET = order_pb2.ORDER_TYPE_LIMIT, order_pb2.ORDER_TYPE_MARKET
_STOP, _STOP_LIMIT = order_pb2.ORDER_TYPE_STOP, order_pb2.ORDER_TYPE_STOP_LIMIT
_GTC, _IOC, _FOK = order_pb2.TIME_IN_FORCE_GTC, order_pb2.TIME_IN_FORCE_IOC, order_pb2.TIME_IN_FORCE_FOK
_GTD, _LONG_AFTER_ALL_TESTS = order_pb2.TIME_IN_FORCE_GTD, Timestamp(seconds=4_000_000_000)
# The ways in which an answer goes missing; gRPC itself CANCELs what reaches a server in the moment in which it stops.
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
_UNAVAILABLE: int = grpc.StatusCode.UNAVAILABLE.value[0]


def flow_of(seed: int, messages: int, users: Sequence[str] = USERS, items_max: int = 40, funds: bool = True) -> list[Step]:
    """Deposits, then ``messages`` messages of orders of every kind, cancels, replaces and what is wrong about them; now and then
    money comes and goes, or a user cancels all. The same arguments give the same flow, and, sent in order, the same orders:
    nothing in it depends on the time. Flows of different users can be sent at once.
    """
    steps: list[Step] = []
    if funds:
        for user_id in users:
            for asset, amount in FUNDS.items():
                steps.append(engine_pb2.DepositRequest(user_id=user_id, asset=asset, amount=amount, request_id=f"in-{asset}"))
    writer = _Writer(seed, users)
    for number in range(messages):
        if writer.chance.random() < 0.1:
            steps.append(writer.money(number))
        if writer.chance.random() < 0.02:
            steps.append(writer.cancel_all(number))
        items = [writer.item() for _ in range(writer.chance.randint(1, items_max))]
        if writer.chance.random() < 0.7:
            # The last one: a replace that is refused is not journaled, so sent again behind others it might go otherwise.
            items.append(writer.replace())
        steps.append(engine_pb2.SubmitOrdersRequest(items=items))
    return steps


class _Writer:
    def __init__(self, seed: int, users: Sequence[str]) -> None:
        self.chance = random.Random(seed)
        self._seed = seed
        self._users = users
        self._middles = dict(MIDDLES)
        self._placed: list[engine_pb2.PlaceOrderRequest] = []
        self._count = 0
        self._kinds = {
            self._resting: 26, self._crossing: 12, self._immediate: 9, self._market: 8, self._post_only: 6, self._stop: 8,
            self._iceberg: 5, self._selfish: 4, self._cancel: 14, self._refused: 5, self._wrong: 2,
            self._again: 2, self._reused: 1,
        }  # fmt: skip

    def item(self) -> Item:
        (kind,) = self.chance.choices(list(self._kinds), list(self._kinds.values()))
        return kind()

    def money(self, number: int) -> Step:
        kind = self.chance.choice((engine_pb2.DepositRequest, engine_pb2.WithdrawRequest))
        asset = self.chance.choice(list(FUNDS))
        amount = {"USD": self.chance.randint(1, 20_000), "BTC": 1, "ETH": self.chance.randint(1, 5)}[asset]
        user_id = self.chance.choice(self._users)
        return kind(user_id=user_id, asset=asset, amount=str(amount), request_id=f"money-{self._seed}-{number}")

    def cancel_all(self, number: int) -> Step:
        user_id, symbols = self.chance.choice(self._users), self.chance.choice(([], list(self._middles)[:1]))
        return engine_pb2.CancelOrdersRequest(user_id=user_id, symbols=symbols, request_id=f"all-{self._seed}-{number}")

    def _resting(self) -> Item:
        away = self.chance.randint(1, 120)
        if self.chance.random() < 0.1:
            return self._place(away=away, time_in_force=_GTD, expire_time=_LONG_AFTER_ALL_TESTS)
        return self._place(away=away)

    def _crossing(self) -> Item:
        return self._place(away=-self.chance.randint(1, 30))

    def _immediate(self) -> Item:
        return self._place(away=self.chance.randint(-40, 5), time_in_force=self.chance.choice((_IOC, _FOK)))

    def _market(self) -> Item:
        terms = {"order_type": _MARKET, "time_in_force": self.chance.choice((0, _IOC, _FOK))}
        if self.chance.random() < 0.5:
            return self._place(price=None, qty=None, side=_BUY, quote_qty=str(self.chance.randint(10, 9_000)), **terms)
        return self._place(price=None, **terms)

    def _post_only(self) -> Item:
        return self._place(away=self.chance.randint(-5, 20), post_only=True)

    def _stop(self) -> Item:
        """On the side of the market on which it waits, near enough to be reached."""
        item = self._place(away=-self.chance.randint(2, 40))
        order = item.place
        order.stop_price = order.price
        order.time_in_force = _GTC
        if self.chance.random() < 0.5:
            order.order_type = _STOP_LIMIT
        else:
            order.order_type = _STOP
            order.ClearField("price")
        return item

    def _iceberg(self) -> Item:
        return self._place(away=self.chance.randint(1, 30), qty="0.3", display_qty=self.chance.choice(("0.05", "0.1")))

    def _selfish(self) -> Item:
        """It may meet its own user's orders, and says what then."""
        return self._place(away=-self.chance.randint(1, 40), self_trade_prevention=self.chance.randint(2, 4))

    def _refused(self) -> Item:
        """An order that the exchange says no to."""
        wrong = self.chance.choice(
            (
                {"symbol": "DOGE-USD"}, {"price": "60000.001"}, {"qty": "0.0000001"},
                {"price": "9000000", "qty": "900", "side": _BUY},
            )
        )  # fmt: skip
        return self._place(**wrong)

    def _wrong(self) -> Item:
        """A request that breaks the contract: an error of its own, never journaled."""
        return self._place(**self.chance.choice(({"price": None}, {"qty": "-1"}, {"side": 0}, {"stop_price": "5"})))

    def _again(self) -> Item:
        """What was sent before, word by word."""
        return Item(place=self.chance.choice(self._placed)) if self._placed else self._resting()

    def _reused(self) -> Item:
        """An old name for another order."""
        if not self._placed:
            return self._resting()
        item = Item(place=self.chance.choice(self._placed))
        item.place.qty = "0.777"
        return item

    def _cancel(self) -> Item:
        """Of an order that may rest, be over, or never have been."""
        return Item(cancel=engine_pb2.CancelOrderRequest(**self._aimed()))

    def replace(self) -> Item:
        """Another price or size for an order that may rest, be over, or never have been."""
        request = engine_pb2.ReplaceOrderRequest(**self._aimed())
        if self.chance.random() < 0.6:
            request.qty = f"{self.chance.randint(1, 600) / 1000:.3f}"
        if self.chance.random() < 0.5 or not request.HasField("qty"):
            cents = self.chance.choice(list(self._middles.values())) + self.chance.randint(-40, 40) * 50
            request.price = f"{cents // 100}.{cents % 100:02d}"
        return Item(replace=request)

    def _aimed(self) -> dict[str, str]:
        """A request of its own name about an order."""
        self._count += 1
        recent = self._placed[-60:]
        if recent and self.chance.random() < 0.95:
            order = self.chance.choice(recent)
            user_id, name = order.user_id, order.client_order_id
        else:
            user_id, name = self.chance.choice(self._users), "never-was"
        return {"user_id": user_id, "request_id": f"x{self._seed}-{self._count}", "client_order_id": name}

    def _place(self, away: int = 5, **changes: object) -> Item:
        """A limit order ``away`` steps of 50 cents from the middle, on its own side of it, but for the changes."""
        self._count += 1
        symbol = self.chance.choice(list(self._middles))
        self._middles[symbol] += self.chance.randint(-60, 60)
        side = self.chance.choice((_BUY, _SELL))
        cents = self._middles[symbol] + (-away if side == _BUY else away) * 50
        qty = self.chance.randint(1, 400) / 1000 * (1 if symbol == "BTC-USD" else 10)
        terms: dict[str, object] = {
            "user_id": self.chance.choice(self._users), "client_order_id": f"o{self._seed}-{self._count}", "symbol": symbol,
            "side": side, "order_type": _LIMIT, "time_in_force": self.chance.choice((0, _GTC)),
            "price": f"{cents // 100}.{cents % 100:02d}", "qty": f"{qty:.3f}",
        } | changes  # fmt: skip
        item = Item(place=engine_pb2.PlaceOrderRequest(**terms))  # type: ignore[arg-type]
        if not any(changes.get(name) for name in ("stop_price", "symbol")):
            self._placed.append(item.place)
        return item


class Sent(NamedTuple):
    """A message and the answer that it got at last; a gRPC error where the answer is one (a withdrawal beyond what is there).
    ``seconds``: how long it took until then.
    """

    step: Step
    answer: Answer | grpc.StatusCode
    seconds: float


class Lane(Background):
    """One client that sends its steps one after the other, from ``start`` to ``finish``."""

    def __init__(
        self, address: str, steps: Sequence[Step], *, timeout_seconds: float, patience_seconds: float, pause_seconds: float
    ) -> None:
        super().__init__("sender")
        self.sent: list[Sent] = []
        self.repeats = 0
        self._steps = steps
        self._timeout_seconds = timeout_seconds
        self._patience_seconds = patience_seconds
        self._pause_seconds = pause_seconds
        self._leave = threading.Event()
        options = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50),
                   ("grpc.max_reconnect_backoff_ms", 300), ("grpc.use_local_subchannel_pool", 1))  # fmt: skip
        self._channel = grpc.insecure_channel(address, options=options)
        orders, operator = engine_grpc.MatchingEngineStub(self._channel), engine_grpc.OperatorStub(self._channel)
        self._calls: dict[type[Step], Callable[..., Answer]] = {
            engine_pb2.SubmitOrdersRequest: orders.SubmitOrders,
            engine_pb2.DepositRequest: operator.Deposit,
            engine_pb2.WithdrawRequest: operator.Withdraw,
            engine_pb2.CancelOrdersRequest: orders.CancelOrders,
        }

    def work(self) -> None:
        for step in self._steps:
            if self._leave.wait(self._pause_seconds):
                return
            begun = time.monotonic()
            answer = self._answer(step)
            self.sent.append(Sent(step, answer, time.monotonic() - begun))

    def leave(self) -> None:
        """Send nothing more after the present step."""
        self._leave.set()

    def finish(self, timeout_seconds: float) -> None:
        super().finish(timeout_seconds)
        self._channel.close()

    def _answer(self, step: Step) -> Answer | grpc.StatusCode:
        deadline = time.monotonic() + self._patience_seconds
        while True:
            try:
                answer = self._calls[type(step)](step, timeout=self._timeout_seconds)
                if not _is_cut(answer):
                    return answer
            except grpc.RpcError as error:
                if error.code() not in _LOST:
                    return error.code()
                if time.monotonic() > deadline:
                    raise
            self.repeats += 1
            time.sleep(0.05)


class Load:
    """Sends flows while the context lasts, each in a lane of its own; ``finish`` waits for all of them. Each lane waits
    ``pause_seconds`` before a message.
    """

    def __init__(
        self,
        address: str,
        *flows: Sequence[Step],
        timeout_seconds: float = 10.0,
        patience_seconds: float = 90.0,
        pause_seconds: float = 0.0,
    ) -> None:
        times = {"timeout_seconds": timeout_seconds, "patience_seconds": patience_seconds, "pause_seconds": pause_seconds}
        self._lanes = [Lane(address, flow, **times) for flow in flows]
        self._total = sum(len(flow) for flow in flows)

    def __enter__(self) -> Self:
        for lane in self._lanes:
            lane.start()
        return self

    def __exit__(self, *unused: object) -> None:
        for lane in self._lanes:
            lane.leave()

    @property
    def answered(self) -> float:
        """The share of the messages that have their answer."""
        return sum(len(lane.sent) for lane in self._lanes) / self._total

    @property
    def sent(self) -> list[Sent]:
        """Every message that has its answer."""
        return [sent for lane in self._lanes for sent in lane.sent]

    def some(self, chance: random.Random) -> Sent | None:
        """One of the newest answered messages of any lane, None where there is none yet."""
        sent = chance.choice(self._lanes).sent
        return chance.choice(sent[-20:]) if sent else None

    @property
    def repeats(self) -> int:
        """How many messages were sent again."""
        return sum(lane.repeats for lane in self._lanes)

    def wait_for(self, share: float, timeout_seconds: float = 60.0) -> None:
        """Return when this share of the messages is answered."""
        deadline = time.monotonic() + timeout_seconds
        while self.answered < share:
            for lane in self._lanes:
                if lane.failure is not None:
                    raise lane.failure
            assert time.monotonic() < deadline, f"{self.answered:.0%} of the flow is answered, not {share:.0%}"
            time.sleep(0.002)

    def leave(self) -> None:
        """End every lane after its present message."""
        for lane in self._lanes:
            lane.leave()

    def finish(self, timeout_seconds: float = 120.0) -> None:
        """Return when all is answered. Raises what went wrong."""
        for lane in self._lanes:
            lane.finish(timeout_seconds)


def acknowledged(sent: Sequence[Sent]) -> Iterator[tuple[Step, Answer]]:
    """Each mutation that was answered with OK, alone, with its answer: items of a message apart, errors left out."""
    for step, answer, _ in sent:
        if isinstance(answer, grpc.StatusCode):
            continue
        if not isinstance(step, engine_pb2.SubmitOrdersRequest):
            yield step, answer
            continue
        assert isinstance(answer, engine_pb2.SubmitOrdersResponse)
        assert len(answer.results) == len(step.items), "one result for each item"
        for item, result in zip(step.items, answer.results, strict=True):
            if not result.HasField("error"):
                yield (
                    engine_pb2.SubmitOrdersRequest(items=[item]),
                    engine_pb2.SubmitOrdersResponse(results=[result], position=result.position),
                )


def _is_cut(answer: Answer) -> bool:
    return isinstance(answer, engine_pb2.SubmitOrdersResponse) and any(
        result.error.code == _UNAVAILABLE for result in answer.results
    )
