"""What is on disk and on the wire comes back as it went, in binary and in JSON."""

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from ordertape.v1 import ledger_pb2, matching_engine_pb2, order_history_pb2, order_pb2
from tests.contract.filled import fill

COMMANDS = [field.name for field in ledger_pb2.LedgerCommand.DESCRIPTOR.oneofs_by_name["command"].fields]
REQUESTS = [field.name for field in ledger_pb2.LedgerBatch.DESCRIPTOR.oneofs_by_name["request"].fields]


def assert_comes_back(message: Message) -> None:
    kind = type(message)
    assert kind.FromString(message.SerializeToString()) == message
    text = json_format.MessageToJson(message)
    assert json_format.Parse(text, kind()) == message
    assert kind.FromString(json_format.Parse(text, kind()).SerializeToString()).SerializeToString() == message.SerializeToString()


def test_an_order_update_with_every_field_comes_back() -> None:
    update = order_pb2.OrderUpdate()
    fill(update)
    assert len(update.ListFields()) == len(order_pb2.OrderUpdate.DESCRIPTOR.fields)
    assert_comes_back(update)
    assert_comes_back(order_pb2.OrderUpdate())


def test_an_order_update_keeps_absent_apart_from_zero() -> None:
    update = order_pb2.OrderUpdate(filled_qty="0", leaves_qty="0", previous_status=order_pb2.ORDER_STATUS_UNSPECIFIED)
    again = order_pb2.OrderUpdate.FromString(update.SerializeToString())
    assert again.HasField("leaves_qty")
    assert again.HasField("previous_status")
    assert not again.HasField("price")
    assert not json_format.Parse(json_format.MessageToJson(update), order_pb2.OrderUpdate()).HasField("qty")


@pytest.mark.parametrize("status", order_pb2.OrderStatus.values())
def test_every_order_status_comes_back_by_name_and_by_number(status: order_pb2.OrderStatus.ValueType) -> None:
    update = order_pb2.OrderUpdate(status=status)
    assert_comes_back(update)
    if status:
        name = order_pb2.OrderStatus.Name(status)
        assert json_format.MessageToDict(update)["status"] == name
        assert json_format.ParseDict({"status": name}, order_pb2.OrderUpdate()).status == status


def test_an_unknown_status_stays_the_number_that_it_is() -> None:
    update = order_pb2.OrderUpdate(status=99)  # type: ignore[arg-type]
    assert order_pb2.OrderUpdate.FromString(update.SerializeToString()).status == 99
    assert json_format.Parse(json_format.MessageToJson(update), order_pb2.OrderUpdate()).status == 99


@pytest.mark.parametrize("variant", COMMANDS)
def test_a_ledger_command_of_each_variant_comes_back(variant: str) -> None:
    command = ledger_pb2.LedgerCommand()
    fill(command, oneof_member=variant)
    assert command.WhichOneof("command") == variant
    assert_comes_back(command)


@pytest.mark.parametrize("variant", REQUESTS)
def test_a_ledger_batch_of_each_cause_comes_back(variant: str) -> None:
    batch = ledger_pb2.LedgerBatch()
    fill(batch, oneof_member=variant)
    assert batch.WhichOneof("request") == variant
    assert_comes_back(batch)


def all_messages() -> list[type[Message]]:
    from google.protobuf.message_factory import GetMessageClass

    files = (order_pb2, ledger_pb2, matching_engine_pb2, order_history_pb2)
    return [GetMessageClass(descriptor) for file in files for descriptor in file.DESCRIPTOR.message_types_by_name.values()]


@pytest.mark.parametrize("kind", all_messages(), ids=lambda kind: kind.DESCRIPTOR.name)
def test_every_message_of_the_contract_comes_back(kind: type[Message]) -> None:
    message = kind()
    fill(message)
    assert_comes_back(message)
