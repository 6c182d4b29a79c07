"""How far a long command is, on stderr: a bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_SECONDS: Final = 5.0


class ShownProgress:
    """Shows ``done of total`` of what ``begin`` named. For one thread at a time. ``clock``: monotonic seconds."""

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = quiet
        self._clock = clock
        self._bar: Progress | None = None if quiet or not sys.stderr.isatty() else _bar()
        self._task: TaskID | None = None
        self._what = self._unit = ""
        self._began_at = self._told_at = clock()
        self._began_with: int | None = None

    def begin(self, what: str, unit: str) -> None:
        """From now on it is about this: "reading the ledger", "commands"."""
        self._what, self._unit = what, unit
        self._began_at = self._told_at = self._clock()
        self._began_with = None
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(what, total=None, unit=unit, rate="")

    def move(self, done: int, total: int) -> None:
        """So many of so many are done; both may grow."""
        if self._began_with is None:
            self._began_with = done
        now = self._clock()
        rate = (done - self._began_with) / max(now - self._began_at, 1e-6)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, rate=f"{rate:,.0f}/s")
        elif not self._quiet and now - self._told_at >= _LINE_SECONDS:
            self._told_at = now
            remaining = f", {(total - done) / rate:.0f} s remaining" if rate > 0 else ""
            print(f"{self._what}: {done} of {total} {self._unit}, {rate:.0f}/s{remaining}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Say something that is out of the ordinary, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def tell(self, text: str) -> None:
        """Print what the command was run for, on stdout."""
        if self._bar is not None:
            self._bar.stop()
        print(text, flush=True)
        if self._bar is not None:
            self._bar.start()

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]} {task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
