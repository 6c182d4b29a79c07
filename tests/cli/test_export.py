"""`ordertape export`: every update once, in three formats, over restarts of the history; what it leaves where it breaks off."""

import csv
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from google.protobuf import json_format

from ordertape.v1 import order_pb2
from services.cli.formats import columns
from services.cli.output import document_of, flat
from services.wire.position import encode_position
from tests.cli.conftest import Run
from tests.support.eventually import eventually
from tests.support.exchange_process import free_ports
from tests.support.fake_engine import FakeEngine
from tests.support.history_process import HistoryProcess
from tests.support.ledger_builder import LedgerBuilder
from tests.support.running_history import RunningHistory

USERS = ("alice", "bob")
SYMBOLS = ("BTC-USD", "ETH-USD")
# More than what the connection, the command and a pipe hold of it (about 12 MB) where nobody reads.
LONG = 60_000
FORMATS = ("jsonl", "csv", "parquet")


@pytest.fixture(scope="module")
def ledger() -> LedgerBuilder:
    """Orders of every kind of end; not to be changed."""
    ledger = LedgerBuilder()
    ledger.open_market(USERS, SYMBOLS)
    ledger.live_on(600, USERS, SYMBOLS)
    return ledger


@pytest.fixture(scope="module")
def address(ledger: LedgerBuilder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("export")
    with FakeEngine(ledger.batches) as engine, RunningHistory(engine, folder / "history") as history:
        history.wait_until_applied(ledger.sequence)
        eventually(history.is_serving)  # what it logs would go where the command prints
        yield history.history.server.address


@pytest.fixture(scope="module")
def long_ledger() -> LedgerBuilder:
    """So many updates of alice that neither the connection nor a pipe holds them."""
    ledger = LedgerBuilder()
    ledger.open_market(USERS, SYMBOLS)
    for _ in range(LONG // 2):
        ledger.cancel(ledger.place("alice"))
    return ledger


def updates_of(ledger: LedgerBuilder, user_id: str) -> list[order_pb2.OrderUpdate]:
    return [update for update in ledger.updates if update.user_id == user_id]


def command_of(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "services.cli", "export", *arguments]


def read_back(file: Path, file_format: str) -> list[dict[str, Any]]:
    """The rows of a file, as text under the columns' names."""
    if file_format == "jsonl":
        return [flat(json.loads(line)) for line in file.read_text().splitlines()]
    if file_format == "csv":
        with file.open(newline="") as text:
            return list(csv.DictReader(text))
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(file).to_pylist()
    return rows


def numbers_in(file: Path, file_format: str) -> list[int]:
    return [int(row["userUpdateNumber"]) for row in read_back(file, file_format)]


def test_json_lines_are_the_updates_as_the_rest_of_the_command_says_them(
    ordertape: Run, ledger: LedgerBuilder, address: str
) -> None:
    result = ordertape("export", "--user", "alice", "--history", address)
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines == [document_of(update) for update in updates_of(ledger, "alice")]
    assert [json_format.ParseDict(line, order_pb2.OrderUpdate()) for line in lines] == updates_of(ledger, "alice")
    end = encode_position(ledger.ledger_id, ledger.sequence)
    assert result.stderr == f"{len(lines)} updates, position {end}  (what comes later: ordertape export --after {end})\n"


def test_csv_has_one_header_and_every_value_as_json_has_it(
    ordertape: Run, ledger: LedgerBuilder, address: str, tmp_path: Path
) -> None:
    file = tmp_path / "orders.csv"
    assert ordertape("export", "--user", "alice", "--history", address, "--out", str(file)).exit_code == 0
    rows = read_back(file, "csv")
    assert list(rows[0]) == [column.name for column in columns()]
    for row, update in zip(rows, updates_of(ledger, "alice"), strict=True):
        said = {name: {True: "true", False: "false"}.get(value, value) for name, value in flat(document_of(update)).items()}
        assert {name: text for name, text in row.items() if text} == {name: text for name, text in said.items() if text != ""}


def test_the_columns_are_every_value_of_an_update_under_its_dotted_name() -> None:
    update = order_pb2.OrderUpdate()
    update.fill.SetInParent()
    update.prevented_match.SetInParent()
    for name in ("timestamp", "created_at", "triggered_at", "expire_time"):
        getattr(update, name).seconds = 1
    for field in update.DESCRIPTOR.fields:
        if field.has_presence and field.message_type is None:
            setattr(update, field.name, getattr(update, field.name))
    names = [column.name for column in columns()]
    assert set(flat(document_of(update))) == set(names)
    assert len(names) == len(set(names))
    assert names[:3] == ["orderId", "clientOrderId", "userId"]
    assert [name for name in names if name.startswith("fill.")] == [
        "fill.tradeId", "fill.price", "fill.qty", "fill.quote", "fill.liquidity", "fill.fee", "fill.feeAsset",
    ]  # fmt: skip


def test_parquet_has_typed_columns_and_nothing_where_nothing_is(
    ordertape: Run, ledger: LedgerBuilder, address: str, tmp_path: Path
) -> None:
    file = tmp_path / "orders.parquet"
    assert ordertape("export", "--user", "alice", "--history", address, "--out", str(file)).exit_code == 0
    schema = pyarrow.parquet.read_schema(file)
    assert schema.names == [column.name for column in columns()]
    types = {name: schema.field(name).type for name in schema.names}
    assert (types["price"], types["status"], types["fill.price"]) == (pyarrow.string(),) * 3
    assert types["orderId"] == types["fill.tradeId"] == types["sequence"] == pyarrow.int64()
    assert types["timestamp"] == types["expireTime"] == pyarrow.timestamp("us", tz="UTC")
    assert types["postOnly"] == pyarrow.bool_()
    table = pyarrow.parquet.read_table(file)
    mine = updates_of(ledger, "alice")
    assert table["sequence"].to_pylist() == [update.sequence for update in mine]
    assert table["price"].to_pylist() == [update.price for update in mine]
    assert table["clientOrderId"].to_pylist() == [u.client_order_id if u.HasField("client_order_id") else None for u in mine]
    assert table["fill.qty"].to_pylist() == [update.fill.qty if update.HasField("fill") else None for update in mine]
    times = table["timestamp"].cast(pyarrow.int64()).to_pylist()
    assert times == [update.timestamp.ToMicroseconds() for update in mine]
    assert table["expireTime"].null_count == len(mine)


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_standard_output_takes_every_format(ledger: LedgerBuilder, address: str, tmp_path: Path, file_format: str) -> None:
    file = tmp_path / "out"
    with file.open("wb") as out:
        subprocess.run(
            command_of("--user", "bob", "--history", address, "--format", file_format), check=True, stdout=out, timeout=60
        )
    assert numbers_in(file, file_format) == list(range(1, len(updates_of(ledger, "bob")) + 1))


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_user_without_orders_has_a_whole_file_without_rows(
    ordertape: Run, address: str, tmp_path: Path, file_format: str
) -> None:
    file = tmp_path / f"nothing.{file_format}"
    assert ordertape("export", "--user", "nobody", "--history", address, "--out", str(file)).exit_code == 0
    assert read_back(file, file_format) == []
    assert sorted(tmp_path.iterdir()) == [file]


def test_symbols_times_and_positions_choose_what_is_written(ordertape: Run, ledger: LedgerBuilder, address: str) -> None:
    mine = updates_of(ledger, "alice")
    begin, end = mine[20], mine[-20]
    after = encode_position(
        ledger.ledger_id, next(b.last_sequence for b in ledger.batches if b.last_sequence >= mine[40].sequence)
    )

    def sequences(*arguments: str) -> list[int]:
        result = ordertape("export", "--user", "alice", "--history", address, *arguments)
        assert result.exit_code == 0, result.stderr
        return [int(json.loads(line)["sequence"]) for line in result.stdout.splitlines()]

    assert sequences("--symbol", "ETH-USD") == [u.sequence for u in mine if u.symbol == "ETH-USD"]
    times = ("--from", begin.timestamp.ToJsonString(), "--until", end.timestamp.ToJsonString())
    assert sequences(*times) == [u.sequence for u in mine[20:-20]]
    rest = [u.sequence for u in mine if u.sequence > int(after.rpartition(":")[2])]
    assert sequences("--after", after) == rest
    assert sequences("--after", encode_position(ledger.ledger_id, ledger.sequence)) == []


def test_a_bound_of_time_says_no_position_to_go_on_after(ordertape: Run, address: str) -> None:
    result = ordertape("export", "--user", "alice", "--history", address, "--until", "2030-01-01")
    assert "what comes later" not in result.stderr


@pytest.mark.parametrize("kill", [False, True])
def test_a_history_that_is_restarted_in_the_middle_neither_loses_nor_doubles_an_update(
    long_ledger: LedgerBuilder, tmp_path: Path, kill: bool
) -> None:
    listen = f"127.0.0.1:{free_ports(1)[0]}"
    with FakeEngine(long_ledger.batches) as engine, ExitStack() as running:

        def start() -> HistoryProcess:
            process = running.enter_context(HistoryProcess(engine, tmp_path / "history", "--listen", listen))
            process.wait_until_applied(long_ledger.sequence)
            return process

        history = start()
        command = command_of("--user", "alice", "--history", listen)
        with (
            (tmp_path / "stderr").open("w") as said,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as process,
        ):
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            history.kill() if kill else history.terminate()
            start()
            lines += process.stdout.readlines()
    stderr = (tmp_path / "stderr").read_text()
    assert process.returncode == 0, stderr
    assert stderr.count("resuming") == 1
    assert [int(json.loads(line)["userUpdateNumber"]) for line in lines] == list(range(1, LONG + 1))
    for line, update in zip(lines[::500], updates_of(long_ledger, "alice")[::500], strict=True):
        assert json_format.Parse(line, order_pb2.OrderUpdate()) == update


@pytest.fixture(scope="module")
def long_address(long_ledger: LedgerBuilder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("long")
    with FakeEngine(long_ledger.batches) as engine, RunningHistory(engine, folder / "history") as history:
        history.wait_until_applied(long_ledger.sequence)
        eventually(history.is_serving)
        yield history.history.server.address


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_interrupted_export_leaves_what_it_wrote_and_says_how_to_go_on(
    ordertape: Run, long_ledger: LedgerBuilder, long_address: str, tmp_path: Path, file_format: str
) -> None:
    out, more = tmp_path / f"orders.{file_format}", tmp_path / f"more.{file_format}"
    first = tmp_path / f"orders.{file_format}.part"
    arguments = ("--user", "alice", "--history", long_address)
    with subprocess.Popen(command_of(*arguments, "--out", str(out)), stderr=subprocess.PIPE, text=True) as process:
        while not first.exists() and process.poll() is None:
            pass
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "error: interrupted" in stderr
    assert not out.exists()
    count, after = int(stderr.split(" updates are written")[0].split()[-1]), stderr.split("--after ")[1].split()[0]
    assert 0 < count < LONG
    assert numbers_in(first, file_format) == list(range(1, count + 1))
    refused = ordertape("export", *arguments, "--out", str(out), "--after", after)
    assert refused.exit_code == 2
    assert f"{first} is there" in refused.stderr
    assert ordertape("export", *arguments, "--out", str(more), "--after", after).exit_code == 0
    assert numbers_in(more, file_format) == list(range(count + 1, LONG + 1))


def test_what_is_there_is_lost_by_nothing_but_a_whole_export(ordertape: Run, address: str, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text("old\n")
    (tmp_path / "orders.jsonl.part").write_text("broke off\n")
    assert ordertape("export", "--user", "no spaces", "--history", address, "--out", str(file)).exit_code == 67
    assert (file.read_text(), (tmp_path / "orders.jsonl.part").read_text()) == ("old\n", "broke off\n")
    assert ordertape("export", "--user", "alice", "--history", address, "--out", str(file)).exit_code == 0
    assert json.loads(file.read_text().splitlines()[0])["userUpdateNumber"] == "1"
    assert sorted(tmp_path.iterdir()) == [file]


def test_a_disk_that_takes_no_more_is_said_with_its_exit_code(long_address: str, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    command = shlex.join(command_of("--user", "alice", "--history", long_address, "--out", str(file)))
    limited = ("bash", "-c", f"ulimit -f 1500; exec {command}")  # KiB
    done = subprocess.run(limited, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 6, done.stderr
    assert f"error: {file} cannot be written" in done.stderr
    assert "begin anew" in done.stderr
    assert not file.exists()


def test_without_pyarrow_parquet_is_wrong_usage_that_says_what_to_install(
    ordertape: Run, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = ordertape("export", "--user", "alice", "--history", address, "--out", str(tmp_path / "orders.parquet"))
    assert result.exit_code == 2
    assert "install pyarrow" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_wrong_usage(ordertape: Run, address: str, tmp_path: Path) -> None:
    result = ordertape("export", "--user", "alice", "--history", address, "--out", str(tmp_path / "none" / "orders.csv"))
    assert result.exit_code == 2
    assert "--out takes a file in a folder that is there" in result.stderr


def test_a_bar_is_shown_on_a_terminal_and_nothing_of_it_in_the_output(address: str, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    terminal, theirs = pty.openpty()
    command = command_of("--user", "alice", "--history", address, "--out", str(file))
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL, env=environment) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(terminal):
            shown += chunk
    os.close(terminal)
    assert process.returncode == 0
    assert b"alice" in shown
    assert b"updates, position" in shown
    assert all(line.startswith("{") for line in file.read_text().splitlines())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""
