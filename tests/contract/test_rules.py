"""The contract's own rules, read from its descriptors."""

from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from ordertape.v1 import error_reason_pb2, instrument_pb2, ledger_pb2, matching_engine_pb2, order_history_pb2, order_pb2

FILES = [
    file.DESCRIPTOR for file in (error_reason_pb2, instrument_pb2, ledger_pb2, matching_engine_pb2, order_history_pb2, order_pb2)
]


def messages() -> Iterator[Descriptor]:
    for file in FILES:
        yield from file.message_types_by_name.values()


def enums() -> Iterator[EnumDescriptor]:
    for file in FILES:
        yield from file.enum_types_by_name.values()


def test_no_field_of_the_contract_is_floating_point() -> None:
    floats = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)
    assert not [field.full_name for message in messages() for field in message.fields if field.type in floats]


def test_a_oneofs_members_have_the_highest_numbers_of_their_message_from_16_on() -> None:
    for message in messages():
        for oneof in message.oneofs:
            if oneof.name.startswith("_"):
                continue
            inside = {field.number for field in oneof.fields}
            outside = {field.number for field in message.fields} - inside
            assert min(inside) >= 16, oneof.full_name
            assert min(inside) > max(outside, default=0), oneof.full_name


def test_every_enum_begins_with_unspecified_and_its_values_carry_its_name() -> None:
    for enum in enums():
        prefix = "".join("_" + letter if letter.isupper() else letter.upper() for letter in enum.name)[1:] + "_"
        assert enum.values[0].name == prefix + "UNSPECIFIED"
        assert enum.values[0].number == 0
        assert all(value.name.startswith(prefix) for value in enum.values)


def test_every_request_about_orders_or_accounts_names_its_user() -> None:
    without = {
        "SubmitOrdersRequest", "OrderSessionRequest",  # each item names its own
        "GetOrderBookRequest", "ListInstrumentsRequest", "GetHistoryStatusRequest",
        "ReplayLedgerRequest", "GetLedgerStatusRequest",
        "SetTradingStatusRequest", "ForceCancelOrderRequest", "SetInstrumentRequest",
    }  # fmt: skip
    for message in messages():
        if message.name.endswith("Request") and message.name not in without:
            assert "user_id" in message.fields_by_name, message.name


def test_reflection_prints_names_as_every_other_tool_does() -> None:
    assert order_pb2.OrderUpdate.DESCRIPTOR.fields_by_name["order_id"].json_name == "orderId"
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    file = FileDescriptorProto()
    order_pb2.DESCRIPTOR.CopyToProto(file)
    update = next(message for message in file.message_type if message.name == "OrderUpdate")
    assert update.field[0].json_name == "orderId"
