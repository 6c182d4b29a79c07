"""(d): the matching core by itself: decide and apply, with balances and holds, no message and no disk."""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from services.domain.commands import Command
from services.domain.exchange import decide
from services.wire.place_request import place_command
from services.wire.requests import cancel_command
from tests.bench.figures import Figure, Round, figure_of
from tests.bench.orders import MONEY, USERS, closing, resting
from tests.bench.sizes import Sizes
from tests.support.exchange import Core


def matching_core(sizes: Sizes, folder: Path) -> list[Figure]:
    """The core alone, three mixes."""
    mixes: dict[str, Callable[[], Iterator[Command]]] = {
        "orders that rest": _resting,
        "orders placed and cancelled": lambda: _closing(cancels=True),
        "orders that rest and are filled": lambda: _closing(cancels=False),
    }
    figures = []
    for name, mix in mixes.items():
        rounds = [_round(list(islice(mix(), sizes.core_operations))) for _ in range(sizes.rounds)]
        figures.append(figure_of("d", f"matching core, {name}", "operations/s", rounds))
    return figures


def _round(commands: list[Command]) -> Round:
    core = Core()
    for user_id in USERS:
        core.deposit(user_id, **MONEY)
    state, now = core.state, core.time
    began, used = time.perf_counter(), time.process_time()
    for command in commands:
        state.apply(decide(state, command, now), now)
        now += 20
    return Round(len(commands), time.perf_counter() - began, time.process_time() - used)


def _resting() -> Iterator[Command]:
    return (place_command(place) for place in resting())


def _closing(*, cancels: bool) -> Iterator[Command]:
    """Of the closing mix the pairs of place and cancel, or those of two orders that fill each other."""
    items = closing()
    while True:
        place, cancel, maker, taker = islice(items, 4)
        if cancels:
            yield place_command(place.place)
            yield cancel_command(cancel.cancel)
        else:
            yield place_command(maker.place)
            yield place_command(taker.place)
