"""Times and durations as they are typed."""

import time

import pytest

from services.cli.failures import USAGE, Failure
from services.cli.times import from_now, instant


@pytest.mark.parametrize(
    ("typed", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("7d", 604_800), ("1d2h3m4s", 93_784), ("0d1s", 1)]
)
def test_a_duration_is_counted_from_now(typed: str, seconds: int) -> None:
    before = time.time()
    end = from_now("--good-for", typed).ToMicroseconds() / 1e6
    assert before + seconds - 1e-3 <= end <= time.time() + seconds + 1e-3


@pytest.mark.parametrize("typed", ["", "0s", "1", "h", "30m1h", "-1h", "1.5h", "1 h", "\u0661h", "999999999d"])
def test_what_is_no_duration_is_wrong_usage(typed: str) -> None:
    with pytest.raises(Failure, match="--good-for takes a duration such as") as failed:
        from_now("--good-for", typed)
    assert failed.value.exit_code == USAGE


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("2026-05-02", "2026-05-02T00:00:00Z"),
        ("2026-05-02T02:36:20.5Z", "2026-05-02T02:36:20.500Z"),
        ("2026-05-02T02:36:20", "2026-05-02T02:36:20Z"),
        ("2026-05-02T02:36:20+02:00", "2026-05-02T00:36:20Z"),
        ("2026-05-02T02:36:20-02:00", "2026-05-02T04:36:20Z"),
    ],
)
def test_a_time_is_utc_unless_it_says_otherwise(typed: str, meant: str) -> None:
    moment = instant("--from", typed)
    assert moment is not None
    assert moment.ToJsonString() == meant
