"""An engine's clock that a test can put forward, so that nothing has to be waited for."""

from collections.abc import Callable

from google.protobuf.timestamp_pb2 import Timestamp

from services.matching_engine.bootstrap import Engine
from services.matching_engine.clock import EngineClock


class MovableClock(EngineClock):
    """Engine time, ahead by ``ahead_seconds``, and by an hour more from when ``leaps_when`` is true for the first time."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.ahead_seconds = 0.0
        self.leaps_when: Callable[[], bool] = lambda: False
        engine.sequencer._clock = self

    def now(self) -> int:
        """See EngineClock."""
        if self.leaps_when():
            self.ahead_seconds += 3600
            self.leaps_when = lambda: False
        return super().now() + int(self.ahead_seconds * 1e6)

    def time_in(self, seconds: float) -> Timestamp:
        """Engine time in so many seconds."""
        microseconds = self.now() + int(seconds * 1e6)
        return Timestamp(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1000)
