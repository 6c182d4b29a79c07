"""What can become of a CQL server under a running history: it is killed and forgets what it acknowledged, hangs, loses answers,
is one of three. Nothing is lost, nothing is doubled, no answer is short, and the history says how it is meanwhile.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.order_history.stores.cql_schema import apply_schema
from services.order_history.stores.cql_settings import parse_cql_address
from tests.support.bad_wire import Cable
from tests.support.cql_proof import rows_missing
from tests.support.cql_server import CqlNode, CqlRing
from tests.support.cql_session import cql_session
from tests.support.eventually import eventually
from tests.support.exact_questions import ExactQuestions
from tests.support.exchange_process import free_ports
from tests.support.following_history import FollowingHistory, PublishedLoad
from tests.support.ledger_builder import LedgerBuilder
from tests.support.store_kinds import empty_tables

pytestmark = [pytest.mark.cql, pytest.mark.torture]

USERS = ("alice", "bob", "carol")
KEYSPACE = "faults"
OPTIONS = "timeout_seconds=2"
# What is acknowledged is in the server's memory alone for so long that a kill takes all of it: a log that is not compressed is in
# the kernel's memory at once, which outlives the process.
FORGETFUL = {"commitlog_sync_period": "60000ms", "commitlog_compression": "[{class_name: LZ4Compressor}]"}
LOAD_BATCHES, LOAD_SECONDS = 700, 5.0
FORGOTTEN_MIN = 500
STOP_SECONDS = 20.0
HANG_SECONDS = 60.0
FORGOTTEN_NOTHING = "server of the store back, which has forgotten nothing"


class Place:
    """A server's folder and port, with a keyspace that no kill can take."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (self._port,) = free_ports(1)
        self._is_made = False

    @contextmanager
    def server(self, commitlog_sync: str) -> Iterator[CqlNode]:
        """A running server of the kind."""
        if commitlog_sync == "batch":
            server = CqlNode(self._folder, port=self._port, commitlog_sync="batch")
        else:
            server = CqlNode(self._folder, port=self._port, settings=FORGETFUL)
        with server:
            if not self._is_made:
                apply_schema(parse_cql_address(f"scylla://{server.contact_point}/{KEYSPACE}?timeout_seconds=30"))
                self._is_made = True
                if commitlog_sync != "batch":
                    server.stop()  # a clean end writes down all that there is
                    server.start()
            yield server


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("cql faults") / "node")


@pytest.fixture(scope="module")
def server(place: Place, request: pytest.FixtureRequest) -> Iterator[CqlNode]:
    """A server whose commit log is synced as the parameter says: batch (it forgets nothing) or periodic."""
    with place.server(request.param) as server:
        yield server


@pytest.fixture(scope="module")
def ledger() -> LedgerBuilder:
    builder = LedgerBuilder()
    builder.open_market(USERS, ("BTC-USD", "ETH-USD"))
    builder.live_on(1_500, USERS)
    return builder


def empty_store(server: CqlNode, contact_point: str | None = None) -> str:
    """The keyspace's address, empty."""
    empty_tables(parse_cql_address(f"scylla://{server.contact_point}/{KEYSPACE}?timeout_seconds=30"))
    return f"scylla://{contact_point or server.contact_point}/{KEYSPACE}?{OPTIONS}"


@pytest.fixture
def history(server: CqlNode, ledger: LedgerBuilder, tmp_path: Path) -> Iterator[FollowingHistory]:
    """A history that runs and has a part of the ledger."""
    with FollowingHistory(tmp_path, empty_store(server), ledger) as history:
        begin(history)
        yield history


def begin(history: FollowingHistory) -> None:
    history.publish(200)
    history.service.start()
    history.wait_until_equal()


def kill_and_look(server: CqlNode, history: FollowingHistory) -> int:
    """Kill the server, start it, and count the rows that it has forgotten before the history can write them again."""
    stored = history.status().applied_sequence
    history.engine.may_replay.clear()
    server.kill()
    server.start()
    acknowledged = [batch for batch in history.batches if batch.last_sequence <= stored]
    forgotten = rows_missing(history.settings, history.ledger.ledger_id, acknowledged)
    history.engine.may_replay.set()
    return forgotten


def newest_stored(server: CqlNode) -> int:
    """The sequence of the newest update that the server has, whether the history knows of it or not."""
    with cql_session(server.contact_point) as session:
        (row,) = session.execute(f"SELECT max(sequence) FROM {KEYSPACE}.user_updates")
    return int(row[0])


forgets_nothing = pytest.mark.parametrize("server", ["batch"], indirect=True)
forgets = pytest.mark.parametrize("server", ["periodic"], indirect=True)


@forgets_nothing
def test_a_server_that_hangs_for_a_minute_is_told_of_and_what_came_meanwhile_arrives(
    server: CqlNode, history: FollowingHistory
) -> None:
    with (
        history.watching("alice", "bob") as watches,
        ExactQuestions(history.address, history.ledger) as questions,
        PublishedLoad(history, LOAD_BATCHES, LOAD_SECONDS) as load,
    ):
        load.wait_for(0.3)
        server.freeze()
        frozen_at = time.monotonic()
        eventually(lambda: not history.is_serving(), 8)
        refused = questions.refused
        eventually(lambda: history.status().lag_commands > 100, 8)
        eventually(lambda: questions.refused > refused + 1, 12)
        time.sleep(frozen_at + HANG_SECONDS - time.monotonic())
        server.thaw()
        load.finish(60)
        history.wait_until_equal()
        answered = questions.answered
        eventually(lambda: questions.answered > answered + 5, 10)
        assert history.service.logged(FORGOTTEN_NOTHING)
        assert not history.service.logged('"written again"')
        history.prove(watches)


@forgets_nothing
def test_a_history_whose_server_hangs_ends_at_sigterm_and_goes_on_from_there(server: CqlNode, history: FollowingHistory) -> None:
    with history.watching("alice", "bob") as watches:
        server.freeze()
        history.publish(600)
        time.sleep(0.5)
        begun = time.monotonic()
        assert history.service.terminate() == 0
        assert time.monotonic() - begun < STOP_SECONDS
        server.thaw()
        history.service.start()
        history.prove(watches)


@forgets_nothing
def test_writes_that_were_applied_and_not_answered_are_written_once_more_and_nothing_is_doubled(
    server: CqlNode, ledger: LedgerBuilder, tmp_path: Path
) -> None:
    with Cable(server.contact_point) as cable, FollowingHistory(tmp_path, empty_store(server, cable.address), ledger) as history:
        begin(history)
        with (
            history.watching("alice", "bob") as watches,
            ExactQuestions(history.address, ledger),
            PublishedLoad(history, LOAD_BATCHES, LOAD_SECONDS) as load,
        ):
            for share, silent_seconds in ((0.2, 0.5), (0.4, 3.5), (0.7, 0.0)):
                load.wait_for(share)
                cable.mute()
                if silent_seconds > 3:
                    eventually(lambda: newest_stored(server) > history.status().applied_sequence)
                time.sleep(silent_seconds)
                cable.reset()
                cable.mend()
            load.finish(60)
            history.wait_until_equal()
            assert history.service.logged("writes were not acknowledged")
            assert history.service.logged(FORGOTTEN_NOTHING)
            history.prove(watches)


@forgets_nothing
def test_a_server_that_is_killed_and_forgets_nothing_is_followed_again(server: CqlNode, history: FollowingHistory) -> None:
    with (
        history.watching("alice", "bob") as watches,
        ExactQuestions(history.address, history.ledger) as questions,
        PublishedLoad(history, LOAD_BATCHES, LOAD_SECONDS) as load,
    ):
        load.wait_for(0.4)
        assert kill_and_look(server, history) == 0
        load.finish(60)
        history.wait_until_equal()
        answered = questions.answered
        eventually(lambda: questions.answered > answered + 5, 10)
        history.prove(watches)


@forgets
def test_a_server_that_is_killed_under_load_gets_back_what_it_forgot(server: CqlNode, history: FollowingHistory) -> None:
    with (
        history.watching("alice", "bob") as watches,
        ExactQuestions(history.address, history.ledger) as questions,
        PublishedLoad(history, LOAD_BATCHES, LOAD_SECONDS) as load,
    ):
        load.wait_for(0.4)
        assert kill_and_look(server, history) > FORGOTTEN_MIN
        load.finish(60)
        history.wait_until_equal()
        answered = questions.answered
        eventually(lambda: questions.answered > answered + 5, 10)
        history.prove(watches)


@forgets
def test_a_server_that_is_killed_while_nothing_happens_gives_no_short_answer_when_it_is_back(
    server: CqlNode, history: FollowingHistory
) -> None:
    history.publish(600)
    history.wait_until_equal()
    with history.watching("alice", "bob") as watches, ExactQuestions(history.address, history.ledger) as questions:
        eventually(lambda: questions.answered > 20)
        assert kill_and_look(server, history) > FORGOTTEN_MIN
        refused = questions.refused
        eventually(lambda: history.service.logged("written again"), 30)
        answered = questions.answered
        eventually(lambda: questions.answered > answered + 20, 20)
        assert refused
        history.prove(watches)


@forgets
def test_a_history_that_is_killed_alone_is_read_again_at_once(server: CqlNode, history: FollowingHistory) -> None:
    with history.watching("alice", "bob") as watches, ExactQuestions(history.address, history.ledger) as questions:
        with PublishedLoad(history, LOAD_BATCHES, LOAD_SECONDS) as load:
            load.wait_for(0.4)
            history.service.kill()
            history.service.start()
            answered = questions.answered
            eventually(lambda: questions.answered > answered + 20, 20)
            load.finish(60)
        assert server.is_running
        assert not history.service.logged("writing again")
        history.prove(watches)


@forgets
def test_a_history_whose_server_is_restarted_while_it_is_down_writes_again_what_that_forgot(
    server: CqlNode, history: FollowingHistory
) -> None:
    history.publish(600)
    history.wait_until_equal()
    with history.watching("alice", "bob") as watches, ExactQuestions(history.address, history.ledger):
        history.service.kill()
        server.kill()
        server.start()
        assert rows_missing(history.settings, history.ledger.ledger_id, history.batches) > FORGOTTEN_MIN
        history.service.start()
        history.prove(watches)


@forgets
def test_a_history_and_its_server_killed_at_the_same_moment_lose_nothing(server: CqlNode, history: FollowingHistory) -> None:
    with history.watching("alice", "bob") as watches, PublishedLoad(history, LOAD_BATCHES, LOAD_SECONDS) as load:
        load.wait_for(0.4)
        server.process.kill()
        history.service.kill()
        server.kill()
        history.service.launch()
        assert history.service.wait_for_end() == 71, "without its store it does not start, and says so"
        assert history.service.logged("cannot be reached")
        server.start()
        history.service.start()
        load.finish(60)
        history.prove(watches)


def test_a_ring_that_loses_one_server_goes_on_and_gets_back_what_it_forgot(ledger: LedgerBuilder, tmp_path: Path) -> None:
    with CqlRing(tmp_path / "ring", settings=FORGETFUL) as ring:
        address = f"scylla://{ring.contact_points}/ring?replication_factor=3&{OPTIONS}"
        apply_schema(parse_cql_address(f"{address}&timeout_seconds=30"))
        with FollowingHistory(tmp_path, address, ledger) as history:
            begin(history)
            with history.watching("alice", "bob") as watches, ExactQuestions(history.address, ledger) as questions:
                with PublishedLoad(history, LOAD_BATCHES, LOAD_SECONDS) as load:
                    load.wait_for(0.3)
                    ring.nodes[1].kill()
                    answered = questions.answered
                    load.wait_for(0.5)
                    eventually(lambda: questions.answered > answered + 5, 10)
                    ring.nodes[1].start()
                ring.wait_until_whole()
                with PublishedLoad(history, LOAD_BATCHES // 2, LOAD_SECONDS / 2) as load:
                    load.wait_for(0.2)
                    ring.nodes[2].freeze()
                    load.wait_for(0.9)
                    ring.nodes[2].thaw()
                history.wait_until_equal()
                ring.wait_until_whole()
                history.prove(watches)
