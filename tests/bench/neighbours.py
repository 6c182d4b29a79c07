"""What else the machine did meanwhile: figures from a busy machine are worth little, and whoever reads them has to know."""

import os
import time
from pathlib import Path
from typing import Final

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PROCESSORS: Final = os.cpu_count() or 1


class Neighbours:
    """From its making on; our own share is this process and its children, those that have ended and those that run."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.perf_counter(), _busy_seconds(), _own_seconds()

    def share(self) -> float:
        """The part of all processor time that others used, 0 to 1."""
        available = (time.perf_counter() - self._began) * _PROCESSORS
        return max(0.0, (_busy_seconds() - self._busy - (_own_seconds() - self._own)) / available)


def _busy_seconds() -> float:
    """Processor time of the whole machine that was not idle; proc_stat(5)."""
    user, nice, system, _idle, _iowait, *interrupts = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + sum(interrupts)) / _TICKS_PER_SECOND


def _own_seconds() -> float:
    return sum(os.times()[:4]) + sum(map(_child_seconds, Path("/proc").glob("[0-9]*/stat")))


def _child_seconds(stat: Path) -> float:
    """Processor time of the process where it is a child of ours; proc_pid_stat(5): 4 is the parent, from 14 on the times."""
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0  # it has ended meanwhile
    return sum(map(int, fields[11:15])) / _TICKS_PER_SECOND if int(fields[1]) == os.getpid() else 0.0
