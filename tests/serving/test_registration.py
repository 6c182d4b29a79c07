"""What may be registered on the asyncio server."""

import pytest

from ordertape.v1.ledger_pb2_grpc import add_LedgerFeedServicer_to_server
from services.serving.aio_server import start_aio_server
from services.serving.health import HealthBoard
from services.serving.settings import ServerSettings
from tests.serving.running_servers import Script, ThreadedFeed


async def test_a_handler_that_would_block_the_event_loop_is_refused() -> None:
    feed = (add_LedgerFeedServicer_to_server, ThreadedFeed(Script()))
    with pytest.raises(TypeError, match=r"/ordertape\.v1\.LedgerFeed/\w+ must be a coroutine function or an async gen"):
        await start_aio_server([feed], ServerSettings(), HealthBoard())
