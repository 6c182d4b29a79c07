"""Orders of every kind, of several users at random, that rest, trade, miss, wait for a trigger, expire, are refused, replaced
and cancelled: the same for the same seed.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from ordertape.v1 import matching_engine_pb2 as pb
from ordertape.v1 import order_pb2
from tests.support.engine_client import BUY, FOK, IOC, SELL, EngineClient, Request, cancel, limit, market, replace, stop

USERS = ("a", "b", "c", "poor")
SYMBOLS = ("BTC-USD", "ETH-USD")
GTD, DAY = order_pb2.TIME_IN_FORCE_GTD, order_pb2.TIME_IN_FORCE_DAY


def fund_users(client: EngineClient) -> None:
    """Money for all but one."""
    client.fund(*USERS[:-1], USD="100000", BTC="1000", ETH="1000")
    client.fund(USERS[-1], USD="20")


def random_requests(seed: int, count: int, users: Sequence[str] = USERS, name: str = "f") -> Iterator[Request]:
    """``count`` places, cancels and replaces, nearly all with a key that is theirs alone."""
    chance = random.Random(seed)
    owners: list[tuple[str, str]] = []
    for number in range(count):
        key = f"{name}{number}"
        if chance.random() < 0.3 and owners:
            owner, target = chance.choice(owners[-20:])
            stranger = chance.random() < 0.1
            user_id, request_id = users[0] if stranger else owner, key if chance.random() < 0.8 else None
            if chance.random() < 0.6:
                yield cancel(user_id, target, request_id)
            else:
                yield replace(user_id, target, request_id, **_random_terms(chance))
        else:
            owners.append((chance.choices(users, weights=[10] * (len(users) - 1) + [1])[0], key))
            yield _random_place(chance, *owners[-1])


def _random_place(chance: random.Random, user_id: str, key: str) -> pb.PlaceOrderRequest:
    side = chance.choice((BUY, SELL))
    changes: dict[str, Any] = {"symbol": chance.choice(SYMBOLS), "client_order_id": key}
    if chance.random() < 0.3:
        changes["self_trade_prevention"] = chance.choice(list(order_pb2.SelfTradePrevention.values()))
    qty, price = _qty(chance), _price(chance)

    def limits(**more: Any) -> pb.PlaceOrderRequest:
        return limit(user_id, side, price, **{"qty": qty} | changes | more)

    def stops(**more: Any) -> pb.PlaceOrderRequest:
        return stop(user_id, side, _price(chance), **changes | more)

    kinds: list[tuple[int, Callable[[], pb.PlaceOrderRequest]]] = [
        (8, lambda: market(user_id, side, qty=qty, **changes)),
        (4, lambda: market(user_id, side, qty=qty, time_in_force=FOK, **changes)),
        (8, lambda: market(user_id, BUY, quote_qty=f"{chance.randint(1, 50000) / 100:.2f}", **changes)),
        (2, lambda: market(user_id, BUY, quote_qty="77.7", time_in_force=FOK, **changes)),
        (8, lambda: limits(time_in_force=IOC)),
        (6, lambda: limits(time_in_force=FOK)),
        (8, lambda: limits(post_only=True)),
        (2, lambda: limit(user_id, side, "100.001", qty, **changes)),
        (8, lambda: limits(qty="2.5", display_qty=f"{chance.randint(2000, 25000) / 10000:.4f}")),
        (4, lambda: limits(time_in_force=DAY)),
        (4, lambda: limits(time_in_force=GTD, expire_time=_instant(chance.choice((0.05, 3600))))),
        (1, lambda: limits(time_in_force=GTD, expire_time=_instant(-5))),
        (6, lambda: stops(qty=qty)),
        (6, lambda: stops(price=price, qty=qty)),
        (3, lambda: stop(user_id, BUY, _price(chance), quote_qty="55.5", **changes)),
        (2, lambda: stops(qty=qty, time_in_force=GTD, expire_time=_instant(0.05))),
    ]
    rest = 100 - sum(weight for weight, _ in kinds)
    make = chance.choices([limits, *(make for _, make in kinds)], weights=[rest, *(weight for weight, _ in kinds)])[0]
    return make()


def _random_terms(chance: random.Random) -> dict[str, str]:
    """New terms for an order of whatever kind: often such as it cannot have."""
    names = chance.choice((("price",), ("qty",), ("qty",), ("price", "qty"), ("stop_price",), ("display_qty",)))
    return {name: _price(chance) if name.endswith("price") else _qty(chance) for name in names}


def _qty(chance: random.Random) -> str:
    return f"{chance.randint(1, 30000) / 10000:.4f}"


def _price(chance: random.Random) -> str:
    return f"{chance.randint(9900, 10100) / 100:.2f}"


def _instant(seconds_from_now: float) -> Timestamp:
    return Timestamp(nanos=0, seconds=0) if seconds_from_now < 0 else timestamp_in(seconds_from_now)


def timestamp_in(seconds: float) -> Timestamp:
    """The wall clock's time in so many seconds."""
    microseconds = time.time_ns() // 1000 + int(seconds * 1e6)
    return Timestamp(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1000)
