"""What the ledger keeps: every event comes back as it went in, and every request gives the same commands again."""

from google.protobuf import json_format

from ordertape.v1 import ledger_pb2, matching_engine_pb2, order_pb2
from services.domain import kinds
from services.domain.commands import Cancel, Command, Deposit, Place
from services.domain.exchange import decide
from services.domain.state import ExchangeState
from services.wire.instrument_codec import encode_exchange_rules, encode_rules
from services.wire.ledger_codec import decode_events, encode_batch
from services.wire.requests import LedgerRequest
from services.wire.stored_requests import command_of
from tests.domain.test_exchange import random_flow
from tests.support.exchange import Core


def request_of(command: Command) -> LedgerRequest:
    if isinstance(command, Place):
        fields = {name: value for name, value in command._asdict().items() if value is not None}
        return LedgerRequest("place_order", matching_engine_pb2.PlaceOrderRequest(**fields))
    if isinstance(command, Cancel):
        fields = {name: value for name, value in command._asdict().items() if value is not None}
        return LedgerRequest("cancel_order", matching_engine_pb2.CancelOrderRequest(**fields))
    if isinstance(command, Deposit):
        return LedgerRequest("deposit", matching_engine_pb2.DepositRequest(**command._asdict(), request_id="r"))
    if hasattr(command, "epoch"):
        start = ledger_pb2.StartEngine(
            ledger_id=command.ledger_id, epoch=command.epoch, rules_version=command.rules_version, program_version="test"
        )
        start.rules.CopyFrom(encode_exchange_rules(command.rules))
        return LedgerRequest("start_engine", start)
    apply = ledger_pb2.ApplyConfig()
    encode_rules(command.rules, apply.instrument)
    return LedgerRequest("apply_config", apply)


def test_folding_encoded_batches_gives_the_state_and_their_requests_the_same_commands() -> None:
    core = Core()
    random_flow(core, 5, 500)
    encoding, folded = ExchangeState(), ExchangeState()
    hash_before = b"\x01" * 32
    for command, time, events in core.log:
        encoded = encode_batch(encoding, events, request_of(command), time, hash_before)
        encoding.apply(events, time)
        batch = ledger_pb2.LedgerBatch.FromString(encoded.data)
        assert batch.epoch == 1
        assert [entry.sequence for entry in batch.commands] == list(range(encoded.first_sequence, encoded.last_sequence + 1))
        again = decide(folded, command_of(batch), time)
        assert encode_batch(folded, again, request_of(command), time, hash_before).data == encoded.data
        folded.apply(decode_events(batch, folded), time)
    assert folded.describe() == core.state.describe()


def test_json_and_binary_carry_every_variant_of_a_command_there_and_back() -> None:
    core = Core()
    random_flow(core, 6, 300)
    state, variants = ExchangeState(), set()
    for command, time, events in core.log:
        data = encode_batch(state, events, request_of(command), time, b"").data
        state.apply(events, time)
        for entry in ledger_pb2.LedgerBatch.FromString(data).commands:
            variants.add(entry.WhichOneof("command"))
            assert ledger_pb2.LedgerCommand.FromString(entry.SerializeToString()) == entry
            assert json_format.Parse(json_format.MessageToJson(entry), ledger_pb2.LedgerCommand()) == entry
    assert {"deposit", "lock", "unlock", "match_exec", "order_update", "instrument_set", "engine_started"} <= variants


def test_the_cores_enums_have_the_contracts_names_and_numbers() -> None:
    for enum in (
        kinds.Side, kinds.OrderType, kinds.TimeInForce, kinds.OrderStatus, kinds.ExecType, kinds.LiquiditySide,
        kinds.SelfTradePrevention, kinds.RejectReason, kinds.CancelReason, kinds.ExpireReason,
    ):  # fmt: skip
        prefix = "".join("_" + letter if letter.isupper() else letter.upper() for letter in enum.__name__)[1:]
        contract = getattr(order_pb2, enum.__name__)
        assert {f"{prefix}_{member.name}": member.value for member in enum} == dict(contract.items()[1:])
