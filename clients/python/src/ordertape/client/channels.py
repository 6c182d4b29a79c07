"""How both clients connect, and how their methods get the names and arguments of the table's."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

ENGINE_DEFAULT, HISTORY_DEFAULT = "127.0.0.1:50051", "127.0.0.1:50052"
ANSWER_BYTES_MAX = 16 * 1024 * 1024
# A service that was restarted is found again within a second, not after gRPC's default of up to two minutes. A connection that is
# gone without a word is noticed after 80 s by calls that wait on it; more frequent pings are what a server would complain of.
OPTIONS = (
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


def named_as(request: Callable[..., Any], method: F) -> F:
    """The method, which says of itself what the function says that makes its request, as help() and notebooks show it."""
    method.__name__, method.__doc__ = request.__name__, request.__doc__
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = inspect.signature(request).parameters.values()
    positional_only = [own, *parameters]
    method.__signature__ = inspect.Signature(positional_only)  # type: ignore[attr-defined]
    return method
