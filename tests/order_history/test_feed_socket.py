"""The feed's socket where its reader does not read: libzmq's own heartbeats end the whole process then (zeromq/libzmq issues 3937
and 4767, still so in 4.3.5), so each case runs in a process of its own.
"""

import subprocess
import sys
from textwrap import dedent

import pytest

_BEGIN = """
    import time, zmq
    from services.order_history.feed_socket import FeedSocket

    context = zmq.Context()

    def engine(address):
        push = context.socket(zmq.PUSH)
        push.setsockopt(zmq.LINGER, 0)
        push.setsockopt(zmq.SNDHWM, 5)
        push.bind(address)
        return push

    def fill(push):
        refused_since = time.monotonic()
        while time.monotonic() - refused_since < 1:
            try:
                push.send(bytes(100_000), zmq.NOBLOCK)
                refused_since = time.monotonic()
            except zmq.Again:
                time.sleep(0.01)

    push = engine("tcp://127.0.0.1:*")
    address = push.getsockopt_string(zmq.LAST_ENDPOINT)
"""
_ENGINE_LEAVES = """
    with FeedSocket(address, 2) as feed:
        fill(push)
        push.close()
        time.sleep(3)
        push = engine(address)
        deadline = time.monotonic() + 20
        while (frame := feed.receive()) != b"back" and time.monotonic() < deadline:
            if frame is None:
                try:
                    push.send(b"back", zmq.NOBLOCK)
                except zmq.Again:
                    time.sleep(0.01)
        assert frame == b"back"
"""
_ENGINE_STAYS = """
    with FeedSocket(address, 2) as feed:
        fill(push)
        time.sleep(8)
        received = 0
        while received < 3:
            received += feed.receive() is not None
        fill(push)
"""


@pytest.mark.parametrize("story", [_ENGINE_LEAVES, _ENGINE_STAYS], ids=["the engine leaves", "the engine stays"])
def test_a_reader_that_does_not_read_for_a_while_outlives_it(story: str) -> None:
    program = dedent(_BEGIN) + dedent(story) + "push.close()\ncontext.term()\nprint('alive')\n"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stdout) == (0, "alive\n"), run.stderr
