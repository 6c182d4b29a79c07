"""Takes a servicer's methods from the generated code on their way into the server, so that each is wrapped once, when it is
registered, rather than intercepted at every call.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import google.rpc.error_details_pb2  # noqa: F401 - clients print a failure's details only if reflection knows their types
import grpc
from grpc_channelz.v1 import channelz
from grpc_channelz.v1.channelz_pb2_grpc import add_ChannelzServicer_to_server
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2_grpc import add_ServerReflectionServicer_to_server

# A generated add_XServicer_to_server function, and the servicer for it.
Registration: TypeAlias = tuple[Callable[[Any, Any], None], object]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Server: TypeAlias = "grpc.Server | grpc.aio.Server"
# From a method's name ("/package.Service/Method") and its handler, the handler to register.
Wrap: TypeAlias = Callable[[str, Handler], Handler]


def register(server: Server, registrations: Iterable[Registration], wrap: Wrap) -> list[str]:
    """Register the servicers with every method wrapped; the full names of their services."""
    registrar = _Registrar(server, wrap)
    for add, servicer in registrations:
        add(servicer, registrar)
    return registrar.services


def register_control(server: Server, services: Iterable[str], health: object, wrap: Wrap, *, with_channelz: bool) -> None:
    """Register health, reflection of all ``services``, and channelz where it is wanted."""
    asynchronous = isinstance(server, grpc.aio.Server)
    names = [*services, "grpc.health.v1.Health", reflection.SERVICE_NAME]
    kinds = (reflection.aio, channelz.aio) if asynchronous else (reflection, channelz)
    control: list[Registration] = [
        (add_HealthServicer_to_server, health),
        (add_ServerReflectionServicer_to_server, kinds[0].ReflectionServicer(names)),
    ]
    if with_channelz:
        control.append((add_ChannelzServicer_to_server, kinds[1].ChannelzServicer()))
    register(server, control, wrap)


def is_stream(handler: Handler) -> bool:
    """Whether the method sends or receives many messages."""
    return handler.request_streaming or handler.response_streaming


def behavior_of(handler: Handler) -> Callable[..., Any]:
    """The servicer's method behind the handler."""
    behavior: Callable[..., Any] = getattr(handler, _kind(handler))
    return behavior


def with_behavior(handler: Handler, behavior: Callable[..., Any]) -> Handler:
    """The same method, with another behavior."""
    make: Callable[..., Handler] = getattr(grpc, f"{_kind(handler)}_rpc_method_handler")
    return make(behavior, handler.request_deserializer, handler.response_serializer)


def _kind(handler: Handler) -> str:
    sides = (handler.request_streaming, handler.response_streaming)
    return "_".join("stream" if streaming else "unary" for streaming in sides)


class _Registrar:
    """Stands in for the server in a generated add_XServicer_to_server function."""

    def __init__(self, server: Server, wrap: Wrap) -> None:
        self._server = server
        self._wrap = wrap
        self.services: list[str] = []

    def add_generic_rpc_handlers(self, _handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Nothing: generated code hands the same methods over by name too, which is what we use."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Register the methods of a service, wrapped."""
        self.services.append(service)
        wrapped = {name: self._wrap(f"/{service}/{name}", handler) for name, handler in handlers.items()}
        self._server.add_registered_method_handlers(service, wrapped)
