import pytest

from services.domain.money import average_price, canonical, fee_of, to_text, to_units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "0"),
        ("000", "0"),
        ("1.0", "1"),
        ("0100.50", "100.5"),
        ("0.10", "0.1"),
        ("00.001", "0.001"),
        ("1000", "1000"),
        ("0.0", "0"),
    ],
)
def test_there_is_one_way_to_write_a_decimal(text: str, expected: str) -> None:
    assert canonical(text) == expected


@pytest.mark.parametrize(
    ("text", "decimals", "units"),
    [
        ("1", 2, 100),
        ("1.25", 2, 125),
        ("0.01", 2, 1),
        ("10.005", 2, None),
        ("0.1", 0, None),
        ("999999999999999999.999999999999999999", 18, 10**36 - 1),
    ],
)
def test_a_decimal_finer_than_its_units_is_refused_and_never_rounded(text: str, decimals: int, units: int | None) -> None:
    assert to_units(text, decimals) == units


@pytest.mark.parametrize(
    ("units", "decimals", "text"), [(0, 8, "0"), (1, 8, "0.00000001"), (150, 2, "1.5"), (100, 2, "1"), (7, 0, "7")]
)
def test_units_turn_back_into_canonical_text(units: int, decimals: int, text: str) -> None:
    assert to_text(units, decimals) == text
    assert to_units(text, decimals) == units


def test_a_fee_is_rounded_up_at_the_assets_decimals() -> None:
    assert fee_of(1000, 1, 1000) == 1
    assert fee_of(1001, 1, 1000) == 2
    assert fee_of(1, 1, 1000) == 1
    assert fee_of(0, 1, 1000) == 0
    assert fee_of(1000, 0, 1000) == 0


@pytest.mark.parametrize(
    ("quote", "qty", "expected"),
    [
        ((302, 2), (3, 0), "1.00666666667"),
        ((2, 0), (3, 0), "0.666666666667"),
        ((200, 0), (2, 0), "100"),
        ((1, 10), (3, 0), "0.0000000000333333333333"),
        ((100000000000049, 2), (10, 0), "100000000000.05"),
        ((1000000000000, 0), (7, 0), "142857142857"),
    ],
)
def test_an_average_price_is_half_up_at_twelve_digits_or_the_quote_assets_decimals(
    quote: tuple[int, int], qty: tuple[int, int], expected: str
) -> None:
    assert average_price(*quote, *qty) == expected
