"""Instruments: what can be traded, and the rules that an order has to keep. All amounts are integer units of their decimals."""

from dataclasses import dataclass, field
from typing import Final

from services.domain.errors import BadInstrument
from services.domain.money import canonical, to_text, to_units

DECIMALS_MAX: Final = 18
# A fee rate is text of at most 18 decimals, so at this scale it is a whole number.
RATE_DECIMALS: Final = 18
RATE_SCALE: Final = 10**RATE_DECIMALS


@dataclass(frozen=True, slots=True)
class InstrumentRules:
    """An instrument as config and the contract say it, in decimal text; the contract's Instrument explains each field."""

    symbol: str
    base_asset: str
    quote_asset: str
    base_asset_decimals: int
    quote_asset_decimals: int
    price_decimals: int
    qty_decimals: int
    price_step: str
    qty_step: str
    price_min: str
    price_max: str
    qty_min: str
    qty_max: str
    notional_min: str = "0"
    maker_fee_rate: str = "0"
    taker_fee_rate: str = "0"
    price_band_rate: str | None = None


@dataclass(frozen=True, slots=True)
class Instrument:
    """An instrument whose rules make sense: prices in units of price_decimals, qty of qty_decimals, money of its asset's."""

    rules: InstrumentRules
    price_step: int
    qty_step: int
    price_min: int
    price_max: int
    qty_min: int
    qty_max: int
    notional_min: int
    maker_fee_rate: int  # of RATE_SCALE
    taker_fee_rate: int  # of RATE_SCALE
    price_band_rate: int | None  # of RATE_SCALE
    # Copies of what the hot path reads, and the factors that turn qty into base units and price x qty into quote units.
    symbol: str = field(repr=False)
    base_asset: str = field(repr=False)
    quote_asset: str = field(repr=False)
    price_decimals: int = field(repr=False)
    qty_decimals: int = field(repr=False)
    base_decimals: int = field(repr=False)
    quote_decimals: int = field(repr=False)
    base_per_qty: int = field(repr=False)
    quote_per_price_qty: int = field(repr=False)

    def base_of(self, qty: int) -> int:
        """Units of the base asset in ``qty``."""
        return qty * self.base_per_qty

    def quote_of(self, price: int, qty: int) -> int:
        """Units of the quote asset in price x qty, exact."""
        return price * qty * self.quote_per_price_qty


def make_instrument(rules: InstrumentRules) -> Instrument:
    """Check the rules and turn them into units. Raises BadInstrument naming the field, the rule and the value."""
    for name in ("base_asset_decimals", "quote_asset_decimals", "price_decimals", "qty_decimals"):
        _require(rules, 0 <= getattr(rules, name) <= DECIMALS_MAX, name, f"must be 0 to {DECIMALS_MAX}")
    _require(rules, rules.base_asset != rules.quote_asset, "quote_asset", "must differ from base_asset")
    _require(
        rules,
        rules.price_decimals + rules.qty_decimals <= rules.quote_asset_decimals,
        "quote_asset_decimals",
        f"must be at least price_decimals + qty_decimals ({rules.price_decimals} + {rules.qty_decimals})",
    )
    _require(
        rules,
        rules.qty_decimals <= rules.base_asset_decimals,
        "base_asset_decimals",
        f"must be at least qty_decimals ({rules.qty_decimals})",
    )
    price_step, price_min, price_max = _scale(rules, "price", rules.price_decimals)
    qty_step, qty_min, qty_max = _scale(rules, "qty", rules.qty_decimals)
    return Instrument(
        rules=_canonical_rules(rules),
        price_step=price_step,
        qty_step=qty_step,
        price_min=price_min,
        price_max=price_max,
        qty_min=qty_min,
        qty_max=qty_max,
        notional_min=_units(rules, "notional_min", rules.quote_asset_decimals),
        maker_fee_rate=_rate(rules, "maker_fee_rate"),
        taker_fee_rate=_rate(rules, "taker_fee_rate"),
        price_band_rate=None if rules.price_band_rate is None else _units(rules, "price_band_rate", RATE_DECIMALS),
        symbol=rules.symbol,
        base_asset=rules.base_asset,
        quote_asset=rules.quote_asset,
        price_decimals=rules.price_decimals,
        qty_decimals=rules.qty_decimals,
        base_decimals=rules.base_asset_decimals,
        quote_decimals=rules.quote_asset_decimals,
        base_per_qty=10 ** (rules.base_asset_decimals - rules.qty_decimals),
        quote_per_price_qty=10 ** (rules.quote_asset_decimals - rules.price_decimals - rules.qty_decimals),
    )


def _scale(rules: InstrumentRules, name: str, decimals: int) -> tuple[int, int, int]:
    """step, min and max of price or qty: whole steps, 0 < step <= min <= max."""
    step, least, most = (_units(rules, f"{name}_{part}", decimals) for part in ("step", "min", "max"))
    _require(rules, step > 0, f"{name}_step", "must be above 0")
    _require(rules, least >= step, f"{name}_min", f"must be at least {name}_step ({to_text(step, decimals)})")
    _require(rules, most >= least, f"{name}_max", f"must be at least {name}_min ({to_text(least, decimals)})")
    for part, value in (("min", least), ("max", most)):
        _require(rules, value % step == 0, f"{name}_{part}", f"must be a multiple of {name}_step ({to_text(step, decimals)})")
    return step, least, most


def _rate(rules: InstrumentRules, name: str) -> int:
    rate = _units(rules, name, RATE_DECIMALS)
    _require(rules, rate < RATE_SCALE, name, "must be below 1")
    return rate


def _units(rules: InstrumentRules, name: str, decimals: int) -> int:
    units = to_units(canonical(getattr(rules, name)), decimals)
    _require(rules, units is not None, name, f"must have at most {decimals} decimals")
    assert units is not None
    return units


def _canonical_rules(rules: InstrumentRules) -> InstrumentRules:
    texts = ("price_step", "qty_step", "price_min", "price_max", "qty_min", "qty_max", "notional_min")
    rates = ("maker_fee_rate", "taker_fee_rate", "price_band_rate")
    values = {name: getattr(rules, name) for name in InstrumentRules.__slots__}
    values.update({name: canonical(values[name]) for name in texts + rates if values[name] is not None})
    return InstrumentRules(**values)


def _require(rules: InstrumentRules, holds: bool, name: str, rule: str) -> None:
    if not holds:
        raise BadInstrument(f"{name} of {rules.symbol} {rule}, is {getattr(rules, name)}")
