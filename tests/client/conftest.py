"""What the client package's tests share: an exchange, and both clients behind one way of calling them."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ordertape.client import AsyncClient, Client
from tests.support.exchange_process import Exchange

T = TypeVar("T")
AnyClient = Client | AsyncClient
Connect = Callable[..., AnyClient]

_numbers = count(1)


async def got(value: "Awaitable[T] | T") -> T:
    """What a call of either client returns."""
    return await value if inspect.isawaitable(value) else value


async def next_of(stream: Any) -> Any:
    """The next piece of a watch or an export of either kind."""
    return await anext(stream) if hasattr(stream, "__anext__") else next(stream)


async def ended(client: Any) -> None:
    """Close a client, a watch or an export of either kind."""
    await got(client.aclose() if hasattr(client, "aclose") else client.close())


@pytest.fixture(scope="session")
def shared_exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    """Both services, for tests that disturb nobody: each has users of its own."""
    with Exchange(tmp_path_factory.mktemp("exchange")) as exchange:
        yield exchange


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    """Both services, for a test that kills them."""
    with Exchange(tmp_path) as exchange:
        yield exchange


@pytest.fixture
def user() -> str:
    """A user whom nobody has met."""
    return f"user{next(_numbers)}"


@pytest.fixture(params=[Client, AsyncClient])
def kind(request: pytest.FixtureRequest) -> type[AnyClient]:
    """Which client."""
    return request.param


@pytest.fixture
async def client(kind: type[AnyClient], shared_exchange: Exchange, user: str) -> AsyncIterator[AnyClient]:
    """A client of a user with money; nothing of its orders stays in the book for the next test."""
    client = kind(shared_exchange.engine_address, shared_exchange.history_address, user=user)
    await got(client.deposit("USD", 1_000_000))
    await got(client.deposit("BTC", 100))
    yield client
    await ended(client)
    with Client(shared_exchange.engine_address, user=user) as last:
        last.cancel_orders()
