import itertools

import pytest

from services.domain.errors import ImpossibleTransition
from services.domain.kinds import ExecType, OrderStatus
from services.domain.lifecycle import EXEC_TYPES, OPEN_STATUSES, TRANSITIONS, OrderEvent, allows, next_status

STATUSES = [None, *OrderStatus]


@pytest.mark.parametrize(("status", "event"), list(itertools.product(STATUSES, OrderEvent)))
def test_every_pair_of_status_and_event_is_either_in_the_table_or_refused(status: OrderStatus | None, event: OrderEvent) -> None:
    if (status, event) in TRANSITIONS:
        after = next_status(status, event)
        assert allows(status, EXEC_TYPES[event], after)
    else:
        with pytest.raises(ImpossibleTransition):
            next_status(status, event)


def test_nothing_happens_to_a_closed_order() -> None:
    for status, _ in TRANSITIONS:
        assert status is None or status in OPEN_STATUSES


def test_what_a_reader_may_see_is_exactly_what_the_table_makes() -> None:
    seen = {
        (before, exec_type, after)
        for before, exec_type, after in itertools.product(STATUSES, ExecType, OrderStatus)
        if allows(before, exec_type, after)
    }
    assert seen == {(before, EXEC_TYPES[event], after) for (before, event), after in TRANSITIONS.items()}
    assert not allows(None, 99, 1)
