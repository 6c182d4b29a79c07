"""The load generator: a gRPC client that speaks just enough HTTP/2 to cost next to nothing.

A grpcio client takes as much processor time for a call as the server that is measured, so on a small machine it, and not the
server, would be what the figures show. Here requests are bytes made before the clock starts, and answers stay bytes until it
has stopped. One connection, one method, a fixed number of calls, or of one stream's messages, in flight.
"""

import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE: Final = 4
_WINDOW_BYTES_MAX: Final = (1 << 31) - 1
_FRAME_BYTES_MAX: Final = (1 << 24) - 1
# What a server allows until it says otherwise; ours never allow less.
_SEND_WINDOW_BYTES: Final = 65_535
_SENT_FRAME_BYTES_MAX: Final = 16_384
_RECEIVE_BYTES: Final = 1 << 18
_SILENCE_SECONDS: Final = 60.0


class CallFailed(Exception):
    """A call ended without an answer, or the connection ended: what was measured is worth nothing."""


class Calls(NamedTuple):
    """One round of calls, or of a stream's messages: how long it took and each of them took, and the answers in order."""

    seconds: float
    latencies: list[float]
    answers: list[bytes]


class GrpcLoad:
    """A connection to ``address`` (HOST:PORT) for calls of ``method`` (``/package.Service/Method``)."""

    def __init__(self, address: str, method: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=_SILENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self._send_window = _SEND_WINDOW_BYTES
        self._stream_window = self._stream_window_initial = _SEND_WINDOW_BYTES
        self._partial: dict[int, bytearray] = {}
        self._consumed = 0
        self._next_stream = 1
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", address),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "ordertape-bench"),
        ]
        # HPACK: the first call's headers are literals that the server is to remember; later calls name them by their index.
        self._header_block = b"".join(_literal(name, value) for name, value in headers)
        self._indexed_block = bytes(0x80 | 62 + place for place in reversed(range(len(headers))))
        settings = ((1, 0), (2, 0), (_INITIAL_WINDOW_SIZE, _WINDOW_BYTES_MAX), (5, _FRAME_BYTES_MAX))
        payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in settings)
        window = (_WINDOW_BYTES_MAX - 65_535).to_bytes(4, "big")
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, payload) + _frame(_WINDOW_UPDATE, 0, 0, window))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def call_all(self, requests: Sequence[bytes], in_flight: int) -> Calls:
        """Make the calls, ``in_flight`` at a time. Raises CallFailed where one of them has no answer."""
        clock = time.perf_counter
        first_stream = self._next_stream
        total = len(requests)
        sent_at = [0.0] * total
        latencies = [0.0] * total
        answers = [b""] * total
        sent = done = 0
        began = clock()
        while done < total:
            out = []
            while sent < total and sent - done < in_flight and len(requests[sent]) + 5 <= self._send_window:
                out.append(self._request(requests[sent]))
                sent_at[sent] = clock()
                sent += 1
            if out:
                self._socket.sendall(b"".join(out))
            for stream, data, ended in self._receive():
                place = (stream - first_stream) // 2
                if data:
                    answers[place] += data
                if ended:
                    latencies[place] = clock() - sent_at[place]
                    done += 1
        seconds = clock() - began
        if not all(answers):
            raise CallFailed(f"{answers.count(b'')} of {total} calls failed")
        return Calls(seconds, latencies, [answer[5:] for answer in answers])

    def exchange_all(self, messages: Sequence[bytes], in_flight: int) -> Calls:
        """Send the messages on a stream of their own, ``in_flight`` at a time: what is sent and not answered. Raises CallFailed
        where the stream ends before all answers have come.
        """
        clock = time.perf_counter
        total = len(messages)
        sent_at, latencies = [0.0] * total, [0.0] * total
        answers: list[bytes] = []
        sent = 0
        stream, headers = self._headers()
        self._stream_window = self._stream_window_initial
        began = clock()
        out = [headers]
        while len(answers) < total:
            while sent < total and sent - len(answers) < in_flight and len(messages[sent]) + 5 <= self._windows():
                out.append(self._message(stream, messages[sent]))
                sent_at[sent] = clock()
                sent += 1
            if out:
                self._socket.sendall(b"".join(out))
                out = []
            for _, answer in self.read_messages(at_least=0):
                latencies[len(answers)] = clock() - sent_at[len(answers)]
                answers.append(answer)
        seconds = clock() - began
        self._socket.sendall(_frame(_DATA, _END_STREAM, stream, b""))
        while not any(ended for _, _, ended in self._receive()):
            pass
        return Calls(seconds, latencies, answers)

    def begin_streams(self, request: bytes, streams: int) -> None:
        """Begin equal server streams; they end with the connection."""
        self._socket.sendall(b"".join(self._request(request) for _ in range(streams)))

    def read_messages(self, at_least: int = 1) -> list[tuple[int, bytes]]:
        """The next whole messages of the streams: (stream, message); with ``at_least`` 0 none where something else came, such
        as leave to send more. Raises CallFailed where a stream ends.
        """
        messages: list[tuple[int, bytes]] = []
        while True:
            for stream, data, ended in self._receive():
                if ended:
                    raise CallFailed("a stream ended")
                part = self._partial.setdefault(stream, bytearray())
                part += data
                while len(part) >= 5 and len(part) >= (end := 5 + int.from_bytes(part[1:5], "big")):
                    messages.append((stream, bytes(part[5:end])))
                    del part[:end]
            if len(messages) >= at_least:
                return messages

    def _request(self, message: bytes) -> bytes:
        """The frames of one call that has one request."""
        stream, headers = self._headers()
        return headers + self._message(stream, message, _END_STREAM)

    def _headers(self) -> tuple[int, bytes]:
        """A new stream, and the frame that begins it."""
        stream = self._next_stream
        block = self._header_block if stream == 1 else self._indexed_block
        self._next_stream += 2
        return stream, _frame(_HEADERS, _END_HEADERS, stream, block)

    def _message(self, stream: int, message: bytes, last_flags: int = 0) -> bytes:
        """The frames of one message; it is counted against what the server allows to be sent."""
        data = b"\0" + len(message).to_bytes(4, "big") + message
        self._send_window -= len(data)
        self._stream_window -= len(data)
        frames = []
        for start in range(0, len(data), _SENT_FRAME_BYTES_MAX):
            part = data[start : start + _SENT_FRAME_BYTES_MAX]
            frames.append(_frame(_DATA, last_flags if start + len(part) == len(data) else 0, stream, part))
        return b"".join(frames)

    def _windows(self) -> int:
        """How much the server allows to be sent on the stream that is written to."""
        return min(self._send_window, self._stream_window)

    def _receive(self) -> list[tuple[int, bytes, bool]]:
        """What came meanwhile, at least something: (stream, data, whether the stream has ended)."""
        part = self._socket.recv(_RECEIVE_BYTES)
        if not part:
            raise CallFailed("the server closed the connection")
        received = self._received
        received += part
        events: list[tuple[int, bytes, bool]] = []
        at, end = 0, len(received)
        while end - at >= 9:
            length = received[at] << 16 | received[at + 1] << 8 | received[at + 2]
            if end - at - 9 < length:
                break
            kind, flags = received[at + 3], received[at + 4]
            stream = int.from_bytes(received[at + 5 : at + 9], "big")
            if kind == _DATA:
                self._consumed += length
                events.append((stream, bytes(received[at + 9 : at + 9 + length]), bool(flags & _END_STREAM)))
            elif kind == _HEADERS:
                if flags & _END_STREAM:
                    events.append((stream, b"", True))
            else:
                self._control(kind, flags, stream, bytes(received[at + 9 : at + 9 + length]))
            at += 9 + length
        del received[:at]
        if self._consumed > _WINDOW_BYTES_MAX // 2:
            self._socket.sendall(_frame(_WINDOW_UPDATE, 0, 0, self._consumed.to_bytes(4, "big")))
            self._consumed = 0
        return events

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _PING and not flags & _ACK:
            self._socket.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _SETTINGS and not flags & _ACK:
            for at in range(0, len(payload), 6):
                if int.from_bytes(payload[at : at + 2], "big") == _INITIAL_WINDOW_SIZE:
                    window = int.from_bytes(payload[at + 2 : at + 6], "big")
                    self._stream_window += window - self._stream_window_initial
                    self._stream_window_initial = window
            self._socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._send_window += int.from_bytes(payload, "big")
        elif kind == _WINDOW_UPDATE:
            # Of the stream that is written to: call_all's unary calls are shorter than the window that each of them begins with.
            self._stream_window += int.from_bytes(payload, "big")
        elif kind in (_GOAWAY, _RST_STREAM):
            raise CallFailed(f"the server ended stream {stream} or the connection: {payload[8:]!r}")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(name: str, value: str) -> bytes:
    return b"\x40" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
