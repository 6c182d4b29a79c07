"""A whole service in a process of its own, for tests of how it ends: ``KIND`` is threaded or aio, ``FATE`` names its end.

Prints its address once it can be stopped, then ``draining`` and each stop step, on stdout; logs go to stderr.
"""

import asyncio
import sys
import threading
import time

from ordertape.v1.ledger_pb2 import GetLedgerStatusRequest, GetLedgerStatusResponse
from ordertape.v1.ledger_pb2_grpc import add_LedgerFeedServicer_to_server
from services.serving.aio_server import start_aio_server
from services.serving.health import OVERALL, HealthBoard
from services.serving.logs import configure_logging
from services.serving.process import exit_when_a_thread_dies, fatal, run_until_signal, run_until_signal_aio
from services.serving.server import start_server
from services.serving.settings import ServerSettings
from tests.serving.running_servers import AsyncFeed, Script, ThreadedFeed

SLOW_CALL_SECONDS = 0.5


def say(text: str) -> None:
    print(text, flush=True)


def slow_status(request: GetLedgerStatusRequest) -> GetLedgerStatusResponse:
    say("called")
    time.sleep(SLOW_CALL_SECONDS if request.at_sequence else 60)
    return GetLedgerStatusResponse(durable_sequence=7)


def failing_step() -> None:
    say("fail")
    raise RuntimeError("this step failed")


def hanging_step() -> None:
    say("hang")
    time.sleep(60)


def start_fate(fate: str, health: HealthBoard) -> None:
    exit_when_a_thread_dies(health)
    if fate == "fatal":
        threading.Timer(0.05, fatal, ["the ledger's sync failed"], {"health": health, "exit_code": 74}).start()
    if fate == "thread":
        threading.Thread(target=lambda: 1 / 0, name="sequencer").start()


def main(kind: str, fate: str) -> None:
    configure_logging()
    health, script = HealthBoard(), Script()
    script.status = slow_status
    settings = ServerSettings(grace_seconds=30)
    steps = {"fail": [failing_step, lambda: say("last")], "hang": [hanging_step]}.get(
        fate, [lambda: say("first"), lambda: say("last")]
    )

    def on_drain() -> None:
        say("draining")

    def is_ready(address: str) -> None:
        say(address)
        start_fate(fate, health)

    async def serve_aio() -> None:
        feed = (add_LedgerFeedServicer_to_server, AsyncFeed(script))
        server = await start_aio_server([feed], settings, health, [on_drain])
        health.set_serving(OVERALL, True)

        async def last() -> None:
            say("last")

        all_steps = [*steps[:-1], last] if len(steps) == 2 else steps
        await run_until_signal_aio(server, all_steps, ready=lambda: is_ready(server.address))

    if kind == "aio":
        asyncio.run(serve_aio())
    else:
        server = start_server([(add_LedgerFeedServicer_to_server, ThreadedFeed(script))], settings, health, [on_drain])
        health.set_serving(OVERALL, True)
        run_until_signal(server, steps, ready=lambda: is_ready(server.address))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
