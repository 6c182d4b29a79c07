"""Several history processes share the users between them, and each answers every call: one about a user that another process has
is forwarded to that one. What the owner answers goes back as the bytes that came, an error as it is.

It is put between the service and its server, around every method whose request names a user, whatever the method is.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf import message_factory
from google.protobuf.message import Message

from ordertape.v1 import error_reason_pb2 as reasons
from ordertape.v1 import order_history_pb2 as pb
from services.order_history.engine_client import CHANNEL_OPTIONS
from services.order_history.outgoing import OutgoingStream, with_position
from services.order_history.requests import QUESTIONS
from services.order_history.user_share import SHARDS, UserShare, shard_of
from services.serving.registration import Handler, behavior_of
from services.wire.errors import CallError

FORWARDED_BY: Final = "ordertape-forwarded-by"
"""Metadata of a forwarded call: which process it comes from. It is not forwarded again."""

# The owner's deadline is earlier than the caller's, so that the caller still hears what the owner says at the last moment; by a
# share of it too, since gRPC rounds a deadline up by as much on its way.
_DEADLINE_MARGIN_SECONDS: Final = 0.05
_DEADLINE_MARGIN_SHARE: Final = 0.01
_REFUSAL_MARGIN_SECONDS: Final = 0.2
_PAUSE_SECONDS: Final = 0.05
_FORWARDED_BY_LENGTH_MAX: Final = 200
_DETAILS: Final = "grpc-status-details-bin"

Add: TypeAlias = Callable[[Any, Any], None]
"""A generated add_XServicer_to_server function."""
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Metadata: TypeAlias = "list[tuple[str, str | bytes]]"
_Ask: TypeAlias = Callable[["_Peer", Any, Context], Awaitable[Any]]
Outcome = TypeVar("Outcome")


@dataclass(slots=True)
class _Answer:
    """A message of a stream, as it came."""

    position: str
    data: bytes


class Forwarding:
    """Forwards to ``peers`` (share -> HOST:PORT) what ``share`` does not have. ``address`` is what this process calls itself.
    Made in the event loop that it is used in.

    ``stall_seconds``: how long a message of a stream may wait for its reader. ``patience_seconds``: how long an owner that
    cannot be reached is tried, at most; a call's deadline may come first.
    """

    def __init__(
        self,
        share: UserShare,
        peers: Mapping[str, str],
        address: str,
        *,
        stall_seconds: float,
        patience_seconds: float = 2.0,
    ) -> None:
        self._share = share
        self._peers = [_Peer(UserShare.parse(users), peer) for users, peer in peers.items()]
        self._owners = [_owner(self._peers, shard) for shard in range(SHARDS)]
        self._name = f"{address} with the users {share}"
        self._stall_seconds = stall_seconds
        self._patience_seconds = patience_seconds
        self._streams: set[OutgoingStream[_Answer]] = set()

    @property
    def running(self) -> int:
        """How many streams are being forwarded."""
        return len(self._streams)

    def around(self, add: Add) -> Add:
        """``add`` (a generated add_OrderHistoryServicer_to_server), with what forwards put between servicer and server."""
        return add if not self._peers else lambda servicer, server: add(servicer, _Interposed(server, self._forwarding))

    def end_all(self, error: CallError) -> None:
        """End every stream that is being forwarded with ``error`` and its position."""
        for stream in self._streams:
            stream.end(error)

    async def close(self) -> None:
        """Close the connections."""
        for peer in self._peers:
            await peer.channel.close()

    def _forwarding(self, path: str, request_type: type[Message], handler: Handler) -> Handler:
        local, serialize = behavior_of(handler), handler.response_serializer
        assert serialize is not None
        assert inspect.iscoroutinefunction(local), f"{path} is no coroutine function"
        assert not handler.request_streaming, f"{path} has many requests, of many users perhaps: that cannot be forwarded"
        check = QUESTIONS[request_type]
        if handler.response_streaming:
            ask: _Ask = partial(self._ask_stream, path, _position_reader(_method(path).output_type))
        else:
            ask = partial(self._ask_one, path)

        async def answer(request: Any, context: Context) -> Any:
            owner = self._owners[shard_of(request.user_id)]
            if owner is None:
                return await local(request, context)
            check(request)
            self._ensure_first_hop(request.user_id, context)
            try:
                return await ask(owner, request, context)
            except grpc.aio.AioRpcError as error:
                trailing = tuple(error.trailing_metadata() or ())
                return await context.abort(error.code(), error.details() or "", trailing)

        def serialized(response: Any) -> bytes:
            return response if isinstance(response, bytes) else serialize(response)

        make = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
        return make(answer, handler.request_deserializer, serialized)

    def _ensure_first_hop(self, user_id: str, context: Context) -> None:
        """Raise CallError FAILED_PRECONDITION (USER_NOT_OWNED) where another process takes the user for ours."""
        forwarded_by = dict(context.invocation_metadata() or ()).get(FORWARDED_BY)
        if forwarded_by is None:
            return
        shard = shard_of(user_id)
        owner = self._owners[shard]
        message = (
            f"{user_id} is in shard {shard}: the history at {str(forwarded_by)[:_FORWARDED_BY_LENGTH_MAX]} forwarded the call to "
            f"the one at {self._name}, whose setting `peers` gives that shard to {owner and owner.address}: "
            "the settings `users` and `peers` of all histories have to say the same"
        )
        raise CallError(grpc.StatusCode.FAILED_PRECONDITION, reasons.ERROR_REASON_USER_NOT_OWNED, message)

    async def _ask_one(self, path: str, owner: "_Peer", request: Message, context: Context) -> bytes:
        async def ask() -> bytes:
            call: grpc.aio.UnaryUnaryCall[Any, bytes] = owner.channel.unary_unary(path, request_serializer=_serialized)(
                request, timeout=_timeout(context), metadata=self._metadata(context)
            )
            try:
                answer: bytes = await call
                _pass_trailing(context, await call.trailing_metadata())
            finally:
                call.cancel()
            return answer

        return await self._asked(owner, context, ask)

    async def _ask_stream(
        self, path: str, position_of: Callable[[bytes], str], owner: "_Peer", request: Message, context: Context
    ) -> None:
        stream = OutgoingStream[_Answer](
            lambda answer: context.write(answer.data), getattr(request, "after", ""), self._stall_seconds, "call again"
        )
        self._streams.add(stream)

        async def ask() -> None:
            call: grpc.aio.UnaryStreamCall[Any, bytes] = owner.channel.unary_stream(path, request_serializer=_serialized)(
                request, timeout=_timeout(context), metadata=self._metadata(context)
            )
            begun = False
            try:
                async with aclosing(aiter(call)) as answers:  # type: ignore[type-var]
                    stream.raise_end()
                    while (data := await stream.unless_ended(anext(answers, None))) is not None:
                        begun = True
                        await stream.send(_Answer(position_of(data), data))
                _pass_trailing(context, await call.trailing_metadata())
            except grpc.aio.AioRpcError as error:
                if begun and _has_left(error):
                    raise with_position(owner.down(error), stream.position) from error
                raise
            finally:
                call.cancel()

        try:
            await self._asked(owner, context, ask)
        finally:
            self._streams.discard(stream)

    async def _asked(self, owner: "_Peer", context: Context, ask: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Ask, again for a while where the owner cannot be reached: all our calls are reads, so that changes nothing.

        Raises CallError UNAVAILABLE (DEPENDENCY_DOWN) where it stays away; AioRpcError with what it says itself.
        """
        loop = asyncio.get_running_loop()
        remaining = context.time_remaining()
        patience = self._patience_seconds
        if remaining is not None:
            patience = min(patience, max(remaining - _REFUSAL_MARGIN_SECONDS, remaining / 2))
        give_up_at = loop.time() + patience
        while True:
            await owner.connected(give_up_at)
            try:
                return await ask()
            except grpc.aio.AioRpcError as error:
                if not _has_left(error):
                    raise
                if loop.time() + _PAUSE_SECONDS >= give_up_at:
                    raise owner.down(error) from error
            await asyncio.sleep(_PAUSE_SECONDS)

    def _metadata(self, context: Context) -> _Metadata:
        callers = [(key, value) for key, value in context.invocation_metadata() or () if not _is_transports(key)]
        return [*callers, (FORWARDED_BY, self._name)]


class _Peer:
    """The history that has ``share``."""

    def __init__(self, share: UserShare, address: str) -> None:
        self.share = share
        self.address = address
        self.channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)

    async def connected(self, until: float) -> None:
        """Wait for the connection, at most to ``until`` (the loop's time). Raises CallError UNAVAILABLE (DEPENDENCY_DOWN)."""
        try:
            async with asyncio.timeout_at(until):
                await self.channel.channel_ready()
        except TimeoutError:
            raise self.down("no connection") from None

    def down(self, why: object) -> CallError:
        """What callers hear while it cannot be reached."""
        if isinstance(why, grpc.aio.AioRpcError):
            why = f"{why.code().name} {why.details()}"
        message = f"the history at {self.address}, which has the users {self.share}, cannot be reached: {why}"
        return CallError(grpc.StatusCode.UNAVAILABLE, reasons.ERROR_REASON_DEPENDENCY_DOWN, message)


class _Interposed:
    """Stands in for the server in a generated add_XServicer_to_server function."""

    def __init__(self, server: Any, wrap: Callable[[str, type[Message], Handler], Handler]) -> None:
        self._server = server
        self._wrap = wrap

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Nothing: generated code hands the same methods over by name too, which is what our servers use."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Register the service's methods, those about a user wrapped."""
        passed = {}
        for name, handler in handlers.items():
            request = _method(f"/{service}/{name}").input_type
            about_user = "user_id" in request.fields_by_name
            request_type = message_factory.GetMessageClass(request)
            passed[name] = self._wrap(f"/{service}/{name}", request_type, handler) if about_user else handler
        self._server.add_registered_method_handlers(service, passed)


def _method(path: str) -> Any:
    """The descriptor of "/package.Service/Method"."""
    _, service, name = path.split("/")
    return pb.DESCRIPTOR.services_by_name[service.rpartition(".")[2]].methods_by_name[name]


def _position_reader(response: Any) -> Callable[[bytes], str]:
    """What tells a message's position: its reader has to know where to go on if it is cut off here."""
    if "position" not in response.fields_by_name:
        return lambda _data: ""
    parse: Callable[[bytes], Any] = message_factory.GetMessageClass(response).FromString
    return lambda data: str(parse(data).position)


def _owner(peers: "list[_Peer]", shard: int) -> "_Peer | None":
    return next((peer for peer in peers if peer.share.first <= shard <= peer.share.last), None)


def _serialized(request: Message) -> bytes:
    return request.SerializeToString()


def _timeout(context: Context) -> float | None:
    remaining = context.time_remaining()
    if remaining is None:
        return None
    return max(remaining * (1 - _DEADLINE_MARGIN_SHARE) - _DEADLINE_MARGIN_SECONDS, remaining / 2)


def _pass_trailing(context: Context, trailing: Any) -> None:
    if trailing:
        context.set_trailing_metadata(tuple(trailing))


def _is_transports(key: str) -> bool:
    """Whether the metadata is about the caller's connection, so that ours has its own."""
    return key.startswith(("grpc-", ":")) or key in {"user-agent", "content-type", "te", "host"}


def _has_left(error: grpc.aio.AioRpcError) -> bool:
    """Whether the connection failed, or was ended by a process that stops. What the owner says itself has details."""
    spoken = any(key == _DETAILS for key, _ in error.trailing_metadata() or ())
    return not spoken and error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
