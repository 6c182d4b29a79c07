"""Clients of services that are killed: watches and exports go on without loss or repeat, and a write happens once."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ordertape.client import AsyncClient, Client, OrderResult, OrderUpdate, Rows, Unavailable
from tests.client.conftest import AnyClient, ended, got, next_of
from tests.support.eventually import eventually
from tests.support.exchange_process import Exchange

PLACES = 60


def numbers_of(updates: "list[OrderUpdate] | Rows[OrderUpdate]") -> list[int]:
    return [update.user_update_number for update in updates]


class Followed:
    """What a watch of either client brought, read apart until it is closed."""

    def __init__(self, client: AnyClient, after: str | None = None) -> None:
        self.updates: list[OrderUpdate] = []
        self.breaks: list[str] = []
        self.snapshots = 0
        self.watch: Any = client.watch(after=after, interrupted=self.breaks.append)
        self._read: Any = None
        self._awaited = 0
        self._came = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> "Followed":
        if hasattr(self.watch, "__aiter__"):
            self._read = asyncio.create_task(self._follow())
        else:
            self._read = asyncio.get_running_loop().run_in_executor(None, self._follow_apart)
        return self

    async def __aexit__(self, *unused: object) -> None:
        await ended(self.watch)
        await asyncio.wait_for(self._read, 10)

    async def until(self, number: int) -> None:
        """Return when the update of this number is there."""
        self._awaited = number
        self._came.clear()
        if number not in numbers_of(self.updates):
            await asyncio.wait_for(self._came.wait(), 60)

    async def _follow(self) -> None:
        async for news in self.watch:
            self._take(news)

    def _follow_apart(self) -> None:
        for news in self.watch:
            self._take(news)

    def _take(self, news: Any) -> None:
        self.snapshots += news.snapshot
        self.updates += news.updates
        if self._awaited in numbers_of(news.updates):
            self._loop.call_soon_threadsafe(self._came.set)


async def in_thread(work: Callable[[], object]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, work)


async def test_a_watch_goes_on_over_kills_and_in_a_new_process_without_loss_or_repeat(
    exchange: Exchange, kind: type[AnyClient]
) -> None:
    where = (exchange.engine_address, exchange.history_address)
    client = kind(*where, user="alice", read_your_writes=False)
    await got(client.deposit("USD", 1_000_000))
    async with Followed(client) as first:
        for round_number in (1, 2):
            for _ in range(10):
                await got(client.place("BTC-USD", "buy", 1, price=10))
            exchange.history.kill()
            await got(client.place("BTC-USD", "buy", 1, price=10))
            await in_thread(exchange.history.start)
            await first.until(11 * round_number)
        assert numbers_of(first.updates) == list(range(1, 23))
        assert first.snapshots == 1
        assert len(first.breaks) >= 2
        position = first.watch.position
    await ended(client)

    later = kind(*where, user="alice")
    await got(later.place("BTC-USD", "buy", 1, price=10))
    async with Followed(later, position) as second:
        await second.until(23)
    assert (numbers_of(second.updates), second.snapshots) == ([23], 0)

    export: Any = later.export()
    found: list[int] = []
    exchange.history.kill()
    starting = threading.Thread(target=exchange.history.start)
    starting.start()
    found += numbers_of(await got(export.rows()))
    starting.join()
    assert found == list(range(1, 24))
    await ended(later)


async def test_a_write_that_is_tried_over_kills_of_the_engine_happens_once(exchange: Exchange, kind: type[AnyClient]) -> None:
    client: Any = kind(exchange.engine_address, exchange.history_address, user="alice", timeout=60)
    await got(client.deposit("USD", 1_000_000))
    placed: list[OrderResult] = []

    def kill_twice() -> None:
        for sequence in (30, 80):
            exchange.wait_until_durable(sequence)
            exchange.engine.kill()
            assert len(placed) < PLACES, "all was answered before the engine was killed"
            exchange.engine.start()

    async def place(prices: range) -> None:
        for price in prices:
            if kind is AsyncClient:
                placed.append(await client.place("BTC-USD", "buy", 1, price=price))
            else:
                placed.append(await asyncio.to_thread(client.place, "BTC-USD", "buy", 1, price=price))

    halves = (range(10, 10 + PLACES // 2), range(10 + PLACES // 2, 10 + PLACES))
    await asyncio.gather(in_thread(kill_twice), *map(place, halves))
    assert not any(result.rejected for result in placed)
    orders = await got(client.order_history().rows())
    assert sorted(order.client_order_id for order in orders) == sorted(result.key for result in placed)
    assert len(orders) == PLACES
    await ended(client)


async def test_a_service_that_stays_away_is_an_error_that_says_the_key(kind: type[AnyClient]) -> None:
    client: Any = kind("127.0.0.1:1", "127.0.0.1:1", user="alice", timeout=0.3)
    with pytest.raises(Unavailable) as away:
        await got(client.place("BTC-USD", "buy", 1, price=10, client_order_id="mine"))
    assert away.value.key == "mine"
    with pytest.raises(Unavailable):
        await next_of(client.watch())
    await ended(client)


def test_a_watch_that_nobody_holds_any_more_ends_its_stream_and_its_thread(shared_exchange: Exchange) -> None:
    with Client(shared_exchange.engine_address, shared_exchange.history_address, user="nobody") as client:
        for news in client.watch():
            assert news.snapshot
            break
        eventually(lambda: not [one for one in threading.enumerate() if one.name == "stream"])
