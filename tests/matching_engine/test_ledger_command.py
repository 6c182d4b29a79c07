"""``ledger``: the ledger on paper, and the proof of it, beside a running engine or without one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import json_format

from ordertape.v1 import ledger_pb2
from services.matching_engine.__main__ import main
from tests.support.engine_client import BUY, SELL, EngineClient, limit
from tests.support.engine_exchange import running_engine


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[ledger_pb2.LedgerBatch]]]:
    """A ledger that an engine is running on, and its batches."""
    data_dir = tmp_path_factory.mktemp("command") / "engine"
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", "b", USD="1000", BTC="10")
        client.place(limit("a", SELL, "100", "2"))
        client.place(limit("b", BUY, "101", "1"))
        yield data_dir, [ledger_pb2.LedgerBatch.FromString(data) for data in client.batches()]


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_it_prints_every_batch_as_json_that_reads_back(
    written: tuple[Path, list[ledger_pb2.LedgerBatch]], capsys: pytest.CaptureFixture[str], form: str
) -> None:
    data_dir, batches = written
    assert main(["ledger", "--data-dir", str(data_dir), "--output", form]) == 0
    printed = capsys.readouterr().out
    texts = printed.splitlines() if form == "jsonl" else [json.dumps(value) for value in _documents(printed)]
    assert [json_format.Parse(text, ledger_pb2.LedgerBatch()) for text in texts] == batches


def test_it_prints_a_line_for_people_and_the_part_that_is_asked_for(
    written: tuple[Path, list[ledger_pb2.LedgerBatch]], capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir, batches = written
    last = batches[-1]
    assert main(["ledger", "--data-dir", str(data_dir), "--after", str(last.first_sequence)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "place_order: lock 101 USD of b, order 2 NEW, trade 1 1 @ 100, unlock 1 USD of b, order 2 TRADE, order 1 TRADE" in line
    assert main(["ledger", "--data-dir", str(data_dir), "--after", "1", "--limit", "2"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["2", "3"]


def test_it_verifies_beside_a_running_engine(
    written: tuple[Path, list[ledger_pb2.LedgerBatch]], capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir, batches = written
    assert main(["ledger", "--data-dir", str(data_dir), "--verify", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert f"{batches[-1].commands[-1].sequence} commands of 1 epochs are whole, in order and chained" in said
    assert f"{len(batches)} requests run through the core gave the same commands again" in said
    assert "balances + holds + fees = deposits - withdrawals in 4 assets" in said


def test_a_folder_without_a_ledger_and_a_place_before_its_beginning_are_refused_in_words(
    tmp_path: Path, written: tuple[Path, list[ledger_pb2.LedgerBatch]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", "--data-dir", str(tmp_path)]) == 65
    assert "holds no ledger" in capsys.readouterr().err
    for option in ("--after", "--limit"):
        with pytest.raises(SystemExit) as refused:
            main(["ledger", "--data-dir", str(written[0]), option, "-1"])
        assert refused.value.code == 2
        assert option in capsys.readouterr().err


def _documents(text: str) -> Iterator[object]:
    decoder = json.JSONDecoder()
    while text.strip():
        value, end = decoder.raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        yield value
