"""`ordertape watch` against a history that breaks its streams: each update once, and the position to go on from."""

import json
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_history_pb2_grpc as history_grpc
from ordertape.v1 import order_pb2
from services.cli.client import History
from services.cli.failures import Failure
from services.cli.following import Followed, follow
from services.serving.failures import call_status
from services.wire.errors import CallError
from services.wire.position import encode_position
from tests.support.served import served

STOPPING = CallError(grpc.StatusCode.CANCELLED, reasons.ERROR_REASON_UNSPECIFIED, "gRPC itself, as the server stops")
AWAY = CallError(grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DRAINING, "draining")
TOO_SLOW = CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_READER_TOO_SLOW, "too slow")
TOO_OLD = CallError(grpc.StatusCode.OUT_OF_RANGE, reasons.ERROR_REASON_POSITION_OUT_OF_RANGE, "another ledger")


def position(sequence: int) -> str:
    return encode_position("0123456789abcdef", sequence)


def order(number: int) -> order_pb2.OrderUpdate:
    return order_pb2.OrderUpdate(order_id=number, user_update_number=number)


def snapshot(*numbers: int, end: int | None = None) -> history_pb2.WatchOrdersResponse:
    orders = history_pb2.WatchSnapshot(orders=map(order, numbers), last_page=end is not None)
    return history_pb2.WatchOrdersResponse(snapshot=orders, position=position(end) if end is not None else "")


def updates(*numbers: int, end: int | None = None) -> history_pb2.WatchOrdersResponse:
    found = history_pb2.WatchUpdates(updates=map(order, numbers))
    return history_pb2.WatchOrdersResponse(updates=found, position=position(end) if end is not None else "")


class FakeHistory(history_grpc.OrderHistoryServicer):
    """Plays one script after the other, one for each stream; a CallError in it ends the stream."""

    def __init__(self, *scripts: list[history_pb2.WatchOrdersResponse | CallError]) -> None:
        self.scripts = list(scripts)
        self.resumed_after: list[str | None] = []

    def WatchOrders(  # noqa: N802
        self, request: history_pb2.WatchOrdersRequest, context: grpc.ServicerContext
    ) -> Iterator[history_pb2.WatchOrdersResponse]:
        self.resumed_after.append(request.after if request.HasField("after") else None)
        for step in self.scripts.pop(0):
            if isinstance(step, CallError):
                context.abort_with_status(call_status(step))
            else:
                yield step


def heard(fake: FakeHistory, count: int, **request: str) -> list[Followed]:
    """The first ``count`` pieces of news."""
    found: list[Followed] = []
    with served((history_grpc.add_OrderHistoryServicer_to_server, fake)) as address, History(address, 5) as history:
        for news in follow(history, history_pb2.WatchOrdersRequest(user_id="alice", **request)):
            found.append(news)
            if len(found) == count:
                break
    return found


def numbers_of(found: list[Followed]) -> list[int]:
    return [update.user_update_number for news in found for update in news.orders]


def test_a_stream_that_breaks_is_resumed_after_its_last_position() -> None:
    ends = [[updates(1, 2, end=20), AWAY], [updates(3, end=30), TOO_SLOW], [updates(4, end=40), STOPPING], [updates(5, end=50)]]
    fake = FakeHistory(*ends)
    assert numbers_of(heard(fake, 4, after=position(10))) == [1, 2, 3, 4, 5]
    assert fake.resumed_after == [position(10), position(20), position(30), position(40)]


def test_a_batch_that_was_cut_in_the_middle_is_not_heard_twice() -> None:
    fake = FakeHistory([updates(1, end=10), updates(2, 3), AWAY], [updates(2, 3), updates(4, end=20)])
    found = heard(fake, 2, after=position(5))
    assert [numbers_of([news]) for news in found] == [[1], [2, 3, 4]], "a batch is handed on whole"
    assert [news.position for news in found] == [position(10), position(20)]
    assert fake.resumed_after == [position(5), position(10)]


def test_a_snapshot_that_breaks_off_is_begun_again_and_told_once() -> None:
    fake = FakeHistory([snapshot(3, 5), AWAY], [snapshot(3, 5), snapshot(7, end=70), updates(8, end=80)])
    found = heard(fake, 2)
    assert numbers_of(found) == [3, 5, 7, 8]
    assert found[0].snapshot
    assert fake.resumed_after == [None, None]


def test_an_error_that_a_resume_does_not_mend_is_raised() -> None:
    fake = FakeHistory([updates(1, end=10), AWAY], [TOO_OLD])
    with pytest.raises(Failure, match="OUT_OF_RANGE POSITION_OUT_OF_RANGE: another ledger") as failed:
        heard(fake, 2, after=position(5))
    assert failed.value.exit_code == 75


def test_a_stream_that_ends_before_its_first_word_is_tried_again_like_any_call() -> None:
    fake = FakeHistory([AWAY], [AWAY], [updates(1, end=10)])
    assert numbers_of(heard(fake, 1, after=position(5))) == [1]
    assert fake.resumed_after == [position(5)] * 3


def test_a_history_that_is_not_there_at_the_beginning_is_an_error() -> None:
    with served() as address:
        pass
    with History(address, 5, retry_seconds=0.1) as history, pytest.raises(Failure, match="UNAVAILABLE"):
        next(follow(history, history_pb2.WatchOrdersRequest(user_id="alice")))


def test_the_command_prints_json_lines_and_the_last_position_when_it_is_interrupted() -> None:
    fake = FakeHistory([snapshot(1, 2, end=20), updates(3, end=30), AWAY], *([AWAY] for _ in range(1000)))
    with served((history_grpc.add_OrderHistoryServicer_to_server, fake)) as address:
        command = (sys.executable, "-m", "services.cli", "watch", "--user", "alice", "-o", "jsonl", "--history", address)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [json.loads(process.stdout.readline()) for _ in range(3)]
            process.terminate()
            _, stderr = process.communicate(timeout=20)
    assert process.returncode == 0, stderr
    assert [line["userUpdateNumber"] for line in lines] == ["1", "2", "3"]
    assert [line.get("snapshot") for line in lines] == [True, True, None]
    assert [line.get("position") for line in lines] == [None, position(20), position(30)]
    assert f"ordertape watch --after {position(30)}" in stderr
