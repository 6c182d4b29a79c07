"""History processes that follow a ledger into a CQL store, all from the same moment on: each is there and waits before the ledger
is there to be followed, so that none has a start of the others or of the clock.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import NamedTuple

from services.order_history.order_processor import Chunk, OrderProcessor, ReceivedBatch
from services.order_history.user_share import SHARDS, UserShare
from services.wire.position import encode_position
from tests.bench.cql_bench import CqlBench
from tests.bench.figures import Round
from tests.bench.ingest import wait_until_applied
from tests.bench.ledgers import Ledger
from tests.bench.processes import Server, history_server
from tests.support.fake_engine import FakeEngine

_UNUSED = "127.0.0.1:1"
"""Where a process is told that the others are: nothing is asked that it would forward."""


class Followed(NamedTuple):
    """A ledger with all that is in it: its batches, and its chunks for a history of all users."""

    ledger: Ledger
    batches: list[ReceivedBatch]
    chunks: list[Chunk]
    updates: int


def followed_ledger(engine: Server) -> Followed:
    """The engine's ledger as it is now."""
    ledger = Ledger(Path(engine.ready["ledger"]))
    chunks = list(ledger.chunks(OrderProcessor()))
    return Followed(ledger, list(ledger.batches()), chunks, sum(len(chunk.updates) for chunk in chunks))


def follow(cql: CqlBench, keyspace: str, followed: Followed, processes: int, folder: Path) -> Round:
    """So many processes that share the users, with an empty store, until the last of them has the whole ledger."""
    cql.emptied(keyspace)
    ledger = followed.ledger
    position = encode_position(ledger.ledger_id, ledger.last_sequence)
    feeds = ["tcp://127.0.0.1:*"] * (processes - 1)
    with FakeEngine(ledger_id=ledger.ledger_id, more_feeds=feeds) as engine, ExitStack() as running:
        servers = [running.enter_context(each) for each in _histories(cql.address(keyspace), engine, processes, folder)]
        used = sum(server.cpu_seconds() for server in servers)
        began = time.perf_counter()
        engine.append(*followed.batches)
        engine.push()
        for server in servers:
            wait_until_applied(server.address, position)
        seconds = time.perf_counter() - began
        used = sum(server.cpu_seconds() for server in servers) - used
    shutil.rmtree(folder)
    return Round(followed.updates, seconds, used)


def _histories(store: str, engine: FakeEngine, processes: int, folder: Path) -> Iterator[AbstractContextManager[Server]]:
    width = SHARDS // processes
    users = [str(UserShare(begin, begin + width - 1)) for begin in range(0, SHARDS, width)]
    for place, consumer in enumerate(engine.consumers):
        at = Server(consumer.address, os.getpid(), {"feeds": {"history": consumer.feed}})
        peers = {other: _UNUSED for other in users if other != users[place]}
        yield history_server(folder / str(place), at, store=store, users=users[place], peers=peers, gap_patience_seconds=0.01)
