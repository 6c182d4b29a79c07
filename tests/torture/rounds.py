"""The kinds of rounds. Each takes a folder of its own and a source of chance, raises AssertionError where anything is not as it
must be, and returns what it did.
"""

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from services.wire.position import encode_position
from tests.support.bad_wire import Cable, LossyFeed
from tests.support.demo_run import DEMO_USERS, DemoProcess
from tests.support.eventually import eventually
from tests.support.exact_reader import ExactReader
from tests.support.exact_watch import ExactWatch, watching
from tests.support.exchange_process import Exchange
from tests.support.exchange_proof import WrittenLedger, assert_equal_lines, prove, prove_running, prove_stopped
from tests.support.history_dump import dump_of_any_run
from tests.support.order_flow import USERS, Load, Step, flow_of
from tests.support.small_disk import MIB, small_disk
from tests.torture.faults import Rig

Did = dict[str, object]
Round = Callable[[Path, random.Random, float | None], Did]

CLIENT_PATIENCE_SECONDS = 120.0
# Shorter than an engine is frozen, so that a request is sent again while the first one still waits in it.
CLIENT_TIMEOUT_SECONDS = 3.0


class _DemoEnd(NamedTuple):
    sequence: int
    tables: list[str]


def one_client(folder: Path, chance: random.Random, _minutes: float | None) -> Did:
    """One client sends in order; the tables must be those of an undisturbed run."""
    flow = flow_of(chance.randrange(10**9), messages=chance.randint(300, 1_200), items_max=chance.choice((3, 20, 60)))
    undisturbed = _undisturbed(folder / "undisturbed", flow)
    with _rig(folder / "disturbed", chance) as rig, _watched(rig, USERS) as watches:
        with _load(rig, chance, [flow]) as load:
            ledger = _suffer(rig, chance, load, watches, USERS)
        assert_equal_lines(dump_of_any_run(rig.exchange.history_folder), undisturbed)
        return _did(rig, ledger, load, watches)


def many_clients(folder: Path, chance: random.Random, _minutes: float | None) -> Did:
    """Many clients send at once, so that commit groups are large and requests cross."""
    clients = chance.randint(4, 16)
    flows = [
        flow_of(chance.randrange(10**9), chance.randint(60, 200), users=(f"u{n}", f"v{n}"), items_max=30) for n in range(clients)
    ]
    flows.append(flows[0])  # an impatient client sends all that it sends twice, at the same time
    with _rig(folder, chance) as rig, _watched(rig, ("u0", "v1")) as watches:
        with _load(rig, chance, flows) as load:
            ledger = _suffer(rig, chance, load, watches, ("v0", "u1"))
        return _did(rig, ledger, load, watches)


def demo(folder: Path, chance: random.Random, minutes: float | None) -> Did:
    """`ordertape demo` as a process goes on over all faults; its proof is complete, the tables those of an undisturbed run."""
    undisturbed = _undisturbed_demo(minutes)
    with _rig(folder, chance) as rig, _watched(rig, DEMO_USERS) as watches:
        shares = moments(chance)
        if chance.random() < 0.3:
            # The demo itself is killed at some moment; the next one sends the same orders again.
            with DemoProcess(rig.exchange, minutes) as killed:
                _wait_for(rig.exchange, killed, int(shares.pop(0) * undisturbed.sequence))
            rig.done.append("demo_killed")
        with DemoProcess(rig.exchange, minutes) as running:
            for share in shares:
                _wait_for(rig.exchange, running, int(share * undisturbed.sequence))
                rig.suffer(chance)
            report = running.prove()
        ledger = prove_running(rig.exchange, watches)
        rig.exchange.terminate()
        prove_stopped(rig.exchange, ledger)
        assert_equal_lines(dump_of_any_run(rig.exchange.history_folder), undisturbed.tables)
        return {
            "faults": rig.done, "orders": report["orders"], "trades": report["trades"], "sentAgain": report["messagesSentAgain"],
            "answersReplayed": report["answersReplayed"], "epochs": ledger.batches[-1].message.epoch,
        }  # fmt: skip


def full_disks(folder: Path, chance: random.Random, _minutes: float | None) -> Did:
    """Both services' disks are small and get full one after the other, or at once; space comes, again not enough, then enough."""
    flow = flow_of(chance.randrange(10**9), messages=600)
    undisturbed = _undisturbed(folder / "undisturbed", flow)
    sizes = [chance.randint(3 * MIB // 4, 4 * MIB), chance.randint(2 * MIB, 8 * MIB)]
    with ExitStack() as disks:
        engine_disk, history_disk = (
            disks.enter_context(small_disk(folder / name, size)) for name, size in zip(("e", "h"), sizes, strict=True)
        )
        exchange = Exchange(
            folder / "disturbed", engine_folder=engine_disk.folder / "engine", history_folder=history_disk.folder / "history"
        )
        ends = 0
        with exchange, Load(exchange.engine_address, flow, patience_seconds=CLIENT_PATIENCE_SECONDS) as load:
            while load.answered < 1:
                eventually(lambda: load.answered == 1 or not exchange.engine.is_running, 120)
                if not exchange.engine.is_running:
                    assert exchange.engine.process.returncode == 70 or ends
                    ends += 1
                    engine_disk.grow(_size(engine_disk.folder) + chance.randint(MIB // 4, 3 * MIB))
                    exchange.engine.launch()
            history_disk.grow(512 * MIB)
            engine_disk.grow(512 * MIB)
            eventually(lambda: exchange.engine.is_running)
            load.finish()
            ledger = prove(exchange, load)
        assert_equal_lines(dump_of_any_run(exchange.history_folder), undisturbed)
        return {"faults": [f"{ends} times a full disk under the engine"], "sizes": sizes, "commands": ledger.sequence}


def restored_ledger(folder: Path, chance: random.Random, _minutes: float | None) -> Did:
    """The ledger is put back from a copy of a random moment; the history halts as soon as it meets it, and stays so."""
    flow = flow_of(chance.randrange(10**9), messages=400)
    cut = chance.randint(20, 380)
    settings = {"snapshot_every_commands": chance.choice((500, 200_000))}
    with Exchange(folder / "exchange", engine_settings=settings) as exchange:
        with Load(exchange.engine_address, flow[:cut]) as load:
            load.finish()
        exchange.engine.kill()
        shutil.copytree(exchange.engine_folder, folder / "copy")
        exchange.start()
        with Load(exchange.engine_address, flow[cut:]) as load:
            load.finish()
        at_sequence = exchange.wait_until_equal()
        meanwhile_down = chance.random() < 0.5
        if meanwhile_down:
            exchange.history.kill()
        exchange.engine.kill()
        shutil.rmtree(exchange.engine_folder / "ledger")
        shutil.copytree(folder / "copy" / "ledger", exchange.engine_folder / "ledger")
        exchange.engine.start()
        with Load(exchange.engine_address, flow_of(chance.randrange(10**9), messages=chance.randint(0, 600))) as load:
            load.finish()
        if meanwhile_down:
            exchange.history.start()
        reason = eventually(lambda: exchange.history_status().halt_reason, 60)
        assert f"sequence {at_sequence}:" in reason
        assert exchange.history_status().applied_sequence == at_sequence
        eventually(lambda: exchange.history_health() == "NOT_SERVING")
        assert reason in exchange.command("status").stdout
        return {"faults": ["history down" if meanwhile_down else "history running"], "reason": reason}


ROUNDS: dict[str, Round] = {
    "one-client": one_client,
    "many-clients": many_clients,
    "demo": demo,
    "full-disks": full_disks,
    "restored-ledger": restored_ledger,
}


@contextmanager
def _rig(folder: Path, chance: random.Random) -> Iterator[Rig]:
    """A running exchange whose services are connected directly, through cables, or by a feed that loses frames."""
    # Small files and many snapshots, now and then, so that a start meets each of them.
    settings = {
        "snapshot_every_commands": chance.choice((500, 5_000, 200_000)),
        "ledger_segment_bytes_max": chance.choice((1 << 16, 1 << 20, 64 << 20)),
    }
    exchange = Exchange(folder, engine_settings=settings)
    with ExitStack() as between:
        rig = Rig(exchange)
        kind = chance.choice(("direct", "cables", "lossy"))
        if kind == "cables":
            feed = between.enter_context(Cable(exchange.feed_address.removeprefix("tcp://")))
            calls = between.enter_context(Cable(exchange.engine_address))
            exchange.history_hears, exchange.history_calls = f"tcp://{feed.address}", calls.address
            rig.cables = [feed, calls]
        elif kind == "lossy":
            lossy = between.enter_context(LossyFeed(exchange.feed_address, random.Random(chance.random())))
            exchange.history_hears = lossy.address
        rig.done.append(f"{kind}, snapshots every {settings['snapshot_every_commands']}")
        between.enter_context(exchange)
        yield rig


@contextmanager
def _watched(rig: Rig, users: tuple[str, ...]) -> Iterator[list[ExactWatch]]:
    begin = encode_position(rig.exchange.ledger_id, 0)
    with watching(rig.exchange.history_address, users, begin) as watches:
        yield watches


def _load(rig: Rig, chance: random.Random, flows: list[list[Step]]) -> Load:
    """Clients that send for long enough that there is something under way at each fault."""
    seconds = chance.uniform(5, 25)
    return Load(
        rig.exchange.engine_address,
        *flows,
        timeout_seconds=CLIENT_TIMEOUT_SECONDS,
        patience_seconds=CLIENT_PATIENCE_SECONDS,
        pause_seconds=seconds / max(len(flow) for flow in flows),
    )


def _suffer(rig: Rig, chance: random.Random, load: Load, watches: list[ExactWatch], late_users: Sequence[str]) -> WrittenLedger:
    """Faults until the load is done, with a reader beside it and watches that begin on the way; then everything is proven."""
    address = rig.exchange.history_address
    with ExitStack() as late, ExactReader(address, load, chance.randrange(10**9)) as reader:
        for share in moments(chance):
            load.wait_for(share, CLIENT_PATIENCE_SECONDS)
            watches = [*watches, *late.enter_context(watching(address, [chance.choice(late_users)], after=None))]
            rig.suffer(chance)
        load.finish()
        ledger = prove(rig.exchange, load, watches)
        rig.done.append(f"{reader.reads} reads, {reader.lists} lists")
    return ledger


def moments(chance: random.Random) -> list[float]:
    """Shares of a load at which something happens."""
    return sorted(chance.uniform(0.02, 0.98) for _ in range(chance.randint(2, 7)))


def _undisturbed(folder: Path, flow: list[Step]) -> list[str]:
    with Exchange(folder) as exchange, Load(exchange.engine_address, flow) as load:
        load.finish()
        exchange.wait_until_equal()
        exchange.terminate()
        return dump_of_any_run(exchange.history_folder)


@cache
def _undisturbed_demo(minutes: float | None) -> _DemoEnd:
    with TemporaryDirectory(prefix="ordertape-demo-") as folder, Exchange(Path(folder)) as exchange:
        with DemoProcess(exchange, minutes) as running:
            running.prove()
        sequence = exchange.wait_until_equal()
        exchange.terminate()
        return _DemoEnd(sequence, dump_of_any_run(exchange.history_folder))


def _wait_for(exchange: Exchange, running: DemoProcess, sequence: int) -> None:
    eventually(lambda: exchange.durable_sequence() >= sequence or not running.is_running, 300)


def _did(rig: Rig, ledger: WrittenLedger, load: Load, watches: list[ExactWatch]) -> Did:
    return {
        "faults": rig.done, "messages": len(load.sent), "commands": ledger.sequence, "updates": len(ledger.updates),
        "epochs": ledger.batches[-1].message.epoch, "sentAgain": load.repeats,
        "cuts": sum(len(watch.cuts) for watch in watches),
    }  # fmt: skip


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


Skipped = pytest.skip.Exception
