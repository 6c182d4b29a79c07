"""The three formats say the same fields under the same names."""

import json

import pytest

from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import order_pb2
from services.cli.failures import Failure
from services.cli.output import (
    ORDER_COLUMNS,
    RESULT_COLUMNS,
    WATCH_COLUMNS,
    Output,
    chosen,
    document_of,
    show,
    show_one,
    table_line,
)

UPDATE = order_pb2.OrderUpdate(
    order_id=17,
    client_order_id="mine",
    user_id="alice",
    symbol="BTC-USD",
    side=order_pb2.SIDE_BUY,
    order_type=order_pb2.ORDER_TYPE_LIMIT,
    time_in_force=order_pb2.TIME_IN_FORCE_GTC,
    status=order_pb2.ORDER_STATUS_PARTIALLY_FILLED,
    exec_type=order_pb2.EXEC_TYPE_TRADE,
    price="60000",
    qty="0.5",
    filled_qty="0.2",
    leaves_qty="0.3",
    fill=order_pb2.Fill(trade_id=4, price="59999.5", qty="0.2", liquidity=order_pb2.LIQUIDITY_SIDE_TAKER),
)
RESPONSE = engine_pb2.PlaceOrderResponse(updates=[UPDATE], position="0123456789abcdef:9")


def test_json_is_the_whole_answer_in_protobufs_mapping(capsys: pytest.CaptureFixture[str]) -> None:
    show(Output.JSON, document_of(RESPONSE), "updates", RESULT_COLUMNS)
    printed = json.loads(capsys.readouterr().out)
    assert printed["position"] == "0123456789abcdef:9"
    assert printed["replayed"] is False
    assert printed["updates"][0]["orderId"] == "17"
    assert printed["updates"][0]["fill"]["price"] == "59999.5"


def test_json_lines_are_the_same_objects_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show(Output.JSON, document_of(RESPONSE), "updates", RESULT_COLUMNS)
    whole = json.loads(capsys.readouterr().out)
    show(Output.JSONL, document_of(RESPONSE), "updates", RESULT_COLUMNS)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == whole["updates"]


def test_a_table_has_columns_of_the_same_names_without_the_enums_prefixes(capsys: pytest.CaptureFixture[str]) -> None:
    show(Output.TABLE, document_of(RESPONSE), "updates", RESULT_COLUMNS)
    header, row, footer = capsys.readouterr().out.splitlines()
    empty = {"stopPrice", "quoteQty", "displayQty", "reason", "reasonText", "expireTime"}
    assert header.split() == [column for column in RESULT_COLUMNS if column not in empty], (
        "columns that nothing fills are left out"
    )
    assert row.split() == [
        "17",
        "mine",
        "BTC-USD",
        "BUY",
        "TRADE",
        "PARTIALLY_FILLED",
        "60000",
        "0.5",
        "0.2",
        "0.3",
        "59999.5",
        "0.2",
    ]
    assert "position 0123456789abcdef:9" in footer


@pytest.mark.parametrize("output", list(Output))
def test_the_chosen_fields_are_printed_in_every_format(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    show(output, document_of(RESPONSE), "updates", RESULT_COLUMNS, "orderId, fill.price")
    printed = capsys.readouterr().out
    if output is Output.TABLE:
        assert [line.split() for line in printed.splitlines()[:2]] == [["orderId", "fill.price"], ["17", "59999.5"]]
    else:
        rows = json.loads(printed)["updates"] if output is Output.JSON else [json.loads(printed)]
        assert rows == [{"orderId": "17", "fill.price": "59999.5"}]


def test_a_client_id_that_looks_like_an_enum_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    named = order_pb2.OrderUpdate(order_id=1, client_order_id="SIDE_BUY")
    show(Output.TABLE, {"orders": [document_of(named)]}, "orders", ORDER_COLUMNS)
    assert "SIDE_BUY" in capsys.readouterr().out


def test_a_line_of_a_watch_stands_below_its_header() -> None:
    stop = order_pb2.OrderUpdate(side=order_pb2.SIDE_SELL, stop_price="55000", qty="0.5", exec_type=order_pb2.EXEC_TYPE_TRIGGERED)
    header, line = table_line(WATCH_COLUMNS, None), table_line(WATCH_COLUMNS, document_of(stop))
    for column, text in (("stopPrice", "55000"), ("qty", "0.5"), ("execType", "TRIGGERED")):
        assert line[header.index(f" {column} ") + 1 :].startswith(text)


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        (order_pb2.OrderUpdate(reject_reason=order_pb2.REJECT_REASON_NO_LIQUIDITY), "NO_LIQUIDITY"),
        (order_pb2.OrderUpdate(cancel_reason=order_pb2.CANCEL_REASON_SELF_TRADE), "SELF_TRADE"),
        (order_pb2.OrderUpdate(expire_reason=order_pb2.EXPIRE_REASON_SESSION_END), "SESSION_END"),
        (order_pb2.OrderUpdate(), ""),
    ],
)
def test_a_table_has_one_column_for_all_reasons(update: order_pb2.OrderUpdate, reason: str) -> None:
    assert table_line(("reason",), document_of(update)) == reason


def test_one_object_is_a_table_of_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    show_one(Output.TABLE, document_of(UPDATE))
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["fill.tradeId"].strip() == "4"
    assert lines["status"].strip() == "PARTIALLY_FILLED"


def test_a_table_that_is_piped_has_neither_colour_nor_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    show(Output.TABLE, {"rows": [{"a": "x" * 300}]}, "rows", ("a",))
    printed = capsys.readouterr().out
    assert "x" * 300 in printed
    assert "\x1b" not in printed


def test_fields_that_are_no_names_are_refused() -> None:
    with pytest.raises(Failure, match="orderId,status"):
        chosen("orderId,,status")
