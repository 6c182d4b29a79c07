"""`ordertape set-instrument`: the operator changes an instrument's rules while it trades, or lists a new one."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.failures import USAGE, Failure
from services.cli.naming import naming_key
from services.cli.options import ENGINE_DEFAULT, TIMEOUT_DEFAULT, EngineAddress, Format, RequestId, SymbolArgument, Timeout
from services.cli.output import INSTRUMENT_COLUMNS, Output, document_of, show

if TYPE_CHECKING:
    from services.cli.client import Engine

# What the contract cannot tell from 0: a new instrument has to say it.
_DECIMALS = ("base_asset_decimals", "quote_asset_decimals", "price_decimals", "qty_decimals")
_DEFAULTS = {"notional_min": "0", "maker_fee_rate": "0", "taker_fee_rate": "0"}


def set_instrument(
    symbol: SymbolArgument,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", exists=True, dir_okay=False, help="TOML with the instrument in [[instruments]], as in the engine's config."
        ),
    ] = None,
    price_step: Annotated[str | None, typer.Option("--price-step", help="Prices are multiples of this.")] = None,
    qty_step: Annotated[str | None, typer.Option("--qty-step", help="Quantities are multiples of this.")] = None,
    price_min: Annotated[str | None, typer.Option("--price-min", help="Lowest price of an order.")] = None,
    price_max: Annotated[str | None, typer.Option("--price-max", help="Highest price of an order.")] = None,
    qty_min: Annotated[str | None, typer.Option("--qty-min", help="Least qty of an order.")] = None,
    qty_max: Annotated[str | None, typer.Option("--qty-max", help="Largest qty of an order.")] = None,
    notional_min: Annotated[str | None, typer.Option("--notional-min", help="Least price x qty; 0 for no rule.")] = None,
    maker_fee_rate: Annotated[str | None, typer.Option("--maker-fee-rate", help="Share of what a maker receives.")] = None,
    taker_fee_rate: Annotated[str | None, typer.Option("--taker-fee-rate", help="Share of what a taker receives.")] = None,
    price_band_rate: Annotated[
        str | None, typer.Option("--price-band-rate", help="Greatest distance from the last trade, as a share.")
    ] = None,
    no_price_band: Annotated[bool, typer.Option("--no-price-band", help="Take the band away.")] = False,
    base_asset: Annotated[str | None, typer.Option("--base-asset", help="What is bought and sold; never changes.")] = None,
    quote_asset: Annotated[str | None, typer.Option("--quote-asset", help="What it is paid with; never changes.")] = None,
    base_asset_decimals: Annotated[int | None, typer.Option("--base-asset-decimals", help="Never change.")] = None,
    quote_asset_decimals: Annotated[int | None, typer.Option("--quote-asset-decimals", help="Never change.")] = None,
    price_decimals: Annotated[int | None, typer.Option("--price-decimals", help="Never change.")] = None,
    qty_decimals: Annotated[int | None, typer.Option("--qty-decimals", help="Never change.")] = None,
    request_id: RequestId = None,
    output: Format = Output.TABLE,
    engine: EngineAddress = ENGINE_DEFAULT,
    timeout: Timeout = TIMEOUT_DEFAULT,
) -> None:
    """Set an instrument's rules while it trades, or list a new one. What neither FILE nor an option says stays.

    \b
    ordertape set-instrument BTC-USD --price-band-rate 0.1
    ordertape set-instrument BTC-USD --maker-fee-rate 0 --taker-fee-rate 0.001
    ordertape set-instrument SOL-USD --file sol.toml
    """
    from services.cli.client import Engine

    if no_price_band and price_band_rate is not None:
        raise Failure(USAGE, "--no-price-band takes the band away that --price-band-rate sets: give one of them")
    options = {
        "price_step": price_step,
        "qty_step": qty_step,
        "price_min": price_min,
        "price_max": price_max,
        "qty_min": qty_min,
        "qty_max": qty_max,
        "notional_min": notional_min,
        "maker_fee_rate": maker_fee_rate,
        "taker_fee_rate": taker_fee_rate,
        "price_band_rate": price_band_rate,
        "base_asset": base_asset,
        "quote_asset": quote_asset,
        "base_asset_decimals": base_asset_decimals,
        "quote_asset_decimals": quote_asset_decimals,
        "price_decimals": price_decimals,
        "qty_decimals": qty_decimals,
    }
    given = {name: value for name, value in options.items() if value is not None}
    with Engine(engine, timeout) as service:
        rules = (_in_file(file, symbol) if file is not None else _listed(service, symbol)) | given
        if no_price_band:
            rules.pop("price_band_rate", None)
        answer = _set(service, symbol, rules, request_id)
    show(output, answer, "instrument", INSTRUMENT_COLUMNS)


def _set(service: "Engine", symbol: str, rules: dict[str, Any], request_id: str | None) -> dict[str, Any]:
    """Send the rules; the answer with the key that it was sent by."""
    from google.protobuf.json_format import ParseDict

    from ordertape.v1 import matching_engine_pb2 as engine_pb2
    from services.cli.client import new_key

    missing = [f"--{name.replace('_', '-')}" for name in _DECIMALS if name not in rules]
    if missing:
        raise Failure(USAGE, f"{symbol} is not listed yet, so it needs {', '.join(missing)} too, or a --file that says all")
    request = engine_pb2.SetInstrumentRequest(request_id=request_id or new_key())
    ParseDict(rules, request.instrument)
    with naming_key("--request-id", request.request_id):
        response = service.call(service.operator.SetInstrument, request)
    return {"requestId": request.request_id, **document_of(response)}


def _listed(service: "Engine", symbol: str) -> dict[str, Any]:
    """The instrument's rules as they are; only its name and defaults where there is none."""
    from google.protobuf.json_format import MessageToDict

    from ordertape.v1 import matching_engine_pb2 as engine_pb2

    for instrument in service.ask(service.orders.ListInstruments, engine_pb2.ListInstrumentsRequest()).instruments:
        if instrument.symbol == symbol:
            return MessageToDict(instrument, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return {"symbol": symbol, **_DEFAULTS}


def _in_file(file: Path, symbol: str) -> dict[str, Any]:
    """The instrument's rules in the file. Raises Failure where they are not there, or are no rules."""
    from google.protobuf.json_format import ParseDict, ParseError

    from ordertape.v1 import instrument_pb2

    try:
        found = tomllib.loads(file.read_text()).get("instruments", [])
        rules = next((one for one in found if one.get("symbol") == symbol), None)
        if rules is None:
            raise Failure(USAGE, f"{file} has no [[instruments]] with symbol = {symbol!r}")
        ParseDict(rules, instrument_pb2.Instrument())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ParseError, AttributeError) as error:
        raise Failure(USAGE, f"{file} is no file of instruments: {error}") from None
    return {**_DEFAULTS, **rules}
