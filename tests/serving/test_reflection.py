"""What clients without our protos learn from the server, and that a well-known one can use it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1.ledger_pb2 import GetLedgerStatusRequest, GetLedgerStatusResponse
from services.wire.errors import CallError
from tests.serving.running_servers import FEED, Running

BUF = Path(sys.executable).with_name("buf")


@pytest.fixture
def reflected(server: Running) -> Iterator[ProtoReflectionDescriptorDatabase]:
    with grpc.insecure_channel(server.address) as channel:
        yield ProtoReflectionDescriptorDatabase(channel)


def test_reflection_lists_the_services(reflected: ProtoReflectionDescriptorDatabase) -> None:
    assert sorted(reflected.get_services()) == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        FEED,
    ]


@pytest.mark.parametrize("name", ["google.rpc.BadRequest", "google.rpc.ErrorInfo", "ordertape.v1.LedgerBatch", FEED])
def test_reflection_knows(reflected: ProtoReflectionDescriptorDatabase, name: str) -> None:
    file: descriptor_pb2.FileDescriptorProto = reflected.FindFileContainingSymbol(name)
    package, _, short = name.rpartition(".")
    assert file.package == package
    assert short in [each.name for each in (*file.message_type, *file.service)]


def buf_curl(address: str, method: str, body: dict[str, object]) -> subprocess.CompletedProcess[str]:
    command = [BUF, "curl", "--http2-prior-knowledge", "--protocol", "grpc", "-d", json.dumps(body)]
    return subprocess.run(
        [*command, f"http://{address}/{FEED}/{method}"], capture_output=True, text=True, timeout=60, check=False
    )


def test_buf_curl_calls_and_streams_by_reflection(server: Running) -> None:
    answer = buf_curl(server.address, "GetLedgerStatus", {"atSequence": 7})
    assert (answer.stderr, json.loads(answer.stdout)) == ("", {"durableSequence": "7"})
    stream = buf_curl(server.address, "ReplayLedger", {"afterSequence": 3})
    messages = stream.stdout.replace("}\n{", "}\n\n{").split("\n\n")
    assert [json.loads(each)["frame"]["durableSequence"] for each in messages] == ["1", "2", "3"]


def test_buf_curl_sees_the_code_and_the_message_of_a_failure(server: Running) -> None:
    def refuse(_request: GetLedgerStatusRequest) -> GetLedgerStatusResponse:
        raise CallError(grpc.StatusCode.NOT_FOUND, reasons.ERROR_REASON_ORDER_NOT_FOUND, "no order 7")

    server.script.status = refuse
    answer = buf_curl(server.address, "GetLedgerStatus", {})
    assert answer.returncode == 8 * grpc.StatusCode.NOT_FOUND.value[0]
    error = json.loads(answer.stderr)
    assert (error["code"], error["message"]) == ("not_found", "no order 7")
    assert error["details"][0]["type"] == "google.rpc.ErrorInfo"
