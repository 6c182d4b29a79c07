"""What can stand between an engine and its history: a cable that is cut, resets or goes silent, and a feed that loses, repeats
and delays its frames.
"""

import asyncio
import heapq
import random
import socket
import struct
import threading
import time
from contextlib import suppress
from itertools import count
from typing import Self

import zmq

from tests.support.exchange_process import free_ports

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: the peer gets a reset


class Cable:
    """A TCP connection's middle: ``address`` leads to ``target`` (HOST:PORT). While it is cut nothing passes and no one is told;
    new connections are taken by the kernel and stay silent too.
    """

    def __init__(self, target: str) -> None:
        self._target_host, _, port = target.rpartition(":")
        self._target_port = int(port)
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._whole, self._answers = asyncio.Event(), asyncio.Event()
        self._whole.set()
        self._answers.set()
        self._thread = threading.Thread(target=self._run, name=f"cable to {target}", daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *unused: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    def cut(self) -> None:
        """Let nothing pass any more."""
        self._do(self._whole.clear)

    def mute(self) -> None:
        """Let nothing come back any more; what is sent arrives."""
        self._do(self._answers.clear)

    def mend(self) -> None:
        """Let all pass again, what was sent meanwhile first."""
        self._do(lambda: (self._whole.set(), self._answers.set()))

    def reset(self) -> None:
        """End every connection with a TCP reset."""
        self._do(self._reset)

    def _do(self, action: object) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (action(), done.set()))  # type: ignore[operator]
        assert done.wait(10)

    def _reset(self) -> None:
        for writer in self._writers:
            end: socket.socket = writer.get_extra_info("socket")
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        host, _, port = self.address.rpartition(":")
        server = await asyncio.start_server(self._connect, host, int(port))
        self._ready.set()
        await self._ended.wait()
        server.close()
        self._reset()
        self._whole.set()
        self._answers.set()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(self._target_host, self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(
                self._pass(reader, far_writer, self._whole), self._pass(far_reader, writer, self._whole, self._answers)
            )
        finally:
            for end in (writer, far_writer):
                self._writers.discard(end)
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *open_ways: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                for way in open_ways:
                    await way.wait()
                writer.write(data)
                await writer.drain()
        # One side is gone: so is the other, at once.
        writer.transport.abort()


class LossyFeed:
    """A forwarder between the engine's feed and a history: it drops, repeats and delays frames by the given shares, and sends an
    old one again now and then. ``dropped``, ``repeated`` and ``delayed`` count what it did. Heartbeats share the fate of frames.
    """

    def __init__(
        self, feed: str, chance: random.Random, *, drop: float = 0.1, repeat: float = 0.1, delay: float = 0.1, old: float = 0.05
    ) -> None:
        self.address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
        self.dropped = self.repeated = self.delayed = 0
        self.drop, self.repeat, self.delay, self.old = drop, repeat, delay, old
        self._feed = feed
        self._chance = chance
        self._numbers = count()
        self._waiting: list[tuple[float, int, bytes]] = []
        self._past: list[bytes] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lossy feed", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
            for end in (pull, push):
                end.setsockopt(zmq.LINGER, 0)
            pull.setsockopt(zmq.RECONNECT_IVL, 50)
            push.bind(self.address)
            pull.connect(self._feed)
            while not self._ended.is_set():
                if pull.poll(5):
                    self._take(pull.recv())
                now = time.monotonic()
                while self._waiting and self._waiting[0][0] <= now:
                    _, _, frame = heapq.heappop(self._waiting)
                    with suppress(zmq.Again):
                        push.send(frame, zmq.NOBLOCK)

    def _take(self, frame: bytes) -> None:
        now, chance = time.monotonic(), self._chance
        if chance.random() < self.drop:
            self.dropped += 1
            return
        seconds = 0.0
        if chance.random() < self.delay:
            self.delayed += 1
            seconds = chance.random() * 0.5
        heapq.heappush(self._waiting, (now + seconds, next(self._numbers), frame))
        if chance.random() < self.repeat:
            self.repeated += 1
            heapq.heappush(self._waiting, (now + seconds + chance.random() * 0.2, next(self._numbers), frame))
        self._past = [*self._past[-20:], frame]
        if chance.random() < self.old:
            heapq.heappush(self._waiting, (now, next(self._numbers), chance.choice(self._past)))


class Thief:
    """A second receiver on a feed that was meant for one: ZMQ shares the frames out between the two."""

    def __init__(self, feed: str) -> None:
        self.stolen = 0
        self._feed = feed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="thief", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.PULL) as pull:
            pull.setsockopt(zmq.LINGER, 0)
            pull.connect(self._feed)
            while not self._ended.is_set():
                if pull.poll(20):
                    pull.recv()
                    self.stolen += 1


def visit(address: str, words: bytes) -> None:
    """Connect to a port like a scan or a health check, say something and leave."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with suppress(ConnectionError), socket.create_connection((host, int(port)), timeout=5) as stranger:
        stranger.sendall(words)
        time.sleep(0.05)


def talk_to_a_feed(feed: str) -> None:
    """Connect to a feed as ZMQ's protocol has it, then send to it where one only listens, more than it takes, and leave."""
    host, _, port = feed.removeprefix("tcp://").rpartition(":")
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 1 + 31)
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x04PULL"
    with socket.create_connection((host, int(port)), timeout=5) as stranger:
        stranger.sendall(greeting)
        stranger.recv(4096)
        stranger.sendall(b"\x04" + bytes([len(ready)]) + ready)
        time.sleep(0.2)
        with suppress(OSError):
            stranger.sendall(b"\x00\x01x" * 50_000)
        time.sleep(0.5)
