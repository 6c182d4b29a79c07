"""(f): updates on their way to watchers: those that are stored, against a bare stream of the same messages; those that happen
while they watch; and how long after its PlaceOrder an order is seen.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ordertape.v1 import order_history_pb2 as history
from ordertape.v1 import order_pb2
from services.wire.position import decode_position, encode_position
from tests.bench.figures import Figure, Round, compared, figure_of, in_turns
from tests.bench.filled import close_orders
from tests.bench.grpc_load import GrpcLoad
from tests.bench.ingest import wait_until_applied
from tests.bench.orders import CLOSED_ORDERS, CLOSING_UPDATES, USERS, resting
from tests.bench.processes import (
    PLACE_ORDER,
    WATCH_ORDERS,
    Server,
    bare_server,
    deposit_money,
    engine_server,
    history_server,
    position_of,
)
from tests.bench.sizes import Sizes

WATCHERS = 4
_WATCHED = USERS[0]
_UNIT = "updates/s"


class Incomplete(Exception):
    """A watcher did not get every update exactly once and in order."""


class _Services(NamedTuple):
    engine: Server
    history: Server


def watch_orders(sizes: Sizes, folder: Path) -> list[Figure]:
    """Updates delivered to watchers."""
    with _services(folder / "watch") as services:
        close_orders(services.engine, sizes.watch_updates * CLOSED_ORDERS // CLOSING_UPDATES, [_WATCHED])
        end = position_of(services.engine)
        wait_until_applied(services.history.address, end)
        ledger_id = decode_position(end).ledger_id
        request = _request(encode_position(ledger_id, 0))
        stored = _stored(sizes, services.history, request, end, folder / "recorded")
        live = _live(sizes, services, _request(end))
        return [*stored, live, *_seen(sizes, services)]


def _stored(sizes: Sizes, server: Server, request: bytes, end: str, recorded: Path) -> list[Figure]:
    """Watches that resume from the beginning."""
    recorded.mkdir()
    for number, message in enumerate(_read(server, request, 1, end)[0]):
        (recorded / f"watched.{number:05d}").write_bytes(message)
    figures = []
    with bare_server("ready-messages", recorded) as bare:
        for watchers in (1, WATCHERS):
            sides = [partial(_stored_round, server, watchers, end) for server in (bare, server)]
            rounds, ours = in_turns(sizes.rounds, lambda: request, sides)
            baseline = figure_of("f", f"bare stream of the same messages to {watchers}", _UNIT, rounds)
            figure = figure_of("f", f"WatchOrders, what is stored, to {watchers}", _UNIT, ours)
            figures += [baseline, compared(figure, ours, baseline, rounds)]
    return figures


def _stored_round(server: Server, watchers: int, end: str, request: bytes) -> Round:
    began, used = time.perf_counter(), server.cpu_seconds()
    streams = _read(server, request, watchers, end)
    seconds, cpu_seconds = time.perf_counter() - began, server.cpu_seconds() - used
    return Round(sum(_count(messages) for messages in streams), seconds, cpu_seconds)


def _read(server: Server, request: bytes, watchers: int, end: str) -> list[list[bytes]]:
    """The messages of each watcher up to the one with the position ``end``, which its bytes begin with (field 1)."""
    last = b"\x0a" + bytes((len(end),)) + end.encode()
    streams: dict[int, list[bytes]] = {}
    reading = watchers
    with GrpcLoad(server.address, WATCH_ORDERS) as load:
        load.begin_streams(request, watchers)
        while reading:
            for stream, message in load.read_messages():
                streams.setdefault(stream, []).append(message)
                reading -= message.startswith(last)
    return list(streams.values())


def _count(messages: list[bytes]) -> int:
    """How many updates the messages have. Raises Incomplete where one is missing or comes twice."""
    updates = [update for message in messages for update in _updates(message)]
    if [update.user_update_number for update in updates] != list(range(1, len(updates) + 1)):
        raise Incomplete(f"{len(updates)} updates are not those from the first to the last")
    return len(updates)


def _updates(message: bytes) -> Sequence[order_pb2.OrderUpdate]:
    """The message's updates. Raises Incomplete for a heartbeat, which says that nothing has come for seconds."""
    updates = history.WatchOrdersResponse.FromString(message).updates.updates
    if not updates:
        raise Incomplete("the watch fell silent before all updates had come")
    return updates


def _live(sizes: Sizes, services: _Services, request: bytes) -> Figure:
    """While the engine takes orders as fast as it can."""
    orders = sizes.live_updates * CLOSED_ORDERS // CLOSING_UPDATES
    expected = orders // CLOSED_ORDERS * CLOSING_UPDATES * WATCHERS
    with GrpcLoad(services.history.address, WATCH_ORDERS) as load, ThreadPoolExecutor(1) as feeder:
        load.begin_streams(request, WATCHERS)
        began, used = time.perf_counter(), services.history.cpu_seconds()
        fed = feeder.submit(close_orders, services.engine, orders, [_WATCHED])
        delivered = 0
        while delivered < expected:
            for _, message in load.read_messages():
                delivered += len(_updates(message))
        done = Round(delivered, time.perf_counter() - began, services.history.cpu_seconds() - used)
        fed.result()
    return figure_of("f", f"WatchOrders, as it happens, to {WATCHERS} (cpu: with the ingest)", _UNIT, [done])


def _seen(sizes: Sizes, services: _Services) -> list[Figure]:
    """One order after the other: answered, then seen."""
    places = [place.SerializeToString() for place in islice(resting([_WATCHED]), sizes.orders_seen)]
    answered, seen = [], []
    end = position_of(services.engine)
    with GrpcLoad(services.engine.address, PLACE_ORDER) as engine, GrpcLoad(services.history.address, WATCH_ORDERS) as watcher:
        wait_until_applied(services.history.address, end)
        watcher.begin_streams(_request(end), 1)
        began, used = time.perf_counter(), [server.cpu_seconds() for server in services]
        for place in places:
            sent = time.perf_counter()
            answered += engine.call_all([place], 1).latencies
            for _, message in watcher.read_messages():
                _updates(message)
            seen.append(time.perf_counter() - sent)
        seconds = time.perf_counter() - began
    used = [server.cpu_seconds() - before for server, before in zip(services, used, strict=True)]
    call = Round(len(places), sum(answered), used[0], answered)
    until_seen = Round(len(places), seconds, used[1], seen)
    return [
        figure_of("f", "PlaceOrder, one caller", "orders/s", [call]),
        figure_of("f", "PlaceOrder until a watcher has it, one caller", "orders/s", [until_seen]),
    ]


def _request(after: str) -> bytes:
    return history.WatchOrdersRequest(user_id=_WATCHED, after=after).SerializeToString()


@contextmanager
def _services(folder: Path) -> Iterator[_Services]:
    with engine_server(folder / "engine") as engine, history_server(folder / "history", engine) as history_at:
        deposit_money(engine)
        yield _Services(engine, history_at)
