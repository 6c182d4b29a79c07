"""The contract of a release as its clients have it: messages and stubs made from the image that was kept of it, apart from the
generated code of today.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

FOLDER = Path(__file__).parents[2] / "protos" / "released"


class Method(NamedTuple):
    """One RPC of the release."""

    path: str
    request: type[Message]
    response: type[Message]
    takes_stream: bool
    gives_stream: bool

    def parsed(self, document: dict[str, Any]) -> Message:
        """A request from its JSON."""
        return ParseDict(document, self.request())


class Release:
    """A release by its version; ``extend`` changes the image before anything is made of it."""

    def __init__(self, version: str, extend: Callable[[FileDescriptorSet], None] = lambda _: None) -> None:
        image = FileDescriptorSet.FromString((FOLDER / f"ordertape-{version}.binpb").read_bytes())
        extend(image)
        self._pool = descriptor_pool.DescriptorPool()
        for file in image.file:
            self._pool.Add(file)
        self._services = [f"{file.package}.{service.name}" for file in image.file for service in file.service]

    def message(self, name: str) -> type[Message]:
        """A message of ordertape.v1."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"ordertape.v1.{name}"))

    def methods(self) -> dict[str, Method]:
        """All RPCs, by names as in ordertape.v1.Accounts/ListBalances."""
        services = map(self._pool.FindServiceByName, self._services)
        return {
            f"{service.full_name}/{rpc.name}": _method(service.full_name, rpc) for service in services for rpc in service.methods
        }

    def call(self, channel: grpc.Channel, method: Method, *requests: Message, timeout_seconds: float = 10.0) -> Iterator[Message]:
        """The answers, as a client of the release gets them. Raises grpc.RpcError."""
        encode, decode = method.request.SerializeToString, method.response.FromString
        kind = f"{'stream' if method.takes_stream else 'unary'}_{'stream' if method.gives_stream else 'unary'}"
        made = getattr(channel, kind)(method.path, request_serializer=encode, response_deserializer=decode)
        answer = made(iter(requests) if method.takes_stream else requests[0], timeout=timeout_seconds)
        yield from answer if method.gives_stream else (answer,)


def versions() -> list[str]:
    """Every release that was kept."""
    return sorted(path.stem.removeprefix("ordertape-") for path in FOLDER.glob("ordertape-*.binpb"))


def _method(service: str, rpc: MethodDescriptor) -> Method:
    request, response = (message_factory.GetMessageClass(kind) for kind in (rpc.input_type, rpc.output_type))
    return Method(f"/{service}/{rpc.name}", request, response, rpc.client_streaming, rpc.server_streaming)
