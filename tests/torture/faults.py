"""What can happen to an exchange while orders come. After each fault both services run again."""

import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from services.matching_engine.ledger.disk_format import RECORD_MAGIC
from tests.support.bad_wire import Cable, Thief, talk_to_a_feed, visit
from tests.support.exchange_process import Exchange, Service
from tests.support.kills import kill_both, kill_engine, kill_history


@dataclass(slots=True)
class Rig:
    """An exchange, the cables between its services (none where they are directly connected), and what was done to it."""

    exchange: Exchange
    cables: list[Cable] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def suffer(self, chance: random.Random) -> None:
        """One fault, chosen by chance."""
        self.meet(chance, [*FAULTS, *(CABLE_FAULTS if self.cables else [])])

    def meet(self, chance: random.Random, faults: Sequence[Callable[[Self, random.Random], None]]) -> None:
        """One of the faults."""
        fault = chance.choice(faults)
        self.done.append(fault.__name__)
        # Beside the services' logs, for whoever has to find out what happened.
        with (self.exchange.folder / "faults.log").open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat()} {fault.__name__}\n")
        fault(self, chance)


Fault = Callable[[Rig, random.Random], None]


def engine_killed(rig: Rig, _chance: random.Random) -> None:
    """And started at once."""
    kill_engine(rig.exchange)


def history_killed(rig: Rig, _chance: random.Random) -> None:
    """And started at once."""
    kill_history(rig.exchange)


def both_killed(rig: Rig, _chance: random.Random) -> None:
    """And started at once."""
    kill_both(rig.exchange)


def engine_away(rig: Rig, chance: random.Random) -> None:
    """For a while."""
    rig.exchange.engine.kill()
    time.sleep(chance.uniform(0, 3))
    rig.exchange.start()


def history_away(rig: Rig, chance: random.Random) -> None:
    """For a while."""
    rig.exchange.history.kill()
    time.sleep(chance.uniform(0, 3))
    rig.exchange.start()


def engine_killed_while_it_starts(rig: Rig, chance: random.Random) -> None:
    """Several times."""
    _killed_while_it_starts(rig.exchange.engine, chance)


def history_killed_while_it_starts(rig: Rig, chance: random.Random) -> None:
    """Several times."""
    _killed_while_it_starts(rig.exchange.history, chance)


def engine_restarted_with_its_history_down(rig: Rig, chance: random.Random) -> None:
    """The history finds another epoch when it comes back."""
    rig.exchange.history.kill()
    time.sleep(chance.uniform(0, 0.5))
    rig.exchange.engine.kill()
    rig.exchange.engine.start()
    time.sleep(chance.uniform(0, 0.5))
    rig.exchange.history.start()


def history_restarted_with_its_engine_down(rig: Rig, chance: random.Random) -> None:
    """The history cannot ask how far it has to go."""
    rig.exchange.engine.kill()
    rig.exchange.history.kill()
    rig.exchange.history.start()
    time.sleep(chance.uniform(0, 2))
    rig.exchange.engine.start()


def engine_terminated(rig: Rig, _chance: random.Random) -> None:
    """SIGTERM: a clean end."""
    assert rig.exchange.engine.terminate() == 0
    rig.exchange.engine.start()


def history_terminated(rig: Rig, _chance: random.Random) -> None:
    """SIGTERM: a clean end."""
    assert rig.exchange.history.terminate() == 0
    rig.exchange.history.start()


def both_terminated(rig: Rig, _chance: random.Random) -> None:
    """SIGTERM to both at the same moment."""
    services = (rig.exchange.engine, rig.exchange.history)
    for service in services:
        service.process.terminate()
    assert [service.wait_for_end() for service in services] == [0, 0]
    rig.exchange.start()


def engine_frozen(rig: Rig, chance: random.Random) -> None:
    """Longer than some clients wait."""
    _frozen(rig.exchange.engine, chance.uniform(0.1, 6))


def history_frozen(rig: Rig, chance: random.Random) -> None:
    """Longer than ZMQ's heartbeats, now and then."""
    _frozen(rig.exchange.history, chance.uniform(0.1, 9))


def frozen_history_killed(rig: Rig, chance: random.Random) -> None:
    """It never thaws."""
    rig.exchange.history.freeze()
    time.sleep(chance.uniform(0, 2))
    kill_history(rig.exchange)


def frames_stolen(rig: Rig, chance: random.Random) -> None:
    """A second receiver sits on the feed for a while."""
    with Thief(rig.exchange.feed_address):
        time.sleep(chance.uniform(0.2, 3))


def second_engine_refused(rig: Rig, _chance: random.Random) -> None:
    """Whoever starts an engine on a ledger that has one is told so, and the first does not notice."""
    second = rig.exchange.engine_again("second engine")
    second.launch()
    assert second.wait_for_end() == 65
    assert second.logged("a ledger has one engine at a time")


def second_history_refused(rig: Rig, _chance: random.Random) -> None:
    """Nor is there a second history on one folder."""
    second = rig.exchange.history_into("second history", rig.exchange.history_folder, address="127.0.0.1:0")
    second.launch()
    assert second.wait_for_end() not in (0, None)
    assert second.logged("is in use by another history service")


def strangers(rig: Rig, chance: random.Random) -> None:
    """Scans and health checks at all ports, and one who speaks ZMQ and sends where it should listen."""
    exchange = rig.exchange
    for address in (exchange.feed_address, exchange.engine_address, exchange.history_address):
        for words in (b"", b"GET / HTTP/1.1\r\n\r\n", chance.randbytes(3_000)):
            visit(address, words)
    talk_to_a_feed(exchange.feed_address)


def engine_index_lost(rig: Rig, chance: random.Random) -> None:
    """engine.db can be thrown away, or be what a broken disk made of it: the engine makes it anew from the ledger."""
    rig.exchange.engine.kill()
    found = sorted(rig.exchange.engine_folder.glob("engine.db*"))
    for file in found:
        file.unlink()
    if chance.random() < 0.5:
        found[0].write_bytes(chance.randbytes(8192))
    rig.exchange.engine.start()


def engine_index_put_back(rig: Rig, chance: random.Random) -> None:
    """engine.db of some time ago."""
    exchange, copy = rig.exchange, rig.exchange.folder / "old index"
    exchange.engine.kill()
    copy.mkdir()
    for file in exchange.engine_folder.glob("engine.db*"):
        shutil.copy(file, copy)
    exchange.engine.start()
    time.sleep(chance.uniform(0.2, 2))
    exchange.engine.kill()
    for file in exchange.engine_folder.glob("engine.db*"):
        file.unlink()
    for file in copy.iterdir():
        shutil.move(file, exchange.engine_folder)
    copy.rmdir()
    exchange.engine.start()


def snapshots_damaged(rig: Rig, chance: random.Random) -> None:
    """What is not as it was written is not used, and without any snapshot the ledger is read from its beginning."""
    rig.exchange.engine.kill()
    for file in (rig.exchange.engine_folder / "snapshots").glob("*.snapshot"):
        data = bytearray(file.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
    rig.exchange.engine.start()


def torn_tail(rig: Rig, chance: random.Random) -> None:
    """The engine died in the middle of a write: a part of a record, or anything, stands after the last whole one."""
    rig.exchange.engine.kill()
    segment = max((rig.exchange.engine_folder / "ledger").glob("*.segment"))
    data = segment.read_bytes()
    begin = data.rfind(RECORD_MAGIC)
    part = data[begin : begin + chance.randint(1, len(data) - begin - 1)] if begin > 0 else b""
    with segment.open("ab") as file:
        file.write(chance.choice((part, chance.randbytes(chance.randint(1, 300)), bytes(chance.randint(1, 5_000)))))
    rig.exchange.engine.start()


def history_begun_anew(rig: Rig, chance: random.Random) -> None:
    """Its files are gone: it folds the whole ledger again, and is killed or loses its engine on the way, now and then."""
    rig.exchange.history.kill()
    shutil.rmtree(rig.exchange.history_folder)
    rig.exchange.history.start()
    time.sleep(chance.uniform(0, 0.5))
    chance.choice((lambda _exchange: None, kill_engine, kill_history))(rig.exchange)


def history_put_back(rig: Rig, chance: random.Random) -> None:
    """Its files are those of some time ago."""
    exchange, copy = rig.exchange, rig.exchange.folder / "old history"
    exchange.history.kill()
    shutil.copytree(exchange.history_folder, copy)
    exchange.history.start()
    time.sleep(chance.uniform(0.2, 2))
    exchange.history.kill()
    shutil.rmtree(exchange.history_folder)
    shutil.move(copy, exchange.history_folder)
    exchange.history.start()


def connections_reset(rig: Rig, chance: random.Random) -> None:
    """One or both, several times."""
    for _ in range(chance.randint(1, 4)):
        for cable in chance.sample(rig.cables, chance.randint(1, len(rig.cables))):
            cable.reset()
        time.sleep(chance.uniform(0, 0.3))


def partition(rig: Rig, chance: random.Random) -> None:
    """Nothing passes on one cable or both, and no one is told."""
    cut = chance.sample(rig.cables, chance.randint(1, len(rig.cables)))
    for cable in cut:
        cable.cut()
    time.sleep(chance.choice((chance.uniform(0, 2), chance.uniform(5, 12))))
    for cable in cut:
        cable.mend()


def killed_behind_a_partition(rig: Rig, chance: random.Random) -> None:
    """The engine is another one when the cable is whole again."""
    for cable in rig.cables:
        cable.cut()
    kill_engine(rig.exchange)
    time.sleep(chance.uniform(0, 4))
    for cable in rig.cables:
        cable.mend()


FAULTS: list[Fault] = [
    engine_killed, history_killed, both_killed, engine_away, history_away, engine_killed_while_it_starts,
    history_killed_while_it_starts, engine_restarted_with_its_history_down, history_restarted_with_its_engine_down,
    engine_terminated, history_terminated, both_terminated, engine_frozen, history_frozen, frozen_history_killed, frames_stolen,
    second_engine_refused, second_history_refused, strangers,
    engine_index_lost, engine_index_put_back, torn_tail, snapshots_damaged, history_begun_anew,
    history_put_back,
]  # fmt: skip
CABLE_FAULTS: list[Fault] = [connections_reset, partition, killed_behind_a_partition]


def _killed_while_it_starts(service: Service, chance: random.Random) -> None:
    service.kill()
    for _ in range(chance.randint(1, 3)):
        service.launch()
        time.sleep(chance.uniform(0, 0.8))
        service.kill()
    service.start()


def _frozen(service: Service, seconds: float) -> None:
    service.freeze()
    time.sleep(seconds)
    service.thaw()
