"""Random orders of every kind through the pure core and the history's processor, with the model beside them at each step.

A longer form: ORDERTAPE_MODEL_STEPS (all steps of the seeded runs), ORDERTAPE_MODEL_EXAMPLES (runs of 100 steps that hypothesis
makes up and makes short where they fail), ORDERTAPE_MODEL_SEED (of the first seeded run; drawn anew each time where absent).
"""

import os
import random

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.model.in_process import Trial
from tests.model.random_requests import INSTRUMENTS, RULES, RandomRequests

STEPS = int(os.environ.get("ORDERTAPE_MODEL_STEPS", "12000"))
EXAMPLES = int(os.environ.get("ORDERTAPE_MODEL_EXAMPLES", "100"))
SEED = int(os.environ.get("ORDERTAPE_MODEL_SEED", random.SystemRandom().randrange(10**9)))
RUNS = 4
# Half of the long runs are those of deep books and long walks.
NO_LIMITS = {"trades_per_order_max": 5000, "open_orders_per_user_max": 0}


class OrderMachine(RuleBasedStateMachine):
    """One step after the other; what each has to be true after it is checked by Trial."""

    def __init__(self) -> None:
        super().__init__()
        self.trial = Trial(list(INSTRUMENTS), **RULES)
        self.requests = RandomRequests(self.trial.witness.model)
        for request in self.requests.opening():
            self.trial.take(request)

    @rule(seed=st.integers(0, 2**32))
    def anything_happens(self, seed: int) -> None:
        """A request, or nothing for a while."""
        request = self.requests.next(random.Random(seed), self.trial.time)
        note(f"{request.name} {request.message}" if request.message is not None else f"{request.wait} us later")
        self.trial.take(request)

    @invariant()
    def no_order_is_lost(self) -> None:
        """Every order that was placed is open or has ended."""
        model = self.trial.witness.model
        assert len(self.trial.witness.timelines) == model.orders

    def teardown(self) -> None:
        """At the end, all that ever was."""
        self.trial.check_whole()


@pytest.mark.timeout(max(120, EXAMPLES))
def test_random_orders_of_every_kind_go_as_the_model_says() -> None:
    how = settings(
        max_examples=EXAMPLES,
        stateful_step_count=100,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(OrderMachine, settings=how)


@pytest.mark.timeout(max(120, STEPS / 100))
@pytest.mark.parametrize("run", range(RUNS))
def test_a_long_life_of_random_orders_of_every_kind_goes_as_the_model_says(run: int) -> None:
    seed = SEED + run
    print(f"seed {seed}: ORDERTAPE_MODEL_SEED={seed} repeats it as the first run")
    trial, chance = Trial(list(INSTRUMENTS), **(RULES if run % 2 else RULES | NO_LIMITS)), random.Random(seed)
    requests = RandomRequests(trial.witness.model)
    for request in requests.opening():
        trial.take(request)
    for step in range(1, STEPS // RUNS + 1):
        request = requests.next(chance, trial.time)
        try:
            trial.take(request)
            if not step % 200:
                trial.check_whole()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, step {step}, {request.name}\n{request.message}") from error
    trial.check_whole()
    assert trial.witness.kinds_seen() >= 20, "the flow has become too tame to show anything"
