"""The kinds of rounds with the history on a CQL store, whose servers suffer as well. Each is as those of ``rounds``."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from services.wire.position import encode_position
from tests.support.cql_proof import prove_fold_in_keyspace
from tests.support.demo_run import DEMO_USERS, DemoProcess
from tests.support.eventually import eventually
from tests.support.exact_reader import ExactReader
from tests.support.exact_watch import watching
from tests.support.exchange_process import Exchange
from tests.support.exchange_proof import (
    WrittenLedger,
    open_orders,
    prove_acknowledged,
    prove_audit,
    prove_repeats_change_nothing,
    prove_running,
)
from tests.support.operation import COMMAND, operate
from tests.support.order_flow import USERS, Load, flow_of
from tests.torture.rounds import CLIENT_PATIENCE_SECONDS, CLIENT_TIMEOUT_SECONDS, Did, Round, moments
from tests.torture.servers import Servers, StoreRig, one_server, three_servers

StartServers = Callable[[Path, random.Random], AbstractContextManager[Servers]]

# Between two faults of a demo, and how many there are at most: for each of its minutes, and in all, so that it comes to its end.
_PAUSE_SECONDS = (0.5, 6.0)
_FAULTS_PER_MINUTE = 1.5
_FAULTS_MAX = 16
# How long a part of the demo is sent at least: time for its faults.
_SENDING_SECONDS = 30
_LONG_MINUTES = 10
# After so many faults the history must come further before the next: one that is killed again each time before it has written its
# last minute again comes nowhere, and shows nothing.
_FAULTS_TOGETHER_MAX = 3
_PROGRESS_SECONDS = 180.0
_VERIFY_SECONDS = 900.0
_MINUTES = 30


def demo(start: StartServers, folder: Path, chance: random.Random, minutes: float | None) -> Did:
    """`ordertape demo` as a process goes on over all faults, and its proof is complete."""
    length = _MINUTES if minutes is None else minutes
    with _rig(start, folder, chance, freezes_for_long=length >= _LONG_MINUTES) as rig:
        exchange, begin = rig.exchange, encode_position(rig.exchange.ledger_id, 0)
        speed = None if minutes is None else minutes * 60 / _SENDING_SECONDS
        with watching(exchange.history_address, DEMO_USERS, begin) as watches, DemoProcess(exchange, minutes, speed) as running:
            for number in range(1, min(round(length * _FAULTS_PER_MINUTE), _FAULTS_MAX) + 1):
                time.sleep(chance.uniform(*_PAUSE_SECONDS))
                if not running.is_running:
                    break
                rig.suffer(chance)
                if number % _FAULTS_TOGETHER_MAX == 0:
                    _wait_until_further(exchange)
            report = running.prove()
            ledger = prove_running(exchange, watches)
        _prove_stopped(rig, ledger)
        return {
            "faults": rig.done, "orders": report["orders"], "trades": report["trades"], "lagSeconds": report["historyLagSeconds"],
            "sentAgain": report["messagesSentAgain"], "epochs": ledger.batches[-1].message.epoch, **_rewrites(exchange),
        }  # fmt: skip


def one_client(start: StartServers, folder: Path, chance: random.Random, _minutes: float | None) -> Did:
    """One client sends, another reads what was written, and no answer may be older than its position."""
    flow = flow_of(chance.randrange(10**9), messages=chance.randint(300, 900), items_max=chance.choice((3, 20)))
    with _rig(start, folder, chance, freezes_for_long=False) as rig:
        exchange, begin = rig.exchange, encode_position(rig.exchange.ledger_id, 0)
        load = Load(
            exchange.engine_address,
            flow,
            timeout_seconds=CLIENT_TIMEOUT_SECONDS,
            patience_seconds=CLIENT_PATIENCE_SECONDS,
            pause_seconds=chance.uniform(10, 25) / len(flow),
        )
        with watching(exchange.history_address, USERS, begin) as watches, load:
            with ExactReader(exchange.history_address, load, chance.randrange(10**9)) as reader:
                for share in moments(chance):
                    load.wait_for(share, CLIENT_PATIENCE_SECONDS)
                    rig.suffer(chance)
                load.finish()
                exchange.wait_until_equal()
            prove_repeats_change_nothing(exchange, load.sent)
            ledger = prove_running(exchange, watches)
        prove_acknowledged(ledger, load.sent)
        _prove_stopped(rig, ledger)
        return {
            "faults": rig.done, "messages": len(load.sent), "commands": ledger.sequence, "reads": reader.reads,
            "lists": reader.lists, **_rewrites(exchange),
        }  # fmt: skip


def _wait_until_further(exchange: Exchange) -> None:
    before = exchange.history_status().applied_sequence

    def is_further() -> bool:
        applied = exchange.history_status().applied_sequence
        return applied > before or applied == exchange.durable_sequence()

    eventually(is_further, _PROGRESS_SECONDS)


def _rounds(start: StartServers) -> dict[str, Round]:
    return {"demo": partial(demo, start), "one-client": partial(one_client, start)}


STORE_ROUNDS: dict[str, dict[str, Round]] = {"cql": _rounds(one_server), "cql-ring": _rounds(three_servers)}


@contextmanager
def _rig(start: StartServers, folder: Path, chance: random.Random, *, freezes_for_long: bool) -> Iterator[StoreRig]:
    """A running exchange whose history is on servers of its own."""
    with (
        start(folder / "servers", chance) as servers,
        Exchange(folder, history_settings={"store": servers.address}) as exchange,
    ):
        rig = StoreRig(exchange, servers=servers, freezes_for_long=freezes_for_long)
        rig.done.append(servers.kind + (", behind a cable" if servers.cable else ""))
        yield rig


def _prove_stopped(rig: StoreRig, ledger: WrittenLedger) -> None:
    """What an operator's check says while the services run, and what they have left when they have stopped: a ledger that is
    sound, and its fold.
    """
    arguments = ("verify", "--store", rig.servers.address, "--engine", rig.exchange.engine_address)
    verified = operate(*arguments, command=COMMAND, seconds_max=_VERIFY_SECONDS)
    assert verified.code == 0, verified
    rig.exchange.terminate()
    prove_audit(rig.exchange.engine_folder)
    prove_fold_in_keyspace(rig.servers.settings, ledger.ledger_id, ledger.batches, open_orders(ledger.updates))


def _rewrites(exchange: Exchange) -> dict[str, object]:
    texts = {
        "losses": "server of the store lost",
        "back": "forgotten nothing",
        "restarted": "started anew",
        "rewrites": '"written again"',
    }
    return {name: exchange.history.count(text) for name, text in texts.items()}
