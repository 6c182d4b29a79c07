"""What the benchmark says: figures, made of paired rounds, as a table and as JSON."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median, quantiles
from typing import TypeVar

from rich.table import Table

Prepared = TypeVar("Prepared")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured line. ``value`` is in ``unit``; latencies are of one call; ``cpu_microseconds`` is the processor time that
    the measured process used for one item. ``ratio`` is this value to that of ``baseline`` in the same run, ``cpu_ratio`` the
    baseline's processor time to this one's: both are 1 where nothing was added to the baseline.
    """

    part: str
    what: str
    value: float
    unit: str
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_microseconds: float | None = None
    baseline: str | None = None
    ratio: float | None = None
    cpu_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did: so many items in so many seconds, with so much processor time of the measured process."""

    items: int
    seconds: float
    cpu_seconds: float
    latencies: Sequence[float] = ()

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.seconds

    @property
    def cost(self) -> float:
        """Processor time per item, in seconds."""
        return self.cpu_seconds / self.items


class Timer:
    """Seconds, and seconds of this process's processor time, since it was made."""

    def __init__(self) -> None:
        self._began, self._used = time.perf_counter(), time.process_time()

    def round(self, items: int) -> Round:
        """What was done meanwhile."""
        return Round(items, time.perf_counter() - self._began, time.process_time() - self._used)


def in_turns(
    rounds: int, prepare: Callable[[], Prepared], sides: Sequence[Callable[[Prepared], Round]]
) -> list[tuple[Round, ...]]:
    """Run the sides in turns on the same input, so that whatever else the machine does falls on all of them. One more turn
    comes before the others, to warm up. Gives the rounds of each side.
    """
    turns = []
    for _ in range(rounds + 1):
        given = prepare()
        turns.append([side(given) for side in sides])
    return list(zip(*turns[1:], strict=True))


def figure_of(part: str, what: str, unit: str, rounds: Sequence[Round]) -> Figure:
    """The figure of all rounds: medians, and the latencies of all their calls together."""
    latencies = [latency for each in rounds for latency in each.latencies]
    hundredths = quantiles(latencies, n=100) if len(latencies) > 1 else None
    return Figure(
        part,
        what,
        median(each.rate for each in rounds),
        unit,
        p50_ms=hundredths[49] * 1e3 if hundredths else None,
        p99_ms=hundredths[98] * 1e3 if hundredths else None,
        cpu_microseconds=median(each.cost for each in rounds) * 1e6,
    )


def compared(figure: Figure, rounds: Sequence[Round], baseline: Figure, baseline_rounds: Sequence[Round]) -> Figure:
    """The figure with its ratios to a baseline: each the median of what the turns say."""
    pairs = list(zip(baseline_rounds, rounds, strict=True))
    return replace(
        figure,
        baseline=baseline.what,
        ratio=median(ours.rate / bare.rate for bare, ours in pairs),
        cpu_ratio=median(bare.cost / ours.cost for bare, ours in pairs),
    )


def table_of(figures: Iterable[Figure]) -> Table:
    """The figures, one a line."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("what")
    for name in ("value", "p50 ms", "p99 ms", "cpu us", "ratio", "cpu ratio"):
        table.add_column(name, justify="right")
    for figure in figures:
        table.add_row(
            figure.part,
            figure.what,
            f"{_plain(figure.value)} {figure.unit}",
            _shown(figure.p50_ms, ".2f"),
            _shown(figure.p99_ms, ".2f"),
            _shown(figure.cpu_microseconds, ".1f"),
            _shown(figure.ratio, ".2f"),
            _shown(figure.cpu_ratio, ".2f"),
        )
    return table


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
