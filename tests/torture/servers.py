"""The CQL servers that a round of torture runs on: one of them or a ring of three, which forget or forget nothing when they are
killed, with a cable to the one now and then. What can happen to them is here; after each fault all of them run again.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.order_history.stores.cql_schema import apply_schema
from services.order_history.stores.cql_settings import CqlSettings, parse_cql_address
from tests.support.bad_wire import Cable
from tests.support.cql_server import CommitlogSync, CqlNode, CqlRing
from tests.torture.faults import Rig, both_killed, engine_killed, engine_terminated, history_killed, history_terminated

SYNC_SECONDS = 10
# As little as an operator may say, and what is so where none says anything.
_SAFE_SECONDS = (SYNC_SECONDS + 5, 60)
# Syncs every 10 s, as servers do by default; with compression what was not synced is in the server's memory alone.
_SETTINGS: dict[str, tuple[CommitlogSync, dict[str, str]]] = {
    "forgets nothing": ("batch", {}),
    "forgets": (
        "periodic",
        {"commitlog_sync_period": f"{SYNC_SECONDS * 1000}ms", "commitlog_compression": "[{class_name: LZ4Compressor}]"},
    ),
}


@dataclass(slots=True)
class Servers:
    """Running servers with an empty store. ``address`` is what the history is told, ``settings`` lead there without a cable."""

    nodes: list[CqlNode]
    wait_until_whole: Callable[[], None]
    settings: CqlSettings
    address: str
    kind: str
    cable: Cable | None = None


@dataclass(slots=True)
class StoreRig(Rig):
    """A rig whose history is on ``servers``. ``freezes_for_long``: whether a minute may be spent on one fault."""

    servers: Servers = field(kw_only=True)
    freezes_for_long: bool = field(kw_only=True)

    def suffer(self, chance: random.Random) -> None:
        """One fault, chosen by chance."""
        ring = len(self.servers.nodes) > 1
        self.meet(chance, [*FAULTS, *(RING_FAULTS if ring else []), *(CABLE_FAULTS if self.servers.cable else [])])
        self.servers.wait_until_whole()


@contextmanager
def one_server(folder: Path, chance: random.Random) -> Iterator[Servers]:
    """A server of its own, behind a cable or not."""
    kind = chance.choice(list(_SETTINGS))
    sync, settings = _SETTINGS[kind]
    with ExitStack() as running:
        node = running.enter_context(CqlNode(folder, commitlog_sync=sync, settings=settings))
        cable = running.enter_context(Cable(node.contact_point)) if chance.random() < 0.5 else None
        direct = _made(node.contact_point)
        # A clean end writes down all that there is, so that the tables themselves are not forgotten.
        node.stop()
        node.start()
        address = f"scylla://{cable.address if cable else node.contact_point}/torture?timeout_seconds=5"
        safe = chance.choice(_SAFE_SECONDS)
        kind = f"one that {kind}, safe after {safe} s"
        yield Servers([node], lambda: None, direct, f"{address}&safe_seconds={safe}", kind, cable)


@contextmanager
def three_servers(folder: Path, chance: random.Random) -> Iterator[Servers]:
    """A ring, each row on all three."""
    kind = chance.choice(list(_SETTINGS))
    sync, settings = _SETTINGS[kind]
    with CqlRing(folder, commitlog_sync=sync, settings=settings) as ring:
        direct = _made(ring.contact_points)
        if kind == "forgets":
            time.sleep(SYNC_SECONDS + 1)
        address = f"scylla://{ring.contact_points}/torture?timeout_seconds=5"
        safe = chance.choice(_SAFE_SECONDS)
        kind = f"three that each {kind}, safe after {safe} s"
        yield Servers(ring.nodes, ring.wait_until_whole, direct, f"{address}&safe_seconds={safe}", kind)


def server_killed(rig: StoreRig, chance: random.Random) -> None:
    """And started at once."""
    node = chance.choice(rig.servers.nodes)
    node.kill()
    node.start()


def server_away(rig: StoreRig, chance: random.Random) -> None:
    """For a while."""
    node = chance.choice(rig.servers.nodes)
    node.kill()
    time.sleep(chance.uniform(0, 8))
    node.start()


def server_frozen(rig: StoreRig, chance: random.Random) -> None:
    """Longer than requests wait, now and then; for a minute once, where that is time enough."""
    node = chance.choice(rig.servers.nodes)
    seconds = chance.uniform(0.1, 12)
    if rig.freezes_for_long:
        rig.freezes_for_long, seconds = False, 60.0
    rig.done[-1] += f" for {seconds:.0f} s"
    node.freeze()
    time.sleep(seconds)
    node.thaw()


def frozen_server_killed(rig: StoreRig, chance: random.Random) -> None:
    """It never thaws."""
    node = chance.choice(rig.servers.nodes)
    node.freeze()
    time.sleep(chance.uniform(0, 8))
    node.kill()
    node.start()


def history_and_server_killed(rig: StoreRig, chance: random.Random) -> None:
    """At the same moment; the server is back first, or is not there yet when the history is."""
    node, history = chance.choice(rig.servers.nodes), rig.exchange.history
    history.process.kill()
    node.kill()
    history.kill()
    if len(rig.servers.nodes) == 1 and chance.random() < 0.5:
        history.launch()
        assert history.wait_for_end() == 71, "it does not start without its store, and says so"
    node.start()
    rig.servers.wait_until_whole()
    history.start()


def everything_killed(rig: StoreRig, _chance: random.Random) -> None:
    """Engine, history and every server at the same moment."""
    rig.exchange.kill()
    _kill_all(rig)
    rig.exchange.start()


def history_terminated_while_a_server_hangs(rig: StoreRig, chance: random.Random) -> None:
    """SIGTERM: a clean end all the same."""
    node = chance.choice(rig.servers.nodes)
    node.freeze()
    time.sleep(chance.uniform(0, 3))
    assert rig.exchange.history.terminate() == 0
    node.thaw()
    rig.servers.wait_until_whole()
    rig.exchange.history.start()


def all_servers_killed(rig: StoreRig, _chance: random.Random) -> None:
    """At the same moment: what none of them has synced is gone."""
    _kill_all(rig)


def answers_lost(rig: StoreRig, chance: random.Random) -> None:
    """What is written arrives, and nobody hears of it."""
    cable = _cable(rig)
    cable.mute()
    time.sleep(chance.uniform(0, 8))
    if chance.random() < 0.5:
        cable.reset()
    cable.mend()


def connections_reset(rig: StoreRig, chance: random.Random) -> None:
    """Several times."""
    for _ in range(chance.randint(1, 4)):
        _cable(rig).reset()
        time.sleep(chance.uniform(0, 1))


StoreFault = Callable[[StoreRig, random.Random], None]
FAULTS: list[StoreFault] = [
    server_killed, server_away, server_frozen, frozen_server_killed, history_and_server_killed, everything_killed,
    history_terminated_while_a_server_hangs, engine_killed, history_killed, both_killed, engine_terminated, history_terminated,
]  # fmt: skip
RING_FAULTS: list[StoreFault] = [all_servers_killed]
CABLE_FAULTS: list[StoreFault] = [answers_lost, connections_reset]


def _kill_all(rig: StoreRig) -> None:
    for node in rig.servers.nodes:
        node.process.kill()
    for node in rig.servers.nodes:
        node.kill()
    for node in rig.servers.nodes:
        node.start()
    rig.servers.wait_until_whole()


def _made(contact_points: str) -> CqlSettings:
    settings = parse_cql_address(f"scylla://{contact_points}/torture?timeout_seconds=30")
    apply_schema(settings)
    return settings


def _cable(rig: StoreRig) -> Cable:
    assert rig.servers.cable is not None
    return rig.servers.cable
