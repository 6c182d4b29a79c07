"""When a CQL store may not have all that it acknowledged: by what its connections tell, and a clock that only the test moves."""

import pytest

from services.order_history.stores.cql_connections import Server
from services.order_history.stores.cql_losses import Losses

A1, A2 = Server("a:9042", "a", 1), Server("a:9042", "a", 2)
B1 = Server("b:9042", "b", 1)
MUTE = Server("m:9042", "m", None)
"""One that does not say since when it runs."""


class Clock:
    """Monotonic seconds."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def losses(clock: Clock) -> Losses:
    """Of a whole store on two servers, each with two connections."""
    losses = Losses(clock)
    for server in (A1, A1, B1, B1):
        losses.connected(server)
    losses.begin({"a", "b"}, {}, is_whole=True)
    assert losses.are_settled
    return losses


def lose(losses: Losses, server: Server) -> None:
    """Both connections."""
    losses.disconnected(server)
    losses.disconnected(server)


def test_a_connection_that_ends_beside_another_is_no_loss(losses: Losses) -> None:
    losses.disconnected(A1)
    assert losses.are_settled
    losses.disconnected(A1)
    assert (losses.are_settled, losses.newest_open) == (False, 1)


def test_connections_to_two_addresses_of_a_process_are_to_one_server(losses: Losses) -> None:
    """ScyllaDB has a port by which a connection chooses its shard, beside the usual one."""
    losses.connected(A1._replace(address="a:19042"))
    lose(losses, A1)
    assert losses.are_settled
    losses.disconnected(A1._replace(address="a:19042"))
    assert not losses.are_settled


def test_a_server_that_is_back_as_it_was_has_lost_nothing(losses: Losses) -> None:
    lose(losses, A1)
    losses.connected(A1)
    assert losses.are_settled
    assert losses.count == 1, "whoever read meanwhile reads again"


def test_a_server_that_was_restarted_is_a_loss_until_what_it_may_have_forgotten_is_written_again(losses: Losses) -> None:
    lose(losses, A1)
    losses.connected(A2)
    losses.connected(A2)
    assert losses.newest_open == 2
    losses.settle(1)
    assert not losses.are_settled, "what was written again before it was back may be forgotten too"
    losses.settle(2)
    assert losses.are_settled


def test_a_restarted_server_that_is_lost_once_more_and_back_has_still_forgotten(losses: Losses) -> None:
    lose(losses, A1)
    losses.connected(A2)
    losses.disconnected(A2)
    losses.connected(A2)
    assert not losses.are_settled


def test_a_restart_is_seen_though_the_old_connections_have_not_ended_yet(losses: Losses) -> None:
    losses.connected(A2)
    assert losses.newest_open == 1
    lose(losses, A1)
    assert losses.newest_open == 1, "the server that runs now was not lost"
    losses.settle(1)
    assert losses.whole_servers() == {"a": 2, "b": 1}
    losses.disconnected(A2)
    assert not losses.are_settled


def test_each_lost_server_has_to_be_back(losses: Losses) -> None:
    lose(losses, A1)
    lose(losses, B1)
    losses.connected(B1)
    assert losses.newest_open == 1
    losses.connected(A1)
    assert losses.are_settled


def test_a_server_whose_loss_was_settled_while_it_was_away_is_a_loss_again_only_if_it_was_restarted(losses: Losses) -> None:
    for back, is_settled in ((A1, True), (A2, False)):
        lose(losses, A1) if losses.whole_servers().get("a") == 1 else None
        losses.settle(losses.newest_open)
        losses.connected(back)
        assert losses.are_settled is is_settled
        if is_settled:
            losses.connected(back)


def test_a_server_that_was_never_seen_before_may_have_forgotten_what_others_had_it_acknowledge(losses: Losses) -> None:
    losses.connected(Server("c:9042", "c", 7))
    assert not losses.are_settled


def test_a_server_that_does_not_say_since_when_it_runs_is_lost_with_its_last_connection(clock: Clock) -> None:
    losses = Losses(clock)
    losses.connected(MUTE)
    losses.begin({"m"}, {}, is_whole=True)
    assert losses.whole_servers() == {}
    losses.connected(MUTE)
    assert losses.are_settled
    lose(losses, MUTE)
    losses.connected(MUTE)
    losses.connected(MUTE)
    assert not losses.are_settled
    losses.settle(losses.newest_open)
    assert losses.are_settled


@pytest.mark.parametrize(
    ("members", "known", "is_whole"),
    [
        (set(), {}, False),
        ({"a", "b"}, {"a": 1, "b": 1}, True),
        ({"a", "b"}, {"a": 1, "b": 1, "gone": 5}, True),
        ({"a", "b"}, {"a": 1}, False),
        ({"a", "b"}, {"a": 1, "b": 0}, False),
        ({"a", "b", "away"}, {"a": 1, "b": 1, "away": 1}, False),
        ({"a", "b"}, {}, False),
    ],
)
def test_a_start_finds_the_store_whole_if_all_servers_run_since_before(
    clock: Clock, members: set[str], known: dict[str, int], is_whole: bool
) -> None:
    losses = Losses(clock)
    losses.connected(A1)
    losses.connected(B1)
    losses.begin(members, known, is_whole=False)
    assert losses.are_settled is is_whole
    assert losses.whole_servers() == ({"a": 1, "b": 1} if is_whole else {})


def test_what_was_not_known_at_a_start_is_not_settled_by_a_server_that_comes_back(clock: Clock) -> None:
    losses = Losses(clock)
    losses.connected(A1)
    losses.begin({"a"}, {}, is_whole=False)
    losses.disconnected(A1)
    losses.connected(A1)
    assert losses.newest_open == 1
    losses.settle(1)
    assert losses.are_settled


def test_the_time_that_makes_rows_safe_begins_when_all_servers_are_there(losses: Losses, clock: Clock) -> None:
    assert losses.quiet_since == 100.0
    clock.now = 150.0
    lose(losses, A1)
    assert losses.quiet_since == float("inf")
    clock.now = 200.0
    losses.connected(A1)
    assert losses.quiet_since == 200.0, "a server that hung has synced nothing meanwhile"
    lose(losses, B1)
    clock.now = 250.0
    losses.settle(losses.newest_open)
    assert losses.quiet_since == 250.0
