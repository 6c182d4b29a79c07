"""Nasdaq's messages of AAPL and MSFT as LOBSTER tells them, which begin in the middle of a day: each execution of a visible order
is sent as an opposite order of that size and limit, immediate or cancel; hidden executions are left out.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from services.domain.kinds import Side
from tests.recorded.venues import CoreVenue, Levels, Traded, Venue, venue_of
from tests.support.recorded_data import rows

FOLDER = "lobster-2012-06-21"
NEW, REDUCED, DELETED, EXECUTED = "1", "2", "3", "4"
EMPTY = 9999999999
Quote = tuple[int, int, int, int]


class Message(NamedTuple):
    """A line of a message file; prices are dollars x 10 000. ``side`` is the named order's."""

    time: str
    kind: str
    order: str
    qty: int
    price: int
    side: Side

    @property
    def taker(self) -> Side:
        """The side of who executes the order."""
        return Side.SELL if self.side == Side.BUY else Side.BUY


def messages(name: str) -> Iterator[Message]:
    """A message file."""
    for time, kind, order, qty, price, direction in rows(f"{FOLDER}/{name}"):
        yield Message(time, kind, order, int(qty), int(price), Side.BUY if direction == "1" else Side.SELL)


def books(name: str) -> Iterator[dict[Side, list[tuple[int, int]]]]:
    """An order book file: price and size of each level, best first."""
    for line in rows(f"{FOLDER}/{name}"):
        numbers = list(map(int, line))
        levels = list(zip(numbers[0::2], numbers[1::2], strict=True))
        yield {
            Side.SELL: [level for level in levels[0::2] if abs(level[0]) != EMPTY],
            Side.BUY: [level for level in levels[1::2] if abs(level[0]) != EMPTY],
        }


class _Sides:
    """What is left of each order, and what of a price rests that the file never names: both leave by ``take_off``."""

    def __init__(self, venue: Venue, first: dict[Side, list[tuple[int, int]]]) -> None:
        self._venue = venue
        self._left: dict[str, int] = {}
        for side, levels in first.items():
            for price, qty in levels:
                self.add(f"{side.name}-{price}", side, price, qty)

    def add(self, name: str, side: Side, price: int, qty: int) -> None:
        self._venue.add(name, side, price, qty)
        self._left[name] = qty

    def knows(self, name: str) -> bool:
        return name in self._left

    def take_off(self, message: Message) -> None:
        """Size leaves the order, or, where the file has not shown that, what was at its price before."""
        name = message.order if message.order in self._left else f"{message.side.name}-{message.price}"
        self._left[name] -= message.qty
        if self._left[name]:
            self._venue.reduce(name, message.side, message.qty)
        else:
            assert self._venue.cancel(name, message.side) == message.qty

    def traded(self, traded: Traded) -> None:
        self._left[traded.maker] -= traded.qty


@pytest.mark.parametrize("kind", ["core", "grpc"])
def test_the_twenty_best_prices_of_msft_are_the_recorded_ones_after_each_of_999_messages(kind: str, tmp_path: Path) -> None:
    recorded, flow = books("MSFT_first1000_orderbook_50.csv.xz"), messages("MSFT_first1000_message_50.csv.xz")
    next(flow)  # The first book is the one after it.
    equal = executed = 0
    with venue_of(kind, tmp_path) as venue:
        sides = _Sides(venue, next(recorded))
        for message, book in zip(flow, recorded, strict=True):
            if message.kind == NEW:
                sides.add(message.order, message.side, message.price, message.qty)
            elif message.kind in (REDUCED, DELETED):
                sides.take_off(message)
            elif message.kind == EXECUTED:
                (traded,) = venue.take(message.taker, message.price, message.qty)
                assert (traded.price, traded.qty) == (message.price, message.qty)
                assert traded.maker == message.order or not sides.knows(message.order)
                sides.traded(traded)
                executed += 1
            for side in Side:
                assert _without_counts(venue.levels(side, 20)) == book[side][:20], f"row {equal + 1}"
            equal += 1
    assert equal == 999
    assert executed > 0


def test_an_hour_of_aapl_goes_as_recorded_but_for_orders_that_were_shown_again() -> None:
    """Best quotes, what is left at each delete, and who is at the head of the queue at each execution. Ids rise with time, so an
    order that the file names and never submits is put in when the ids pass its own, with all that later leaves it.
    """
    flow = list(messages("AAPL_34200000_37800000_message_50.csv.xz"))
    replay, late = _Replay(), sorted(_never_submitted(flow), key=lambda message: int(message.order), reverse=True)
    assert len(late) == 80
    for message in flow:
        while late and (late[-1].order == message.order or (message.kind == NEW and int(late[-1].order) < int(message.order))):
            replay.submit(late.pop())
        replay.take(message)
    assert (replay.deleted, replay.executed, replay.at_head) == (41_004, 4_067, 4_043)
    # Not at the head: orders from before the opening that are shown again and keep their older place; of the others the file
    # does not say why the venue passed over who came first.
    old = sum(int(order) < int(flow[0].order) for order in replay.before_their_turn)
    assert (old, len(replay.before_their_turn)) == (15, 24)
    recorded = [_quote(book) for book in books("AAPL_34200000_57600000_orderbook_1.csv.xz")]
    assert (_found(replay.quotes, recorded), len(replay.quotes)) == (23_422, 23_439)
    assert replay.venue.missing() == 0


class _Replay:
    """AAPL's hour in the core, with what is counted on the way."""

    def __init__(self) -> None:
        self.venue = CoreVenue()
        self.quotes: list[Quote] = []
        self.deleted = self.executed = self.at_head = 0
        self.before_their_turn: list[str] = []
        self._left: dict[str, int] = {}

    def submit(self, message: Message) -> None:
        """A new order."""
        self.venue.add(message.order, message.side, message.price, message.qty)
        self._left[message.order] = message.qty

    def take(self, message: Message) -> None:
        """The next message."""
        if message.kind == NEW:
            self.submit(message)
        elif message.kind == DELETED:
            assert self.venue.cancel(message.order, message.side) == message.qty == self._left.pop(message.order)
            self.deleted += 1
        elif message.kind == REDUCED:
            self._reduce(message)
        elif message.kind == EXECUTED:
            self._execute(message)
        self._note_quote()

    def _execute(self, message: Message) -> None:
        self.executed += 1
        first, price = self.venue.first_at_best(message.side)
        assert price == message.price, f"not at the best price: {message}"
        if first != message.order:
            self.before_their_turn.append(message.order)
            self._reduce(message)
            return
        self.at_head += 1
        traded = self.venue.take(message.taker, message.price, message.qty)
        assert traded == [Traded(message.order, message.price, message.qty)]
        self._left[message.order] -= message.qty

    def _reduce(self, message: Message) -> None:
        self._left[message.order] -= message.qty
        if self._left[message.order]:
            self.venue.reduce(message.order, message.side, message.qty)
        else:
            assert self.venue.cancel(message.order, message.side) == message.qty

    def _note_quote(self) -> None:
        asks, bids = self.venue.levels(Side.SELL, 1), self.venue.levels(Side.BUY, 1)
        if asks and bids:
            quote = (*asks[0][:2], *bids[0][:2])
            if not self.quotes or self.quotes[-1] != quote:
                self.quotes.append(quote)


def _never_submitted(flow: list[Message]) -> list[Message]:
    """The orders that the file names and never submits, each with the sum of all that later leaves it."""
    submitted = {message.order for message in flow if message.kind == NEW}
    leaves: dict[str, list[Message]] = defaultdict(list)
    for message in flow:
        if message.kind in (REDUCED, DELETED, EXECUTED) and message.order not in submitted:
            leaves[message.order].append(message)
    return [ones[0]._replace(qty=sum(one.qty for one in ones)) for ones in leaves.values()]


def _without_counts(levels: Levels) -> list[tuple[int, int]]:
    return [(price, qty) for price, qty, _ in levels]


def _quote(book: dict[Side, list[tuple[int, int]]]) -> Quote:
    return (*book[Side.SELL][0], *book[Side.BUY][0])


def _found(quotes: list[Quote], recorded: list[Quote]) -> int:
    """How many of the quotes are found in the recorded ones, in their order."""
    found = place = 0
    for quote in quotes:
        try:
            at = recorded.index(quote, place, place + 500)
        except ValueError:
            continue
        found, place = found + 1, at
    return found
