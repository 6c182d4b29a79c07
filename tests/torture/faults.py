"""What can happen to an exchange while orders come. After each fault both services run again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.bad_wire import Cable, Thief
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
        faults = [*FAULTS, *(CABLE_FAULTS if self.cables else [])]
        fault = chance.choice(faults)
        self.done.append(fault.__name__)
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
