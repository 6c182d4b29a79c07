"""Lists that are read when they are asked for: page after page, in a loop, or whole as a table."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ordertape.client.frames import Rows
from ordertape.client.results import Page
from ordertape.client.views import View

if TYPE_CHECKING:
    import pandas
    import polars

V = TypeVar("V", bound=View[Any])


class Tables(Generic[V]):
    """What can be read whole, and so become a table."""

    def rows(self) -> Rows[V]:
        """All of it."""
        raise NotImplementedError

    def to_pandas(self) -> "pandas.DataFrame":
        """All of it, as Rows.to_pandas."""
        return self.rows().to_pandas()

    def to_polars(self) -> "polars.DataFrame":
        """All of it, as Rows.to_polars."""
        return self.rows().to_polars()

    def frame(self) -> "pandas.DataFrame | polars.DataFrame":
        """All of it, as Rows.frame."""
        return self.rows().frame()


class AsyncTables(Generic[V]):
    """The same, to be awaited."""

    async def rows(self) -> Rows[V]:
        """All of it."""
        raise NotImplementedError

    async def to_pandas(self) -> "pandas.DataFrame":
        """All of it, as Rows.to_pandas."""
        return (await self.rows()).to_pandas()

    async def to_polars(self) -> "polars.DataFrame":
        """All of it, as Rows.to_polars."""
        return (await self.rows()).to_polars()

    async def frame(self) -> "pandas.DataFrame | polars.DataFrame":
        """All of it, as Rows.frame."""
        return (await self.rows()).frame()


class Listing(Tables[V]):
    """A list on the service: each loop over it asks anew, and reads a page when it comes to it."""

    def __init__(self, page: Callable[[str], Page[V]]) -> None:
        self._page = page

    def pages(self) -> Iterator[Rows[V]]:
        """Its pages, of which some may be short or empty."""
        token = ""
        while True:
            page = self._page(token)
            yield page.rows
            token = page.next_token
            if not token:
                return

    def __iter__(self) -> Iterator[V]:
        for rows in self.pages():
            yield from rows

    def rows(self) -> Rows[V]:
        """All of it."""
        return _joined(list(self.pages()))

    def _repr_html_(self) -> str:
        """Its first page, for a notebook."""
        return self._page("").rows._repr_html_()


class AsyncListing(AsyncTables[V]):
    """A list on the service: each loop over it asks anew, and reads a page when it comes to it."""

    def __init__(self, page: Callable[[str], Awaitable[Page[V]]]) -> None:
        self._page = page

    async def pages(self) -> AsyncIterator[Rows[V]]:
        """Its pages, of which some may be short or empty."""
        token = ""
        while True:
            page = await self._page(token)
            yield page.rows
            token = page.next_token
            if not token:
                return

    async def __aiter__(self) -> AsyncIterator[V]:
        async for rows in self.pages():
            for row in rows:
                yield row

    async def rows(self) -> Rows[V]:
        """All of it."""
        return _joined([rows async for rows in self.pages()])


def _joined(pages: list[Rows[V]]) -> Rows[V]:
    # The first page's position: later ones may be ahead of it, but what is on the first was read at it.
    return pages[0].joined(pages[1:])
