"""Makes a golden ledger with the engine as it is now: random orders of every kind over gRPC, in two epochs, then one of each
thing that chance does not bring about. Run once for a release; the ledger then stays what it is, whatever the engine becomes.
"""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from google.protobuf.timestamp_pb2 import Timestamp

from ordertape.v1 import ledger_pb2, order_pb2
from services.matching_engine.clock import EngineClock
from tests.golden import ledgers
from tests.model.random_requests import RandomRequests
from tests.model.running_exchange import RunningExchange
from tests.support.engine_client import EngineClient, cancel, limit, market, replace, stop
from tests.support.engine_exchange import GOLD_USD, running_engine
from tests.support.eventually import eventually
from tests.support.order_session import OrderSession

BUY, SELL = order_pb2.SIDE_BUY, order_pb2.SIDE_SELL
# Whole days, so that a session's end stays where it is: no machine that reads the ledger is behind it.
DAYS_AGO = 330
_GOLD_EUR = GOLD_USD | {"symbol": "GOLD-EUR", "quote_asset": "EUR"}
_MICROSECONDS_AGO = DAYS_AGO * 86_400 * 1_000_000


class Making(RunningExchange):
    """Its clock goes as the engine's does."""

    @property
    def now(self) -> int:
        return super().now - _MICROSECONDS_AGO


def make(name: str, folder: Path, attempts_max: int = 20) -> None:
    """Make ledgers below ``folder`` until one has everything that a ledger can have, and keep that one. Raises ValueError."""
    for attempt in range(attempts_max):
        data_dir = folder / str(attempt)
        _write(data_dir, random.Random(attempt))
        lacking = _lacking(ledgers.ledger_of(data_dir / "engine")["kinds"])
        if not lacking:
            ledgers.keep(name, data_dir / "engine")
            return
    raise ValueError(f"{attempts_max} ledgers lack something, the last of them {', '.join(lacking)}: let it do that too")


def _write(data_dir: Path, chance: random.Random) -> None:
    with long_ago():
        for steps in (900, 90):
            with Making(data_dir) as exchange:
                requests = RandomRequests(exchange.witness.model, patience=500_000, disconnects=False)
                requests._names = exchange.witness.sequence  # keys that the epoch before has not used
                for request in requests.opening() if steps > 100 else ():
                    exchange.take(request, chance)
                for _ in range(steps):
                    exchange.take(requests.next(chance, exchange.now), chance)
        _what_chance_leaves_out(data_dir / "engine")


@contextmanager
def long_ago() -> Iterator[None]:
    """Engines' clocks show a time that every machine has behind it."""
    now = EngineClock.now
    with patch.object(EngineClock, "now", lambda clock: now(clock) - _MICROSECONDS_AGO):
        yield


def _what_chance_leaves_out(data_dir: Path) -> None:
    """On an instrument of its own, so that its prices are known; ends with open orders of every kind."""
    day = int(time.time() + 3600) % 86_400
    with ExitStack() as opened:
        settings = {"session_end_seconds": day, "open_orders_per_user_max": 6}
        engine = opened.enter_context(running_engine(data_dir, instruments=[_GOLD_EUR], **settings))
        client = opened.enter_context(EngineClient(engine.address))
        client.fund("erin", "finn", EUR="900000", GOLD="1000")

        def place(user: str, *arguments: object, make: object = limit, **changes: object) -> None:
            client.place(make(user, *arguments, **{"symbol": "GOLD-EUR", **changes}))  # type: ignore[operator]

        place("erin", SELL, "9999999999", "9999999999")  # notional too large
        place("erin", SELL, "100", "0.00001")  # qty off step
        place("erin", SELL, "100.001", "1")  # price off step
        place("erin", SELL, "0.5", "1")  # outside limits
        place("erin", BUY, "1", "0.0001")  # too small
        place("erin", BUY, "100", "9999")  # not covered
        place("erin", SELL, "100", "1", symbol="NO-SUCH")
        place("erin", BUY, make=market, qty="1")  # no liquidity
        long_past = Timestamp(seconds=1_000_000_000)
        place("erin", SELL, "100", "1", time_in_force=order_pb2.TIME_IN_FORCE_GTD, expire_time=long_past)
        with OrderSession(engine.address, user_id="finn") as session:
            session.ask(limit("finn", SELL, "150", "1", symbol="GOLD-EUR"))
        eventually(lambda: _last_request(client) == "session_lost")
        for number, order in enumerate(limit("finn", SELL, "140", "2", symbol="GOLD-EUR") for _ in range(2)):
            order_id = client.place(order).updates[0].order_id
            client.replace(replace("finn", order_id, f"replace-{number}", price="139", qty="3"))
            if number:
                client.cancel(cancel("finn", order_id, "cancel"))
            else:
                client.force_cancel(order_id, "force", "erroneous price")
        place("finn", SELL, "100", "5", self_trade_prevention=order_pb2.SELF_TRADE_PREVENTION_CANCEL_TAKER)
        place("finn", BUY, "100", "1", self_trade_prevention=order_pb2.SELF_TRADE_PREVENTION_CANCEL_TAKER)
        place("erin", BUY, "100", "2", client_order_id="é".encode().hex())
        place("erin", BUY, "100", "1", post_only=True)
        place("erin", BUY, "99", "30", display_qty="3")
        place("erin", BUY, "98", "1", time_in_force=order_pb2.TIME_IN_FORCE_DAY)
        place("erin", SELL, "90", make=stop, qty="1")
        place("erin", SELL, "90", make=stop, price="89", qty="1")
        place("erin", BUY, "97", "1", time_in_force=order_pb2.TIME_IN_FORCE_GTD, expire_time=Timestamp(seconds=4_000_000_000))
        for price in ("96", "95", "94"):  # the last is one too many
            place("erin", BUY, price, "1")


def _last_request(client: EngineClient) -> str:
    return str(ledger_pb2.LedgerBatch.FromString(client.batches()[-1]).WhichOneof("request"))


def _lacking(kinds: dict[str, int]) -> list[str]:
    """What the contract has and a ledger of these kinds does not."""
    batch, command = ledger_pb2.LedgerBatch.DESCRIPTOR, ledger_pb2.LedgerCommand.DESCRIPTOR
    wanted = [f"request {field.name}" for field in batch.oneofs_by_name["request"].fields]
    wanted += [f"command {field.name}" for field in command.oneofs_by_name["command"].fields]
    for enum in ("OrderType", "TimeInForce", "OrderStatus", "ExecType", "RejectReason", "CancelReason", "ExpireReason"):
        wanted += order_pb2.DESCRIPTOR.enum_types_by_name[enum].values_by_name
    return [kind for kind in wanted if kind not in kinds and not kind.endswith("_UNSPECIFIED")]
