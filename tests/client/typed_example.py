"""What a type checker knows of the client: `scripts/lint` checks this file, which is never run."""

from collections.abc import Awaitable
from datetime import datetime
from decimal import Decimal
from typing import assert_type

from ordertape.client import AsyncClient, AsyncListing, Client, Listing, OrderFill, OrderResult, OrderUpdate, Rows, Side
from ordertape.client.values import Balance, Fill


def threads(client: Client) -> None:
    """The types of the client for threads."""
    placed = client.place("BTC-USD", Side.BUY, Decimal("0.5"), price=60_000, client_order_id="first")
    assert_type(placed, OrderResult)
    assert_type(placed.order, OrderUpdate)
    assert_type(placed.order.price, Decimal | None)
    assert_type(placed.order.filled_qty, Decimal)
    assert_type(placed.order.side, Side)
    assert_type(placed.order.timestamp, datetime)
    assert_type(placed.order.fill, Fill | None)
    assert_type(placed.order.message.price, str)
    assert_type(client.fills(), Listing[OrderFill])
    assert_type(client.balances(), Rows[Balance])
    for update in client.order_updates("first"):
        assert_type(update, OrderUpdate)
    for news in client.watch():
        assert_type(news.updates, Rows[OrderUpdate])
    client.place("BTC-USD", Side.BUY, 0.5)  # type: ignore[arg-type]  # floating point is not exact
    client.place(symbol="BTC-USD", side="buy", size=1)  # type: ignore[call-arg]


async def tasks(client: AsyncClient) -> None:
    """The types of the client for asyncio."""
    assert_type(client.cancel("first"), Awaitable[OrderResult])
    assert_type((await client.cancel("first")).replayed, bool)
    assert_type(client.active_orders(), AsyncListing[OrderUpdate])
    async for update in client.active_orders(page_size=10):
        assert_type(update, OrderUpdate)
    async for news in client.watch(after="somewhere"):
        assert_type(news.position, str)
