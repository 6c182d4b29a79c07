"""Where the time of a CQL store's ingest goes: part (k)'s store once more, under a profiler.

The profiler makes each call of Python's dearer and cannot see into compiled code, so its shares are for finding what to look at,
never figures.
"""

import cProfile
import io
import pstats
import threading
from collections.abc import Callable
from pathlib import Path

from cassandra.cluster import Session

from tests.bench.cql_bench import CqlBench
from tests.bench.cql_ingest import store_all
from tests.bench.filled import filled_engine
from tests.bench.followers import followed_ledger
from tests.bench.sizes import Sizes
from tests.support.cql_session import cql_session

_LINES = 25
_ANSWER_SECONDS = 0.2


def profile_cql_ingest(sizes: Sizes, folder: Path, cql: CqlBench) -> str:
    """Where the time goes, as text: in the thread that stores, and in the one that has all of the driver's connections."""
    with filled_engine(folder, sizes.cql_orders) as engine:
        chunks = followed_ledger(engine).chunks
    store_all(cql, chunks)
    storing, receiving = cProfile.Profile(), cProfile.Profile()
    with cql_session(cql.contact_point) as session:
        _in_driver_thread(session, receiving.enable)
        storing.runcall(store_all, cql, chunks)
        _in_driver_thread(session, receiving.disable)
    return f"The thread that stores:\n{_table(storing)}\nThe driver's thread:\n{_table(receiving)}"


def _in_driver_thread(session: Session, action: Callable[[], None]) -> None:
    """Run ``action`` in the driver's thread, where callbacks are called unless the answer was there before them."""
    done, here = threading.Event(), threading.get_ident()

    def act(_rows: object) -> None:
        if threading.get_ident() != here and not done.is_set():
            action()
            done.set()

    while not done.wait(_ANSWER_SECONDS):
        session.execute_async("SELECT release_version FROM system.local").add_callback(act)


def _table(profile: cProfile.Profile) -> str:
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats(pstats.SortKey.TIME).print_stats(_LINES)
    return text.getvalue()
