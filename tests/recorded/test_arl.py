"""A whole session of Nasdaq's ARL, order by order, from an empty book: after each event the ten best prices must be what the
venue recorded, with their sizes and numbers of orders, and each trade with a visible order must take the order that it names.
"""

from collections.abc import Iterator
from typing import NamedTuple

from services.domain.kinds import Side
from tests.recorded.venues import CoreVenue, Levels, Traded, price_of
from tests.support.recorded_data import rows

FOLDER = "xnas-arl-2025-07-17"
DEPTH = 10
SIDES = {"B": Side.BUY, "A": Side.SELL}

Key = tuple[str, str, str]
Book = tuple[Levels, Levels]


class Event(NamedTuple):
    """A line of the order file: A adds an order, C takes size off it, T is a trade, F says which order it filled."""

    sequence: str
    action: str
    side: str
    price: int
    qty: int
    order: str


def events() -> Iterator[Event]:
    """The order file."""
    lines = rows(f"{FOLDER}/mbo.csv.xz")
    names = next(lines)
    for line in lines:
        row = dict(zip(names, line, strict=True))
        price = price_of(row["price"]) if row["price"] else 0
        yield Event(row["sequence"], row["action"], row["side"], price, int(row["size"]), row["order_id"])


def snapshots() -> Iterator[tuple[Key, Book]]:
    """The book file: after which event, and the ten best bids and asks."""
    lines = rows(f"{FOLDER}/mbp10.csv.xz")
    names = next(lines)
    for line in lines:
        row = dict(zip(names, line, strict=True))
        bids, asks = (
            [
                (price_of(row[f"{side}_px_{n:02}"]), int(row[f"{side}_sz_{n:02}"]), int(row[f"{side}_ct_{n:02}"]))
                for n in range(DEPTH)
                if row[f"{side}_px_{n:02}"]
            ]
            for side in ("bid", "ask")
        )
        yield (row["sequence"], row["action"], row["order_id"]), (bids, asks)


def test_all_ten_level_snapshots_of_a_session_are_those_that_nasdaq_recorded() -> None:
    recorded, equal, trades = snapshots(), 0, 0
    expected = next(recorded, None)
    flow = events()
    venue = CoreVenue()
    rest: dict[str, int] = {}
    before: Book = ([], [])
    for event in flow:
        if event.action == "T" and event.side in SIDES:
            trades += _trade(venue, event, flow, rest)
        elif event.action in "AC":
            _change(venue, event, rest)
        now = (venue.levels(Side.BUY, DEPTH), venue.levels(Side.SELL, DEPTH))
        if expected is not None and expected[0] == (event.sequence, event.action, event.order):
            assert now == expected[1], f"snapshot {equal}"
            equal += 1
            expected = next(recorded, None)
        else:
            assert now == before, f"the venue has no change of its ten levels after {event}"
        before = now
    assert expected is None
    assert (equal, trades, venue.missing()) == (3928, 11, 0)


def _change(venue: CoreVenue, event: Event, rest: dict[str, int]) -> None:
    side = SIDES[event.side]
    if event.action == "A":
        venue.add(event.order, side, event.price, event.qty)
        rest[event.order] = event.qty
        return
    rest[event.order] -= event.qty
    if rest[event.order]:
        venue.reduce(event.order, side, event.qty)
    else:
        assert venue.cancel(event.order, side) == event.qty


def _trade(venue: CoreVenue, event: Event, flow: Iterator[Event], rest: dict[str, int]) -> int:
    """A trade and what follows it: which order it filled, and that it is off the book."""
    filled, off = next(flow), next(flow)
    assert (filled.action, off.action) == ("F", "C")
    assert off.order == filled.order
    assert venue.take(SIDES[event.side], event.price, event.qty) == [Traded(filled.order, event.price, filled.qty)]
    rest[filled.order] -= filled.qty
    return 1
