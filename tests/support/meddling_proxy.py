"""A server that hands every call of the contract on and can change what comes back, so that a test has a server that is wrong in
just one way.
"""

from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, Self

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.golden.schema import files

# Gets an answer and gives what is told in its place; None tells nothing.
Meddle = Callable[[Any], Message | None]


class MeddlingProxy:
    """Stands before an engine and a history, on one address. ``meddle`` maps an RPC (Accounts/ListBalances) to what is done to
    its answers.
    """

    def __init__(self, engine: str, history: str, meddle: dict[str, Meddle]) -> None:
        self._channels = {"engine": grpc.insecure_channel(engine), "history": grpc.insecure_channel(history)}
        self._meddle = meddle
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        for service in (service for file in files() for service in file.services_by_name.values()):
            handlers = {rpc.name: self._handler(rpc) for rpc in service.methods}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.stop(None).wait()
        for channel in self._channels.values():
            channel.close()

    def _handler(self, rpc: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
        request, response = GetMessageClass(rpc.input_type), GetMessageClass(rpc.output_type)
        service = rpc.containing_service
        kind = f"{'stream' if rpc.client_streaming else 'unary'}_{'stream' if rpc.server_streaming else 'unary'}"
        channel = self._channels["history" if service.name == "OrderHistory" else "engine"]
        behind = getattr(channel, kind)(
            f"/{service.full_name}/{rpc.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        change = self._meddle.get(f"{service.name}/{rpc.name}", lambda answer: answer)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        behave = _stream(behind, change) if rpc.server_streaming else _single(behind, change)
        return make(behave, request_deserializer=request.FromString, response_serializer=response.SerializeToString)


def _single(behind: Callable[..., Any], change: Meddle) -> Callable[[Any, grpc.ServicerContext], Any]:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return change(behind(request, timeout=context.time_remaining()))
        except grpc.RpcError as error:
            return _fail(error, context)

    return answer


def _stream(behind: Callable[..., Any], change: Meddle) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
    def answers(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        call = behind(request, timeout=context.time_remaining())
        context.add_callback(call.cancel)
        try:
            for message in call:
                told = change(message)
                if told is not None:
                    yield told
        except grpc.RpcError as error:
            _fail(error, context)

    return answers


def _fail(error: Any, context: grpc.ServicerContext) -> None:
    context.set_trailing_metadata([item for item in error.trailing_metadata() or () if item[0].endswith("-bin")])
    context.abort(error.code(), error.details())
