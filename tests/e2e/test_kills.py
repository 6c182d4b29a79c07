"""kill -9 of the engine, of the history, and of both, while orders come: nothing acknowledged is missing, nothing is doubled, and
the tables are those of a run that nobody disturbed.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.exact_watch import ExactWatch
from tests.support.exchange_process import Exchange
from tests.support.exchange_proof import assert_equal_lines, prove
from tests.support.forgetful_disk import SYNC_SECONDS
from tests.support.history_dump import dump_of_any_run
from tests.support.kills import kill_both, kill_engine, kill_history
from tests.support.order_flow import Load, Step, flow_of

MOMENTS = (0.1, 0.35, 0.6, 0.85)


@pytest.mark.parametrize("kill", [kill_engine, kill_history, kill_both])
def test_killed_at_several_moments_it_ends_as_if_nothing_had_happened(
    exchange: Exchange,
    watches: list[ExactWatch],
    flow: list[Step],
    undisturbed: list[str],
    kill: Callable[[Exchange], None],
) -> None:
    with Load(exchange.engine_address, flow) as load:
        for moment in MOMENTS:
            load.wait_for(moment)
            kill(exchange)
        load.finish()
        prove(exchange, load, watches)
    assert_equal_lines(dump_of_any_run(exchange.history_folder), undisturbed)


def test_killed_while_many_clients_send_at_once_it_keeps_every_answer(exchange: Exchange) -> None:
    flows = [flow_of(seed, 50, users=(f"user{seed}a", f"user{seed}b")) for seed in range(6)]
    with Load(exchange.engine_address, *flows) as load:
        for moment, kill in zip(MOMENTS, (kill_engine, kill_both, kill_history, kill_engine), strict=True):
            load.wait_for(moment)
            kill(exchange)
        load.finish()
        prove(exchange, load)


def test_an_engine_that_dies_again_while_it_recovers_loses_nothing(exchange: Exchange, flow: list[Step]) -> None:
    with Load(exchange.engine_address, flow) as load:
        load.wait_for(0.5)
        exchange.engine.kill()
        for _ in range(3):
            exchange.engine.launch()
            exchange.engine.kill()
        exchange.engine.start()
        load.finish()
        prove(exchange, load)


def test_an_engine_that_begins_with_a_snapshot_goes_on_as_if_it_had_begun_with_the_ledger(
    tmp_path: Path, flow: list[Step], undisturbed: list[str]
) -> None:
    settings = {"snapshot_every_commands": 500, "ledger_segment_bytes_max": 1 << 17}
    with (
        Exchange(tmp_path, engine_settings=settings) as exchange,
        Load(exchange.engine_address, flow, pause_seconds=4 / len(flow)) as load,
    ):
        for moment in (0.4, 0.7, 0.9):
            load.wait_for(moment)
            eventually(lambda: list((exchange.engine_folder / "snapshots").glob("*.snapshot")), 30)
            kill_engine(exchange)
        load.finish()
        prove(exchange, load)
    begun_with = [json.loads(line)["snapshot_sequence"] for line in exchange.engine.log if '"recovered"' in line]
    assert begun_with[0] == 0 < begun_with[1] <= begun_with[3]
    assert_equal_lines(dump_of_any_run(exchange.history_folder), undisturbed)


def test_a_power_cut_that_takes_all_that_was_not_synced_takes_nothing_that_was_answered(tmp_path: Path) -> None:
    settings = {"ledger_segment_bytes_max": 1 << 20}
    with Exchange(tmp_path, engine_settings=settings, engine_module="tests.support.forgetful_disk") as exchange:
        flows = [flow_of(seed, 40, users=(f"user{seed}a", f"user{seed}b")) for seed in range(6)]
        with Load(exchange.engine_address, *flows) as load:
            for number, moment in enumerate((0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9)):
                load.wait_for(moment)
                time.sleep(number * SYNC_SECONDS / 7)  # an answer comes just after a sync
                kill_engine(exchange)
            load.finish()
            prove(exchange, load)
    assert len(list((exchange.engine_folder / "ledger").glob("*.segment"))) > 1
    assert exchange.engine.logged("torn tail")
