"""The history service as a process: killed, stopped, started twice, started wrongly, printing what it receives."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict

from services.order_history.order_processor import OrderProcessor
from services.order_history.stores.sqlite import SqliteHistoryStore
from tests.support.fake_engine import FakeEngine
from tests.support.history_dump import dump
from tests.support.history_process import HistoryProcess
from tests.support.ledger_builder import LedgerBuilder

USERS = ("alice", "bob", "carol")


@pytest.fixture
def ledger() -> LedgerBuilder:
    ledger = LedgerBuilder()
    ledger.open_market(USERS, ("BTC-USD", "ETH-USD"))
    return ledger


@pytest.fixture
def engine(ledger: LedgerBuilder) -> Iterator[FakeEngine]:
    with FakeEngine(ledger.batches) as engine:
        yield engine


def fold(ledger: LedgerBuilder, folder: Path) -> list[str]:
    """What the tables must be after all of the ledger."""
    store = SqliteHistoryStore(folder)
    store.apply(OrderProcessor().project(ledger.ledger_id, ledger.batches))
    store.close()
    return dump(folder)


def test_killed_in_the_middle_of_ingest_and_started_again_it_ends_in_the_fold_of_the_ledger(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path
) -> None:
    ledger.live_on(2_000, USERS)
    engine.append(*ledger.batches[len(engine.batches) :])
    applied = []
    for part in (5, 3, 2):
        with HistoryProcess(engine, tmp_path / "history", CHUNK_COMMANDS_MAX="7") as history:
            history.wait_until_applied(ledger.sequence // part)
            history.kill()
        store = SqliteHistoryStore(tmp_path / "history")
        applied.append(store.checkpoint().sequence)
        store.close()
    assert applied == sorted(applied)
    assert applied[0] < ledger.sequence
    with HistoryProcess(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        assert history.terminate() == 0
    assert dump(tmp_path / "history") == fold(ledger, tmp_path / "fold")


def test_killed_while_it_follows_live_it_loses_and_doubles_nothing(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path
) -> None:
    with HistoryProcess(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        begin = len(ledger.batches)
        ledger.live_on(300, USERS)
        for batch in ledger.batches[begin:]:
            engine.publish(batch)
        history.kill()
    with HistoryProcess(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        assert history.terminate() == 0
    assert dump(tmp_path / "history") == fold(ledger, tmp_path / "fold")


def test_print_commands_prints_each_command_once_and_in_order(ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path) -> None:
    with HistoryProcess(engine, tmp_path / "history", "--print-commands") as history:
        history.wait_until_applied(ledger.sequence)
        begin = len(ledger.batches)
        ledger.live_on(60, USERS)
        for number, batch in enumerate(ledger.batches[begin:]):
            engine.append(batch)
            if number % 3:
                engine.push(batch)
            if number % 5 == 0:
                engine.push(*engine.batches[-4:])
        history.wait_until_applied(ledger.sequence)
        assert history.terminate() == 0
    commands = [command for batch in ledger.batches for command in batch.message.commands]
    assert [json.loads(line) for line in history.output] == [MessageToDict(command) for command in commands]


def test_the_reader_of_the_printed_commands_may_leave(ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with HistoryProcess(engine, tmp_path / "history", "--print-commands", output=writing) as history:
        os.close(writing)
        with os.fdopen(reading) as lines:
            assert json.loads(lines.readline())["sequence"] == "1"
        for _ in range(3):
            ledger.place("alice")
            engine.publish(ledger.batches[-1])
            history.wait_until_applied(ledger.sequence)
        assert history.terminate() == 0
        assert history.log.count("nobody reads the printed commands") == 1


def test_sigterm_ends_it_cleanly_and_the_next_start_has_nothing_to_replay(
    ledger: LedgerBuilder, engine: FakeEngine, tmp_path: Path
) -> None:
    with HistoryProcess(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        assert history.terminate() == 0
        assert "stopped" in history.log
    replays = list(engine.replays)
    with HistoryProcess(engine, tmp_path / "history") as history:
        history.wait_until_applied(ledger.sequence)
        assert engine.replays == replays


def test_a_second_process_on_the_same_folder_is_refused(engine: FakeEngine, tmp_path: Path) -> None:
    with HistoryProcess(engine, tmp_path / "history") as history:
        history.wait_until_ready()
        with HistoryProcess(engine, tmp_path / "history") as second:
            assert second.process.wait(20) == 71
            assert "does not start" in second.log


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--listen", "nowhere"), "listen"),
        (("--engine-feed", "127.0.0.1:1"), "engine_feed"),
        (("--config", "/does/not/exist.toml"), "/does/not/exist.toml"),
        (("--log-level", "LOUD"), "log_level"),
    ],
)
def test_a_setting_that_is_wrong_is_named(engine: FakeEngine, tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
    with HistoryProcess(engine, tmp_path / "history", *arguments) as history:
        assert history.process.wait(20) == 78
        assert named in history.log


def test_an_address_that_is_taken_is_named(engine: FakeEngine, tmp_path: Path) -> None:
    with HistoryProcess(engine, tmp_path / "history", "--listen", engine.address) as history:
        assert history.process.wait(20) == 71
        assert engine.address in history.log
