"""The requests that the benchmark sends, each under a name of its own, serialized before any clock starts.

Two patterns: *resting* orders, which have one update each, so that one answer has the size of another; and *closing* ones: of
four commands, two place and cancel an order, two place orders that fill each other, and all three are over.
"""

from collections.abc import Iterator, Sequence
from itertools import count

from ordertape.v1 import matching_engine_pb2 as engine
from ordertape.v1 import order_pb2

SYMBOL = "BTC-USD"
USERS = [f"bench-{number:03d}" for number in range(200)]
MONEY = {"USD": "100000000000", "BTC": "1000000000"}
"""What each of them has: more than they will ever need."""
CLOSING_ITEMS, CLOSED_ORDERS, CLOSING_UPDATES = 4, 3, 6
"""Four commands of ``closing`` close three orders, which have six updates."""

_names = count(1)


def resting(users: Sequence[str] = USERS) -> Iterator[engine.PlaceOrderRequest]:
    """LIMIT orders without end that never meet: bids from 90.00 to 99.99, asks from 110.00 on."""
    for number in _names:
        buys = number % 2 == 0
        yield _limit(users, number, buys, _text((9_000 if buys else 11_000) + number * 7 % 1_000), "0.25")


def closing(users: Sequence[str] = USERS) -> Iterator[engine.SubmitOrdersItem]:
    """Without end: place and cancel; rest and fill."""
    item = engine.SubmitOrdersItem
    for number in _names:
        bid = _limit(users, number, True, "95.5", "0.25")
        yield item(place=bid)
        yield item(cancel=engine.CancelOrderRequest(user_id=bid.user_id, client_order_id=bid.client_order_id))
        yield item(place=_limit(users, next(_names), False, "100.25", "0.5"))
        yield item(place=_limit(users, next(_names), True, "100.5", "0.5"))


def _limit(users: Sequence[str], number: int, buys: bool, price: str, qty: str) -> engine.PlaceOrderRequest:
    return engine.PlaceOrderRequest(
        user_id=users[number % len(users)],
        client_order_id=f"bench-{number:09d}",
        symbol=SYMBOL,
        side=order_pb2.SIDE_BUY if buys else order_pb2.SIDE_SELL,
        order_type=order_pb2.ORDER_TYPE_LIMIT,
        time_in_force=order_pb2.TIME_IN_FORCE_GTC,
        price=price,
        qty=qty,
    )


def _text(cents: int) -> str:
    """Canonical, so that no server has to mend it."""
    return f"{cents // 100}.{cents % 100:02d}".rstrip("0").rstrip(".")
