"""What an earlier version wrote to its ledger, this version reads as it was meant, and makes the same of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ordertape.v1 import ledger_pb2
from services.matching_engine.ledger import SegmentReader
from services.wire.position import encode_position
from tests.golden import ledgers
from tests.support.engine_client import EngineClient
from tests.support.engine_exchange import running_engine
from tests.support.exchange_proof import prove_audit
from tests.support.running_history import RunningHistory

CHANGED = (
    "this version makes something else of a ledger that is on disks already: whoever updates would find other balances or "
    "another history than before (docs/compatibility.md); a golden ledger and what is said of it never change"
)


class Golden(NamedTuple):
    """A golden ledger in a data folder, and what was true at its end."""

    data_dir: Path
    then: dict[str, Any]


@pytest.fixture(params=ledgers.names())
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Golden:
    return Golden(tmp_path / "engine", ledgers.unpack(request.param, tmp_path / "engine"))


def test_there_is_a_golden_ledger_of_every_release() -> None:
    released = Path(__file__).parents[2] / "protos" / "released"
    assert ledgers.names() == sorted(path.stem.removeprefix("ordertape-") for path in released.glob("*.binpb"))


def test_an_old_ledger_is_whole_and_its_requests_give_the_same_commands(golden: Golden) -> None:
    prove_audit(golden.data_dir)
    assert ledgers.ledger_of(golden.data_dir) == golden.then["ledger"], CHANGED


def test_an_old_ledger_folds_into_the_same_money_orders_and_books(golden: Golden) -> None:
    missing = list(_missing(golden.then["state"], ledgers.state_of(golden.data_dir), ""))
    assert not missing, f"{CHANGED}\n" + "\n".join(missing)


def test_an_old_ledger_fills_the_historys_tables_with_the_same_rows(golden: Golden) -> None:
    assert ledgers.history_of(golden.data_dir) == golden.then["history"], CHANGED


def test_an_engine_and_a_history_go_on_from_an_old_ledger(golden: Golden, tmp_path: Path) -> None:
    end = golden.then["ledger"]["sequence"]
    stored = list(SegmentReader.open(golden.data_dir / "ledger").read())
    with running_engine(golden.data_dir, instruments=[]) as engine, EngineClient(engine.address) as client:
        assert client.batches()[: len(stored)] == [batch.data for batch in stored]
        assert client.status(end).hash.hex() == golden.then["ledger"]["hash"]
        with RunningHistory(_Followed(engine.address, engine.feed_addresses["history"]), tmp_path / "history") as history:
            history.wait_until_applied(client.durable_sequence())
        for batch in (ledger_pb2.LedgerBatch.FromString(batch.data) for batch in stored):
            if batch.HasField("place_order") and batch.place_order.HasField("client_order_id"):
                again = client.place(batch.place_order)
                assert again.replayed, "a retry of an old order is a new one"
                last_sequence = batch.first_sequence + len(batch.commands) - 1
                assert again.position == encode_position(golden.then["ledger"]["ledgerId"], last_sequence)


class _Followed(NamedTuple):
    address: str
    feed: str


def _missing(then: Any, now: Any, path: str) -> Any:
    """Where what was said then is not said now; more may be."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name, value in then.items():
            yield from _missing(value, now.get(name), f"{path}.{name}")
    elif isinstance(then, Sequence) and not isinstance(then, str) and isinstance(now, Sequence) and len(then) == len(now):
        for index, (value, there) in enumerate(zip(then, now, strict=True)):
            yield from _missing(value, there, f"{path}[{index}]")
    elif then != now:
        yield f"{path.removeprefix('.')} was {then!r} and is {now!r}"
