"""Orders by the thousand that are over: fills ledgers for the parts that read one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from ordertape.v1 import matching_engine_pb2 as engine
from tests.bench.grpc_load import GrpcLoad
from tests.bench.orders import CLOSED_ORDERS, CLOSING_ITEMS, USERS, closing
from tests.bench.processes import SUBMIT_ORDERS, Server, deposit_money, engine_server

_ITEMS_PER_CALL = 100
_CALLS_AT_ONCE = 2
_CALLS_PREPARED = 50


def close_orders(server: Server, count: int, users: Sequence[str] = USERS) -> None:
    """Bring about ``count`` orders that are over, a third of them cancelled, two thirds filled."""
    items = islice(closing(users), count * CLOSING_ITEMS // CLOSED_ORDERS)
    with GrpcLoad(server.address, SUBMIT_ORDERS) as load:
        while requests := list(islice(_requests(items), _CALLS_PREPARED)):
            load.call_all(requests, _CALLS_AT_ONCE)


@contextmanager
def filled_engine(folder: Path, orders: int, users: Sequence[str] = USERS) -> Iterator[Server]:
    """An engine on a ledger of ``orders`` closed orders of ``users``; what a first call made is used again by the later ones."""
    data = folder / f"filled-engine-{orders}-{len(users)}"
    fresh = not data.exists()
    with engine_server(data) as server:
        if fresh:
            deposit_money(server)
            close_orders(server, orders, users)
        yield server


def _requests(items: Iterator[engine.SubmitOrdersItem]) -> Iterator[bytes]:
    while part := list(islice(items, _ITEMS_PER_CALL)):
        yield engine.SubmitOrdersRequest(items=part).SerializeToString()
