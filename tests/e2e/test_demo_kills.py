"""kill -9 in the middle of the demo's real order flow: it goes on, its proof is complete, and the tables are those of a run that
nobody disturbed.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from services.cli.demo.flow import Flow
from services.wire.position import encode_position
from tests.support.demo_run import DEMO_USERS, DemoRun
from tests.support.exact_watch import watching
from tests.support.exchange_process import Exchange
from tests.support.exchange_proof import assert_equal_lines, prove_running, prove_stopped
from tests.support.history_dump import dump_of_any_run
from tests.support.kills import kill_both, kill_engine, kill_history
from tests.support.recorded_flow import recorded_flow

MINUTES = 2


class Undisturbed(NamedTuple):
    """A run that went well: where its ledger ended, and its tables without what differs from run to run."""

    sequence: int
    tables: list[str]


@pytest.fixture(scope="module")
def flow() -> Flow:
    return recorded_flow(MINUTES)


@pytest.fixture(scope="module")
def undisturbed(flow: Flow, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    with Exchange(tmp_path_factory.mktemp("undisturbed demo")) as exchange:
        with DemoRun(exchange, flow) as demo:
            assert demo.prove()["answersReplayed"] == 0
        sequence = exchange.wait_until_equal()
        exchange.terminate()
        return Undisturbed(sequence, dump_of_any_run(exchange.history_folder))


@pytest.mark.parametrize("kill", [kill_engine, kill_history, kill_both])
def test_killed_in_the_middle_of_the_demo_it_goes_on_and_its_proof_is_complete(
    exchange: Exchange, flow: Flow, undisturbed: Undisturbed, kill: Callable[[Exchange], None]
) -> None:
    with watching(exchange.history_address, DEMO_USERS, encode_position(exchange.ledger_id, 0)) as watches:
        with DemoRun(exchange, flow) as demo:
            for moment in (0.2, 0.5, 0.8):
                exchange.wait_until_durable(int(moment * undisturbed.sequence))
                kill(exchange)
            report = demo.prove()
        assert report["trades"] == f"{len(flow.trades)} of {len(flow.trades)}"
        ledger = prove_running(exchange, watches)
    exchange.terminate()
    prove_stopped(exchange, ledger)
    assert_equal_lines(dump_of_any_run(exchange.history_folder), undisturbed.tables)
