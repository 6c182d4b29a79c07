"""What the instrument, the book and the clock say against an order, in the documented order of RejectReason. Funds come last
and are checked where the order's cost is known.
"""

from typing import NamedTuple

from services.domain.book import Book
from services.domain.instrument import RATE_SCALE, Instrument
from services.domain.kinds import OrderType, RejectReason, Side
from services.domain.money import WHOLE_LIMIT, to_text, to_units
from services.domain.order import OrderTerms
from services.domain.plan import crosses


class Objection(NamedTuple):
    """The first rule that an order breaks, and in words the field, the rule and the value."""

    reason: RejectReason
    text: str


def units_of(text: str | None, decimals: int) -> int | None:
    """Units of an amount that may be absent; None also where it is finer than any unit."""
    return None if text is None else to_units(text, decimals)


def is_plainly_fine(terms: OrderTerms, instrument: Instrument) -> bool:
    """Whether a LIMIT order keeps every rule about steps and limits, as nearly all do; what does not needs the closer look that
    names the rule.
    """
    price, qty = terms.price, terms.qty
    return (
        price is not None
        and qty is not None
        and terms.stop_price_text is None
        and terms.display_qty_text is None
        and instrument.price_band_rate is None
        and not price % instrument.price_step
        and not qty % instrument.qty_step
        and instrument.price_min <= price <= instrument.price_max
        and instrument.qty_min <= qty <= instrument.qty_max
        and instrument.notional_min <= instrument.quote_of(price, qty) < WHOLE_LIMIT * 10**instrument.quote_decimals
    )


def step_objection(terms: OrderTerms, instrument: Instrument) -> Objection | None:
    """Prices and quantities that are finer than the instrument's steps."""
    symbol, rules = instrument.symbol, instrument.rules
    for name, text, units in (("price", terms.price_text, terms.price), ("stop_price", terms.stop_price_text, terms.stop_price)):
        if text is not None and (units is None or units % instrument.price_step):
            rule = f"{name} {text} is not a multiple of the step {rules.price_step} of {symbol}"
            return Objection(RejectReason.PRICE_OFF_STEP, rule)
    for name, text, units in (("qty", terms.qty_text, terms.qty), ("display_qty", terms.display_qty_text, terms.display_qty)):
        if text is not None and (units is None or units % instrument.qty_step):
            rule = f"{name} {text} is not a multiple of the step {rules.qty_step} of {symbol}"
            return Objection(RejectReason.QTY_OFF_STEP, rule)
    if terms.quote_qty_text is not None and terms.quote_qty is None:
        rule = f"quote_qty {terms.quote_qty_text} has more than the {instrument.quote_decimals} decimals of {rules.quote_asset}"
        return Objection(RejectReason.QTY_OFF_STEP, rule)
    return None


def limit_objection(terms: OrderTerms, instrument: Instrument, book: Book) -> Objection | None:
    """Prices, quantities and amounts of money that are too small, too large, or too far from the last trade."""
    symbol, rules = instrument.symbol, instrument.rules
    for name, text, units in (("price", terms.price_text, terms.price), ("stop_price", terms.stop_price_text, terms.stop_price)):
        if units is not None and not instrument.price_min <= units <= instrument.price_max:
            rule = f"{name} {text} is outside {rules.price_min} to {rules.price_max} of {symbol}"
            return Objection(RejectReason.PRICE_OUTSIDE_LIMITS, rule)
    return _band_objection(terms, instrument, book) or _qty_objection(terms, instrument) or _notional_objection(terms, instrument)


def book_objection(terms: OrderTerms, book: Book) -> Objection | None:
    """What the opposite side of the book says: nothing there, or something that a post-only order would take."""
    best = book.opposite(terms.side).best_price
    if terms.order_type == OrderType.MARKET and best is None:
        side = "asks" if terms.side == Side.BUY else "bids"
        return Objection(RejectReason.NO_LIQUIDITY, f"there are no {side} of {terms.symbol}")
    if terms.post_only and best is not None and crosses(terms.side, terms.price, best):
        text = f"price {terms.price_text} would take from the book of {terms.symbol}"
        return Objection(RejectReason.POST_ONLY_WOULD_TAKE, text)
    return None


def _band_objection(terms: OrderTerms, instrument: Instrument, book: Book) -> Objection | None:
    band, last, price = instrument.price_band_rate, book.last_trade_price, terms.price
    if band is None or last is None or price is None or abs(price - last) * RATE_SCALE <= band * last:
        return None
    last_text = to_text(last, instrument.price_decimals)
    rule = (
        f"price {terms.price_text} is further than the share {instrument.rules.price_band_rate} from the last trade {last_text}"
    )
    return Objection(RejectReason.PRICE_OUTSIDE_BAND, f"{rule} of {instrument.symbol}")


def _qty_objection(terms: OrderTerms, instrument: Instrument) -> Objection | None:
    rules = instrument.rules
    for name, text, units in (("qty", terms.qty_text, terms.qty), ("display_qty", terms.display_qty_text, terms.display_qty)):
        if units is not None and not instrument.qty_min <= units <= instrument.qty_max:
            rule = f"{name} {text} is outside {rules.qty_min} to {rules.qty_max} of {instrument.symbol}"
            return Objection(RejectReason.QTY_OUTSIDE_LIMITS, rule)
    return None


def _notional_objection(terms: OrderTerms, instrument: Instrument) -> Objection | None:
    if terms.quote_qty is not None:
        name, notional = "quote_qty", terms.quote_qty
    elif terms.price is not None and terms.qty is not None:
        name, notional = "price x qty", instrument.quote_of(terms.price, terms.qty)
    else:
        return None
    if instrument.notional_min <= notional < WHOLE_LIMIT * 10**instrument.quote_decimals:
        return None
    shown = f"{name} {to_text(notional, instrument.quote_decimals)} {instrument.quote_asset}"
    if notional < instrument.notional_min:
        text = f"{shown} is below the least notional {instrument.rules.notional_min} of {instrument.symbol}"
        return Objection(RejectReason.NOTIONAL_TOO_SMALL, text)
    return Objection(RejectReason.NOTIONAL_TOO_LARGE, f"{shown} is 10^18 or more")
