"""(m): several history processes that share the users of one engine between them, on one CQL store; and what a process pays for
the updates that are not its own, since each reads the whole ledger.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from services.order_history.order_processor import OrderProcessor
from services.order_history.user_share import ALL_USERS, SHARDS, UserShare, shard_of
from tests.bench.cql_bench import CqlBench
from tests.bench.figures import Figure, Round, Timer, compared, figure_of, in_turns
from tests.bench.filled import filled_engine
from tests.bench.followers import Followed, follow, followed_ledger
from tests.bench.orders import USERS
from tests.bench.sizes import Sizes

_KEYSPACE = "bench_shares"
_NOBODY = next(shard for shard in range(SHARDS) if shard not in set(map(shard_of, USERS)))
"""A shard that none of the users is in."""


def shares(sizes: Sizes, folder: Path, cql: CqlBench) -> list[Figure]:
    """Several histories that share the users between them."""
    cql.run_with("periodic")
    with filled_engine(folder, sizes.share_orders) as engine:
        followed = followed_ledger(engine)
    return [*_together(sizes, folder, cql, followed), *_foreign(sizes, followed)]


def _together(sizes: Sizes, folder: Path, cql: CqlBench, followed: Followed) -> Iterator[Figure]:
    numbers = count(1)
    sides = [partial(follow, cql, _KEYSPACE, followed, processes) for processes in sizes.share_processes]
    one, *more = in_turns(sizes.share_rounds, lambda: folder / f"shares-{next(numbers)}", sides)
    baseline = figure_of("m", "one history process with all users (cpu: all processes')", "updates/s", one)
    yield baseline
    for processes, rounds in zip(sizes.share_processes[1:], more, strict=True):
        what = f"{processes} history processes that share the users"
        yield compared(figure_of("m", what, "updates/s", rounds), rounds, baseline, one)


def _foreign(sizes: Sizes, followed: Followed) -> list[Figure]:
    """In this process and without a store: from the frames of a replay to the chunks."""
    sides = [partial(_project, followed, share) for share in (ALL_USERS, UserShare(_NOBODY, _NOBODY))]
    own, foreign = in_turns(sizes.share_rounds, lambda: None, sides)
    baseline = _costs("an update of the process's own, received and projected", own)
    ratio = median(others.cost / mine.cost for mine, others in zip(own, foreign, strict=True))
    return [baseline, replace(_costs("an update that is another process's", foreign), baseline=baseline.what, ratio=ratio)]


def _project(followed: Followed, share: UserShare, _: None) -> Round:
    timer = Timer()
    for _chunk in followed.ledger.chunks(OrderProcessor(share)):
        pass
    return timer.round(followed.updates)


def _costs(what: str, rounds: Sequence[Round]) -> Figure:
    figure = figure_of("m", what, "us", rounds)
    return replace(figure, value=median(each.cost for each in rounds) * 1e6)
