"""The client's values say all that the contract says, and become tables that are exact."""

import copy
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.descriptor import EnumDescriptor

from ordertape.client import Balance, BookLevel, HistoryStatus, Instrument, OrderFill, OrderUpdate, Rows, Side, enums, values
from ordertape.client.views import View, columns_of
from ordertape.v1 import error_reason_pb2, instrument_pb2, order_history_pb2, order_pb2

MOMENT = datetime(2026, 5, 2, 2, 36, 20, 123456, tzinfo=UTC)
VIEWS = [value for value in vars(values).values() if isinstance(value, type) and issubclass(value, View) and value is not View]


def an_update(**changes: Any) -> OrderUpdate:
    message = order_pb2.OrderUpdate(order_id=1, symbol="A&B", filled_qty="0", cumulative_quote="0", cumulative_fee="0", **changes)
    message.timestamp.FromDatetime(MOMENT)
    return OrderUpdate(message)


FILLED = an_update(
    side=1, price="0.1", fill=order_pb2.Fill(trade_id=7, price="0.1", qty="3", quote="0.3", fee="0"), avg_fill_price="0.1"
)
OPEN = an_update(side=99, price="123456789012345678.123456789012345678")


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_all_of_its_message(view: type[View[Any]]) -> None:
    message = view.__orig_bases__[0].__args__[0].DESCRIPTOR
    found = {field.name: field for field in view.fields()}
    derived = {"lag"} if view is HistoryStatus else set()
    assert set(found) == set(message.fields_by_name) - derived
    for name, field in found.items():
        described = message.fields_by_name[name]
        absent_by_rule = described.has_presence and described.message_type is None
        assert field.optional == absent_by_rule or described.message_type is not None, name


@pytest.mark.parametrize("module", [order_pb2, instrument_pb2, order_history_pb2, error_reason_pb2])
def test_the_enums_are_the_contracts(module: Any) -> None:
    described: list[EnumDescriptor] = list(module.DESCRIPTOR.enum_types_by_name.values())
    for enum in described:
        if enum.name == "UserStatus":  # only the operator's calls have it
            continue
        own = {member.name: member.value for member in getattr(enums, enum.name)}
        prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
        assert own == {value.name.removeprefix(prefix): value.number for value in enum.values}


def test_unknown_numbers_stay_what_they_are() -> None:
    assert (OPEN.side, OPEN.side.name, str(OPEN.side), repr(Side.BUY)) == (99, "UNKNOWN_99", "UNKNOWN_99", "<Side.BUY: 1>")
    assert Side(99) == Side(99)
    with pytest.raises(ValueError, match="'x' is not a valid Side"):
        Side("x")


def test_values_are_exact_frozen_and_can_be_kept() -> None:
    assert OPEN.price == Decimal("123456789012345678.123456789012345678")
    assert (OPEN.qty, OPEN.fill, OPEN.triggered_at, OPEN.timestamp) == (None, None, None, MOMENT)
    assert FILLED.fill is not None
    assert FILLED.fill.quote == Decimal("0.3")
    with pytest.raises(AttributeError):
        OPEN.price = Decimal(1)  # type: ignore[misc,assignment]
    assert pickle.loads(pickle.dumps(FILLED)) == copy.deepcopy(FILLED) == FILLED
    assert len({FILLED, OPEN, copy.deepcopy(FILLED)}) == 2
    assert "OrderUpdate(order_id=1, symbol=A&B, side=BUY" in repr(FILLED)


@pytest.mark.parametrize("view", [OrderUpdate, OrderFill, Balance, BookLevel, Instrument])
def test_columns_are_flat_and_the_same_for_an_empty_list(view: type[View[Any]]) -> None:
    names = [column.name for column in columns_of(view)]
    assert len(set(names)) == len(names)
    assert list(Rows(view, []).to_pandas().columns) == Rows(view, []).to_polars().columns == names


def test_a_frame_of_pandas_keeps_decimals_as_they_are() -> None:
    frame = Rows(OrderUpdate, [FILLED, OPEN]).to_pandas()
    assert list(frame["price"]) == [Decimal("0.1"), OPEN.price]
    assert frame["price"].sum() == FILLED.price + OPEN.price
    assert list(frame["side"]) == ["BUY", "UNKNOWN_99"]
    assert frame["fill_trade_id"].dtype == "Int64"
    assert list(frame["fill_trade_id"].isna()) == [False, True]
    assert frame["timestamp"].dtype == "datetime64[us, UTC]"
    assert frame["timestamp"][0].to_pydatetime() == MOMENT
    assert frame.dtypes.to_dict() == Rows(OrderUpdate, []).to_pandas().dtypes.to_dict()


def test_a_frame_of_polars_is_exact_too() -> None:
    frame = Rows(OrderUpdate, [FILLED, OPEN]).to_polars()
    assert frame["price"].to_list() == [Decimal("0.1"), OPEN.price]
    assert frame["price"].sum() == Decimal("123456789012345678.223456789012345678")
    assert frame["timestamp"][0] == MOMENT
    assert frame["fill_trade_id"].to_list() == [7, None]
    assert frame.schema == Rows(OrderUpdate, []).to_polars().schema
    tiny = Rows(OrderUpdate, [an_update(avg_fill_price="0.0000000000123456789012")]).to_polars()
    assert tiny["avg_fill_price"].to_list() == [Decimal("0.000000000012345679")]


def test_where_neither_library_is_installed_a_frame_says_what_to_do() -> None:
    code = """
import sys
sys.modules["pandas"] = None
from ordertape.client import Balance, Rows
try:
    Rows(Balance, []).to_pandas()
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "a DataFrame of pandas needs pandas, which is not installed: pip install pandas"


def test_a_notebook_shows_the_columns_that_something_is_in() -> None:
    shown = Rows(OrderUpdate, [FILLED] * 60, more=True)._repr_html_()
    assert "<th>price</th>" in shown
    assert "<th>stop_price</th>" not in shown
    assert "<td>A&amp;B</td>" in shown
    assert "<p>50 of more rows</p>" in shown


def test_rows_can_be_cut_and_compared() -> None:
    rows = Rows(OrderUpdate, [FILLED, OPEN], position="p")
    assert rows[1:] == Rows(OrderUpdate, [OPEN])
    assert (rows[-1], len(rows), rows[1:].position, OPEN in rows) == (OPEN, 2, "p", True)
