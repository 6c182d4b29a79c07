"""Instruments come from config, once into the ledger and then only where config has changed; what contradicts is refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ordertape.v1 import instrument_pb2, ledger_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from services.domain.errors import BadInstrument
from services.matching_engine.__main__ import main
from tests.support.engine_client import BUY, NEW, REJECTED, EngineClient, limit, newest
from tests.support.engine_exchange import BTC_USD, ETH_USD, INSTRUMENTS, running_engine, start_engine


def journaled(data_dir: Path, instruments: Sequence[dict[str, Any]]) -> tuple[list[instrument_pb2.Instrument], list[str]]:
    """Start an engine with these instruments: what it journals as set, and all that the ledger says of causes since."""
    with running_engine(data_dir, instruments=instruments) as engine, EngineClient(engine.address) as client:
        batches = [ledger_pb2.LedgerBatch.FromString(data) for data in client.batches()]
        listed = client.engine.ListInstruments(pb.ListInstrumentsRequest()).instruments
    epoch = max(batch.epoch for batch in batches)
    latest = [batch for batch in batches if batch.epoch == epoch]
    assert [instrument.symbol for instrument in listed] == sorted(instrument.symbol for instrument in listed)
    assert all(len(batch.commands) == 1 for batch in latest)
    set_now = [batch.commands[0].instrument_set.instrument for batch in latest[1:]]
    assert [batch.apply_config.instrument for batch in latest[1:]] == set_now
    return set_now, [str(batch.WhichOneof("request")) for batch in latest]


def test_an_instrument_is_journaled_once_and_again_only_where_config_has_changed(data_dir: Path) -> None:
    first, causes = journaled(data_dir, INSTRUMENTS)
    assert [instrument.symbol for instrument in first] == [rules["symbol"] for rules in INSTRUMENTS]
    assert causes == ["start_engine", *["apply_config"] * len(INSTRUMENTS)]
    assert {name: getattr(first[0], name) for name in BTC_USD} == BTC_USD
    assert journaled(data_dir, INSTRUMENTS) == ([], ["start_engine"])
    spelled_otherwise = BTC_USD | {"qty_step": "0.00010", "price_max": "01000000", "maker_fee_rate": "0.0010"}
    assert journaled(data_dir, [spelled_otherwise]) == ([], ["start_engine"])
    (changed,), _ = journaled(data_dir, [ETH_USD, BTC_USD | {"taker_fee_rate": "0.003"}])
    assert (changed.symbol, changed.taker_fee_rate) == ("BTC-USD", "0.003")


def test_an_instrument_that_config_no_longer_names_stays_as_the_ledger_has_it(data_dir: Path) -> None:
    journaled(data_dir, INSTRUMENTS)
    with running_engine(data_dir, instruments=()) as engine, EngineClient(engine.address) as client:
        client.fund("a", USD="1000")
        assert newest(client.place(limit("a", BUY, "10", "1")).updates).status == NEW


def test_new_rules_hold_for_new_orders_and_open_ones_keep_their_money(data_dir: Path) -> None:
    with running_engine(data_dir) as engine, EngineClient(engine.address) as client:
        client.fund("a", USD="1000")
        client.place(limit("a", BUY, "10", "1.5", client_order_id="old"))
    with (
        running_engine(data_dir, instruments=[BTC_USD | {"qty_step": "1", "qty_min": "1"}]) as engine,
        EngineClient(engine.address) as client,
    ):
        assert client.balances("a")["USD"] == ("985", "15")
        assert newest(client.place(limit("a", BUY, "10", "1.5")).updates).status == REJECTED
        client.cancel(pb.CancelOrderRequest(user_id="a", client_order_id="old"))
        assert client.balances("a")["USD"] == ("1000", "0")


CONTRADICTIONS = [
    ({"price_decimals": 3}, "quote_asset_decimals of BTC-USD"),
    ({"qty_decimals": 9}, "quote_asset_decimals of BTC-USD"),
    ({"base_asset_decimals": 7}, "base_asset_decimals of BTC-USD"),
    ({"quote_asset_decimals": 19}, "quote_asset_decimals of BTC-USD"),
    ({"price_decimals": -1}, "price_decimals of BTC-USD"),
    ({"quote_asset": "BTC"}, "quote_asset of BTC-USD"),
    ({"price_step": "0"}, "price_step of BTC-USD"),
    ({"price_step": "0.001"}, "price_step of BTC-USD"),
    ({"price_min": "0.001"}, "price_min of BTC-USD"),
    ({"price_step": "0.5", "price_min": "0.3"}, "price_min of BTC-USD"),
    ({"price_step": "0.5", "price_min": "0.7"}, "price_min of BTC-USD"),
    ({"price_max": "0.5"}, "price_max of BTC-USD"),
    ({"qty_min": "0.00001"}, "qty_min of BTC-USD"),
    ({"qty_max": "0.00005"}, "qty_max of BTC-USD"),
    ({"notional_min": "0.00000000001"}, "notional_min of BTC-USD"),
    ({"maker_fee_rate": "1"}, "maker_fee_rate of BTC-USD"),
    ({"taker_fee_rate": "1.5"}, "taker_fee_rate of BTC-USD"),
]


@pytest.mark.parametrize(("changes", "named"), CONTRADICTIONS, ids=[str(changes) for changes, _ in CONTRADICTIONS])
def test_an_instrument_that_contradicts_itself_is_refused_naming_the_field(
    data_dir: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(BadInstrument, match=named):
        start_engine(data_dir, instruments=[ETH_USD, BTC_USD | changes])


COLLISIONS = [
    ([BTC_USD, ETH_USD | {"quote_asset_decimals": 12}], "decimals of USD"),
    ([BTC_USD, ETH_USD | {"base_asset": "USD", "quote_asset": "ETH", "base_asset_decimals": 9}], "decimals of USD"),
    ([BTC_USD, BTC_USD | {"qty_step": "1", "qty_min": "1"}], "BTC-USD"),
]


@pytest.mark.parametrize(("instruments", "named"), COLLISIONS, ids=[named for _, named in COLLISIONS])
def test_two_instruments_that_disagree_are_refused_naming_what_about(
    data_dir: Path, instruments: list[dict[str, Any]], named: str
) -> None:
    with pytest.raises((BadInstrument, ValidationError), match=named):
        start_engine(data_dir, instruments=instruments)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"price_decimals": 1, "price_step": "0.1"}, "price_decimals of BTC-USD must stay 2"),
        ({"qty_decimals": 7}, "qty_decimals of BTC-USD must stay 8"),
        ({"base_asset_decimals": 9}, "decimals of BTC must stay 8"),
        ({"quote_asset_decimals": 11}, "decimals of USD must stay 10"),
        ({"base_asset": "XBT"}, "base_asset of BTC-USD must stay BTC"),
        ({"quote_asset": "EUR"}, "quote_asset of BTC-USD must stay USD"),
    ],
)
def test_decimals_and_assets_of_an_instrument_never_change(data_dir: Path, changes: dict[str, Any], named: str) -> None:
    journaled(data_dir, INSTRUMENTS)
    with pytest.raises(BadInstrument, match=named):
        start_engine(data_dir, instruments=[BTC_USD | changes])
    assert journaled(data_dir, INSTRUMENTS) == ([], ["start_engine"])


def test_a_config_that_is_refused_leaves_the_ledger_as_it_was(data_dir: Path) -> None:
    journaled(data_dir, [BTC_USD])
    (segment,) = (data_dir / "ledger").glob("*.segment")
    before = segment.read_bytes()
    changed = BTC_USD | {"taker_fee_rate": "0.9"}
    for bad in (ETH_USD | {"price_step": "0"}, ETH_USD | {"quote_asset_decimals": 12}):
        with pytest.raises(BadInstrument):
            start_engine(data_dir, instruments=[changed, bad])
        assert segment.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[instruments]]\nsymbol = 'A B'", "instruments.0.symbol"),
        ("[[instruments]]\nsymbol = 'A'\nprice_step = 0.01", "instruments.0.price_step"),
        ("[[instruments]]\nsymbol = 'A'\nprice_step = '1e-2'", "instruments.0.price_step"),
        ("[[instruments]]\nsymbol = 'A'\npricestep = '1'", "instruments.0.pricestep"),
        ("trades_per_order_max = 5001", "trades_per_order_max"),
        ("listen = 'nowhere'", "listen"),
        ("listen = '127.0.0.1:65536'", "listen"),
        ("operator_listen = '127.0.0.1:99999'", "operator_listen"),
        ("unknown = 1", "unknown"),
        ("log_level = 'LOUD'", "log_level"),
        ("this is no toml", "engine.toml"),
    ],
)
def test_a_setting_that_is_wrong_is_named_and_nothing_is_started(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, named: str
) -> None:
    config = tmp_path / "engine.toml"
    config.write_text(text)
    assert main(["--config", str(config), "--data-dir", str(data_dir)]) == 78
    assert named in capsys.readouterr().err
    assert not data_dir.exists()


def test_a_config_file_that_is_not_there_is_named(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(tmp_path / "none.toml"), "--data-dir", str(data_dir)]) == 78
    assert "none.toml" in capsys.readouterr().err
