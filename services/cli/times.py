"""Times as the user types them."""

import re
import time
from typing import TYPE_CHECKING

from services.cli.failures import USAGE, Failure

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

TIME_HELP = "RFC 3339, for example 2026-05-02T02:36:20.5Z; a date alone is its midnight, UTC unless it says otherwise."
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile("".join(f"(?:(?P<{unit}>[0-9]{{1,9}}){unit})?" for unit in _SECONDS), re.ASCII)


def instant(option: str, text: str | None) -> "Timestamp | None":
    """The time that the user typed. Raises Failure where it is none."""
    from google.protobuf.timestamp_pb2 import Timestamp

    if text is None:
        return None
    whole = text if "T" in text else f"{text}T00:00:00"
    zoned = whole if whole.endswith("Z") or "+" in whole or "-" in whole.partition("T")[2] else f"{whole}Z"
    moment = Timestamp()
    try:
        moment.FromJsonString(zoned)
    except ValueError as error:
        raise Failure(USAGE, f"{option} takes a time, {TIME_HELP} It got {text!r}: {error}") from None
    return moment


def from_now(option: str, text: str) -> "Timestamp":
    """The time that is so far from now by this machine's clock: 90s, 30m, 1h30m, 7d. Raises Failure where it is no duration."""
    from google.protobuf.timestamp_pb2 import Timestamp

    found = _DURATION.fullmatch(text)
    seconds = sum(int(found[unit] or 0) * each for unit, each in _SECONDS.items()) if found else 0
    moment = Timestamp()
    try:
        if not seconds:
            raise ValueError("must be days, hours, minutes and seconds, more than 0 s in all")
        moment.FromMicroseconds(time.time_ns() // 1000 + seconds * 1_000_000)
    except ValueError as error:
        raise Failure(USAGE, f"{option} takes a duration such as 90s, 30m, 1h30m or 7d. It got {text!r}: {error}") from None
    return moment
