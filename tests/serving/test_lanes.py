"""Lanes, which stand in for gRPC's thread pool."""

import threading
from collections.abc import Iterator

import pytest

from services.serving.lanes import Lane
from tests.support.eventually import eventually


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane("lane", threads_max=2)
    yield lane
    lane.shutdown()


def threads_of_lane() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("lane-")]


def test_a_lane_starts_threads_as_they_are_needed_and_no_more_than_it_may(lane: Lane) -> None:
    opened = threading.Event()
    lane.submit(opened.wait)
    assert len(threads_of_lane()) == 1
    lane.submit(opened.wait)
    lane.submit(opened.wait)
    assert (len(threads_of_lane()), lane.in_flight) == (2, 3)
    opened.set()
    eventually(lambda: lane.in_flight == 0)
    lane.submit(opened.wait)
    assert len(threads_of_lane()) == 2


def test_a_callback_is_called_once_whether_it_comes_before_the_end_or_after(lane: Lane) -> None:
    opened, called = threading.Event(), []
    lane.submit(opened.wait).add_done_callback(called.append)
    done = lane.submit(lambda: None)
    eventually(lambda: lane.in_flight == 1)
    done.add_done_callback(called.append)
    assert called == [done]
    opened.set()
    eventually(lambda: len(called) == 2)


def test_the_threads_end_once_the_lane_is_shut_down_and_empty() -> None:
    lane, done = Lane("lane-that-ends", threads_max=2), []
    for number in range(5):
        lane.submit(done.append, number)
    lane.shutdown()
    eventually(lambda: not [each for each in threads_of_lane() if each.name.startswith("lane-that-ends")])
    assert sorted(done) == [0, 1, 2, 3, 4]
