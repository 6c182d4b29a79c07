"""Orders of several users at random that rest, trade, miss, expire, are refused and cancelled: the same for the same seed."""

import random
from collections.abc import Iterator, Sequence

from ordertape.v1 import matching_engine_pb2 as pb
from tests.support.engine_client import BUY, FOK, IOC, SELL, EngineClient, cancel, limit, market

USERS = ("a", "b", "c", "poor")
SYMBOLS = ("BTC-USD", "ETH-USD")

Request = pb.PlaceOrderRequest | pb.CancelOrderRequest


def fund_users(client: EngineClient) -> None:
    """Money for all but one."""
    client.fund(*USERS[:-1], USD="100000", BTC="1000", ETH="1000")
    client.fund(USERS[-1], USD="20")


def random_requests(seed: int, count: int, users: Sequence[str] = USERS, name: str = "f") -> Iterator[Request]:
    """``count`` places and cancels, nearly all with a key that is theirs alone."""
    chance = random.Random(seed)
    owners: list[tuple[str, str]] = []
    for number in range(count):
        key = f"{name}{number}"
        if chance.random() < 0.25 and owners:
            owner, target = chance.choice(owners[-20:])
            stranger = chance.random() < 0.1
            yield cancel(users[0] if stranger else owner, target, key if chance.random() < 0.8 else None)
        else:
            owners.append((chance.choices(users, weights=[10] * (len(users) - 1) + [1])[0], key))
            yield _random_place(chance, *owners[-1])


def _random_place(chance: random.Random, user_id: str, key: str) -> pb.PlaceOrderRequest:
    side = chance.choice((BUY, SELL))
    changes = {"symbol": chance.choice(SYMBOLS), "client_order_id": key}
    qty = f"{chance.randint(1, 30000) / 10000:.4f}"
    price = f"{chance.randint(9900, 10100) / 100:.2f}"
    kind = chance.random()
    if kind < 0.08:
        return market(user_id, side, qty=qty, **changes)
    if kind < 0.12:
        return market(user_id, side, qty=qty, time_in_force=FOK, **changes)
    if kind < 0.20:
        return market(user_id, BUY, quote_qty=f"{chance.randint(1, 50000) / 100:.2f}", **changes)
    if kind < 0.22:
        return market(user_id, BUY, quote_qty="77.7", time_in_force=FOK, **changes)
    if kind < 0.30:
        return limit(user_id, side, price, qty, time_in_force=IOC, **changes)
    if kind < 0.36:
        return limit(user_id, side, price, qty, time_in_force=FOK, **changes)
    if kind < 0.44:
        return limit(user_id, side, price, qty, post_only=True, **changes)
    if kind < 0.46:
        return limit(user_id, side, "100.001", qty, **changes)
    return limit(user_id, side, price, qty, **changes)
