"""Calls as lines for grpcurl: what stands between the command's stubs and the channel while `--print-grpcurl` is given. It prints
each call and answers a read with nothing; after any other call, the command is over.
"""

import shlex
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.cli.grpcurl_option import PRINTING, Printed

_READS = ("Get", "List", "Check")


def printing(channel: grpc.Channel, address: str) -> grpc.Channel:
    """The channel; while calls are printed, one that prints them."""
    return channel if PRINTING.to is None else grpc.intercept_channel(channel, _Printer(address))


def grpcurl_line(address: str, method: str, request: Message) -> str:
    """The command that makes the call; ``method`` as in /ordertape.v1.Accounts/ListBalances."""
    document = json_format.MessageToJson(request, indent=None, ensure_ascii=False)
    return f"grpcurl -plaintext -d {shlex.quote(document)} {address} {method.removeprefix('/')}"


class _Printer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    def __init__(self, address: str) -> None:
        self._address = address

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        method = self._print(details.method, request)
        if PRINTING.asks:
            return continuation(details, request)
        if not method.rpartition("/")[2].startswith(_READS):
            raise Printed
        service, _, rpc = method.rpartition("/")
        answer = Default().FindServiceByName(service).methods_by_name[rpc].output_type
        return _Answer(GetMessageClass(answer)())

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:  # noqa: ARG002
        self._print(details.method, request)
        raise Printed

    def _print(self, method: str | bytes, request: Message) -> str:
        name = method.decode() if isinstance(method, bytes) else method
        line = grpcurl_line(self._address, name, request)
        if line != PRINTING.last_line:
            print(line, file=PRINTING.to, flush=True)
            PRINTING.last_line = line
        return name.removeprefix("/")


class _Answer:
    """What gRPC takes of a call that has been answered."""

    def __init__(self, answer: Message) -> None:
        self._answer = answer

    def result(self) -> Message:
        """The answer."""
        return self._answer
