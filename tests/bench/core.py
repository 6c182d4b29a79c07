"""(d): the matching core by itself: decide and apply, with balances and holds, no message and no disk."""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from ordertape.v1 import matching_engine_pb2 as engine
from ordertape.v1 import order_pb2
from services.domain.commands import Command
from services.domain.exchange import decide
from services.wire.place_request import place_command
from services.wire.requests import cancel_command, replace_command
from tests.bench.figures import Figure, Round, figure_of
from tests.bench.orders import MONEY, USERS, closing, resting
from tests.bench.sizes import Sizes
from tests.support.exchange import Core


def matching_core(sizes: Sizes, folder: Path) -> list[Figure]:
    """The core alone, mix by mix."""
    mixes: dict[str, Callable[[], Iterator[Command]]] = {
        "orders that rest": _resting,
        "orders placed and cancelled": lambda: _closing(cancels=True),
        "orders that rest and are filled": lambda: _closing(cancels=False),
        "icebergs filled in four slices": lambda: _closing(cancels=False, slice_qty="0.125"),
        "stop-limit orders that wait": _waiting,
        "orders that rest and are replaced": _replaced,
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


def _waiting() -> Iterator[Command]:
    for place in resting():
        place.order_type, place.stop_price = order_pb2.ORDER_TYPE_STOP_LIMIT, place.price
        yield place_command(place)


def _replaced() -> Iterator[Command]:
    """Each order, and then less of it, for which it keeps its place in the queue."""
    for place in resting():
        yield place_command(place)
        less = engine.ReplaceOrderRequest(user_id=place.user_id, client_order_id=place.client_order_id, qty="0.125")
        yield replace_command(less)


def _closing(*, cancels: bool, slice_qty: str | None = None) -> Iterator[Command]:
    """Of the closing mix the pairs of place and cancel, or those of two orders that fill each other; the first of these shows
    ``slice_qty`` at a time.
    """
    items = closing()
    while True:
        place, cancel, maker, taker = islice(items, 4)
        if cancels:
            yield place_command(place.place)
            yield cancel_command(cancel.cancel)
        else:
            if slice_qty is not None:
                maker.place.display_qty = slice_qty
            yield place_command(maker.place)
            yield place_command(taker.place)
