"""How the user names an order, and how a failure names the key under which the request was sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict

from services.cli.failures import USAGE, Failure
from services.cli.options import SideName

if TYPE_CHECKING:
    from ordertape.v1 import order_pb2


class OrderName(TypedDict, total=False):
    """One of the two names of an order, as requests take it."""

    order_id: int
    client_order_id: str


def order_named(text: str, by_client_id: bool) -> OrderName:
    """The order_id or the client_order_id that the user typed: digits are the former unless told otherwise."""
    if by_client_id or not text.isascii() or not text.isdigit():
        return {"client_order_id": text}
    number = int(text)
    if number >= 2**63:
        raise Failure(USAGE, f"{text} is larger than any order_id: add --client-id if it is a client_order_id")
    return {"order_id": number}


def side_of(side: SideName | None) -> "order_pb2.Side.ValueType":
    """The contract's side; unspecified for none."""
    from ordertape.v1 import order_pb2

    return order_pb2.Side.Value(f"SIDE_{side.name}") if side else order_pb2.SIDE_UNSPECIFIED


@contextmanager
def naming_key(option: str, key: str, *more: str) -> Iterator[None]:
    """Let a failure say under which key the request was sent, and ``more`` that a repeat needs: with it, asking again is safe."""
    try:
        yield
    except Failure as failure:
        raise Failure(failure.exit_code, failure.message, [*failure.details, f"sent with {option} {key}", *more]) from failure
