"""An export whose streams break: resumed after its last position, up to the end that it had, each update once."""

import csv
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import order_history_pb2 as history_pb2
from ordertape.v1 import order_history_pb2_grpc as history_grpc
from ordertape.v1 import order_pb2
from services.cli.client import History
from services.cli.failures import Failure
from services.cli.following import exported
from services.serving.failures import call_status
from services.wire.errors import CallError
from services.wire.position import encode_position
from tests.cli.conftest import Run
from tests.support.served import served

AWAY = CallError(grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DRAINING, "draining")
HALTED = CallError(grpc.StatusCode.DATA_LOSS, reasons.ERROR_REASON_HALTED, "halted")


def position(sequence: int) -> str:
    return encode_position("0123456789abcdef", sequence)


class FakeHistory(history_grpc.OrderHistoryServicer):
    """Plays one script after the other, one for each stream; a CallError in it ends the stream."""

    def __init__(self, *scripts: list[history_pb2.ExportOrderHistoryResponse | CallError]) -> None:
        self.scripts = list(scripts)
        self.asked: list[tuple[str, str]] = []

    def ExportOrderHistory(  # noqa: N802
        self, request: history_pb2.ExportOrderHistoryRequest, context: grpc.ServicerContext
    ) -> Iterator[history_pb2.ExportOrderHistoryResponse]:
        self.asked.append((request.after, request.until))
        for step in self.scripts.pop(0):
            if isinstance(step, CallError):
                context.abort_with_status(call_status(step))
            else:
                yield step


def part(*numbers: int, end: int | None = None, until: int = 50) -> history_pb2.ExportOrderHistoryResponse:
    updates = [order_pb2.OrderUpdate(order_id=number, user_update_number=number) for number in numbers]
    return history_pb2.ExportOrderHistoryResponse(
        updates=updates, position=position(end) if end is not None else "", until=position(until), last_user_update_number=9
    )


def exported_from(fake: FakeHistory, patience_seconds: float = 10.0) -> list[int]:
    found: list[int] = []
    with served((history_grpc.add_OrderHistoryServicer_to_server, fake)) as address, History(address, 5) as history:
        request = history_pb2.ExportOrderHistoryRequest(user_id="alice")
        for piece in exported(history, request, patience_seconds):
            found += [update.user_update_number for update in piece.updates]
    return found


def test_an_export_that_breaks_is_resumed_after_its_last_position_and_ends_where_it_would_have() -> None:
    fake = FakeHistory(
        [part(1, 2, end=20), part(3), AWAY],
        [part(3, until=50), part(4, end=40), AWAY],
        [AWAY],
        [part(5, end=50)],
    )
    assert exported_from(fake) == [1, 2, 3, 4, 5]
    assert fake.asked == [("", ""), *[(position(at), position(50)) for at in (20, 40, 40)]]


def test_a_stream_that_breaks_after_its_last_message_is_whole() -> None:
    assert exported_from(FakeHistory([part(1, end=50), AWAY])) == [1]


def test_a_stream_that_ends_before_the_exports_end_is_resumed() -> None:
    assert exported_from(FakeHistory([part(1, end=20)], [part(2, end=50)])) == [1, 2]


def test_a_halted_history_and_one_that_stays_away_are_errors() -> None:
    with pytest.raises(Failure, match="DATA_LOSS HALTED"):
        exported_from(FakeHistory([part(1, end=20), HALTED]))
    with pytest.raises(Failure, match="UNAVAILABLE DRAINING"):
        exported_from(FakeHistory([part(1, end=20), AWAY], *([AWAY] for _ in range(100))), patience_seconds=0.3)


def test_a_history_that_stays_away_ends_the_export_with_the_position(ordertape: Run, tmp_path: Path) -> None:
    fake = FakeHistory([part(1, 2, end=20), part(3), AWAY], *([AWAY] for _ in range(1000)))
    file = tmp_path / "orders.csv"
    with served((history_grpc.add_OrderHistoryServicer_to_server, fake)) as address:
        result = ordertape("export", "--user", "alice", "--history", address, "--out", str(file), "--patience", "0.2")
    assert result.exit_code == 78
    assert "2 updates are written in" in result.stderr
    assert f"--after {position(20)} and another --out" in result.stderr
    rows = csv.DictReader((tmp_path / "orders.csv.part").read_text().splitlines())
    assert [row["userUpdateNumber"] for row in rows] == ["1", "2"]
