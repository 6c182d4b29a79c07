"""Decimal text outside, integers inside: the only place that turns one into the other.

An amount of ``decimals`` d is kept as the integer amount x 10^d ("units"). Nothing is ever rounded here but a fee (up, at the
asset's decimals) and an average price (half up, for people).
"""

from typing import Final

# One above the largest amount that the contract's decimal text can name: 18 digits before the point.
WHOLE_LIMIT: Final = 10**18

_POWERS_OF_TEN: Final[tuple[int, ...]] = tuple(int("1" + "0" * exponent) for exponent in range(19))


def canonical(text: str) -> str:
    """The one way to write a plain decimal: no needless zeros, no trailing point."""
    whole, _, fraction = text.partition(".")
    whole = whole.lstrip("0") or "0"
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def to_units(text: str, decimals: int) -> int | None:
    """Units of a canonical decimal, or None where it is finer than ``decimals``."""
    whole, point, fraction = text.partition(".")
    if not point:
        return int(whole) * _POWERS_OF_TEN[decimals]
    missing = decimals - len(fraction)
    if missing < 0:
        return None
    return int(whole + fraction) * _POWERS_OF_TEN[missing]


def to_text(units: int, decimals: int) -> str:
    """Canonical decimal text of ``units`` (not negative)."""
    digits = str(units)
    if not decimals or not units:
        return digits
    if len(digits) <= decimals:
        return "0." + digits.zfill(decimals).rstrip("0")
    fraction = digits[-decimals:].rstrip("0")
    return f"{digits[:-decimals]}.{fraction}" if fraction else digits[:-decimals]


def fee_of(received_units: int, rate_units: int, rate_scale: int) -> int:
    """What is kept of ``received_units`` at the rate ``rate_units / rate_scale``, rounded up to a whole unit."""
    return -(-received_units * rate_units // rate_scale)


def average_price(quote_units: int, quote_decimals: int, qty_units: int, qty_decimals: int) -> str:
    """quote / qty as canonical text, half up at 12 significant digits or ``quote_decimals``, whichever is finer.

    ``qty_units`` above 0.
    """
    numerator = quote_units * 10**qty_decimals
    denominator = qty_units * 10**quote_decimals
    decimals = max(quote_decimals, 11 - _magnitude(numerator, denominator))
    rounded = (2 * numerator * 10**decimals + denominator) // (2 * denominator)
    return to_text(rounded, decimals)


def _magnitude(numerator: int, denominator: int) -> int:
    """The decimal exponent of the first significant digit of numerator / denominator: 0 for 1 to 9.99, -1 for 0.1."""
    if numerator >= denominator:
        return len(str(numerator // denominator)) - 1
    exponent = len(str(numerator)) - len(str(denominator))
    return exponent if numerator * 10**-exponent >= denominator else exponent - 1
