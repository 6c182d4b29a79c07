"""The random orders of test_model.py through both services, over gRPC and into a real store, compared with the model every 200
steps. ORDERTAPE_MODEL_GRPC_STEPS makes it longer.
"""

import os
import random
from pathlib import Path

import pytest

from tests.model.random_requests import RandomRequests
from tests.model.running_exchange import RunningExchange
from tests.model.test_model import SEED
from tests.support.exchange_proof import WrittenLedger, prove_audit, prove_fold

STEPS = int(os.environ.get("ORDERTAPE_MODEL_GRPC_STEPS", "1000"))


@pytest.mark.timeout(max(120, STEPS / 10))
def test_random_orders_of_every_kind_go_through_both_services_as_the_model_says(tmp_path: Path) -> None:
    print(f"seed {SEED}: ORDERTAPE_MODEL_SEED={SEED} sends the same orders again")
    chance = random.Random(SEED)
    with RunningExchange(tmp_path) as exchange:
        requests = RandomRequests(exchange.witness.model, patience=500_000, disconnects=False)
        for request in requests.opening():
            exchange.take(request, chance)
        for step in range(1, STEPS + 1):
            request = requests.next(chance, exchange.now)
            try:
                exchange.take(request, chance)
                if not step % 200:
                    exchange.check_whole()
            except AssertionError as error:
                raise AssertionError(f"seed {SEED}, step {step}, {request.name}\n{request.message}") from error
        for request in requests.closing():
            exchange.take(request, chance)
        exchange.check_whole()
        assert not exchange.witness.model.open
        assert exchange.witness.kinds_seen() >= 15, "the flow has become too tame to show anything"
    prove_audit(exchange.engine_folder)
    prove_fold(WrittenLedger(exchange.engine_folder), exchange.history_folder)
